rule train:
    input:
        images=IMAGES,
        sources=lambda w: sources(
            "train",
            *architecture_of(w.manifold),
            objective(training_of(STUDY, MANIFOLDS[w.manifold].model).objective),
        ),
    # Those of an earlier training stay until a new one is whole.
    output:
        checkpoint=update("results/checkpoints/{manifold}.safetensors"),
        curve=update("results/train/{manifold}/curve.csv"),
        snapshots=update("results/train/{manifold}/snapshots.safetensors"),
        package=update("results/train/{manifold}/datapackage.json"),
    log:
        "logs/train/{manifold}.log",
    wildcard_constraints:
        manifold=one_of(TRAINED),
    # The longest jobs first, or the last of them would run alone.
    priority: 10
    conda:
        ENVIRONMENT
    threads: STUDY.training.threads
    resources:
        **requests("train"),
        # A cluster's profile says how it is requested.
        gpu=1,
    params:
        values=lambda w: parameters_text(VALUES, "training", *entry(w.manifold)),
        seed=lambda w: MANIFOLDS[w.manifold].seed,
    shell:
        "latent-atlas train --name {wildcards.manifold} --seed {params.seed} --images {input.images} "
        "--checkpoint {output.checkpoint} --curve {output.curve} --snapshots {output.snapshots} --log {log}"


rule import_:
    input:
        images=IMAGES,
        # Their names are a user's: they are quoted below.
        state_dict=lambda w: expanduser(STUDY.models[w.manifold].state_dict),
        codes=lambda w: expanduser(STUDY.models[w.manifold].codes or "") or [],
        sources=lambda w: sources("import_", *architecture_of(w.manifold)),
    output:
        checkpoint="results/checkpoints/{manifold}.safetensors",
    log:
        "logs/import_/{manifold}.log",
    wildcard_constraints:
        manifold=one_of(IMPORTED),
    conda:
        ENVIRONMENT
    resources:
        **requests("import_"),
    params:
        values=lambda w: parameters_text(VALUES, *entry(w.manifold)),
        codes=lambda w, input: ["--codes", input.codes] if input.codes else [],
    shell:
        "latent-atlas import --name {wildcards.manifold} --images {input.images} "
        "--state-dict {input.state_dict:q} {params.codes:q} --checkpoint {output.checkpoint} --log {log}"


if TRAINED:

    rule train_summary:
        input:
            curves=every(rules.train.output.curve, manifold=TRAINED),
            packages=every(rules.train.output.package, manifold=TRAINED),
            sources=sources("train_summary"),
        output:
            curves="results/train/curves.csv",
            package="results/train/datapackage.json",
            summary=in_report("results/train/summary.csv"),
            joint=figures("results/train/curves"),
            pictures=figures("results/train/{manifold}/curve", manifold=TRAINED),
        log:
            "logs/train_summary.log",
        group:
            submitted_as("compare")
        conda:
            ENVIRONMENT
        resources:
            **requests("train_summary"),
        params:
            values=parameters(VALUES, "models", *SEEDS),
        shell:
            "latent-atlas train-summary --folder results/train --log {log}"
