rule train:
    input:
        images=IMAGES,
        sources=lambda w: sources(
            "train",
            *architecture_of(w.model),
            objective(training_of(STUDY, w.model).objective),
        ),
    output:
        checkpoint="results/checkpoints/{model}.safetensors",
        curve="results/train/{model}/curve.csv",
        snapshots="results/train/{model}/snapshots.safetensors",
    log:
        "logs/train/{model}.log",
    wildcard_constraints:
        model=one_of(TRAINED),
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
        values=lambda w: parameters(VALUES, "training", f"models.{w.model}"),
    shell:
        "latent-atlas train --model {wildcards.model} --images {input.images} "
        "--checkpoint {output.checkpoint} --curve {output.curve} --snapshots {output.snapshots} --log {log}"


rule import_:
    input:
        images=IMAGES,
        # Their names are a user's: they are quoted below.
        state_dict=lambda w: expanduser(STUDY.models[w.model].state_dict),
        codes=lambda w: expanduser(STUDY.models[w.model].codes or "") or [],
        sources=lambda w: sources("import_", *architecture_of(w.model)),
    output:
        checkpoint="results/checkpoints/{model}.safetensors",
    log:
        "logs/import_/{model}.log",
    wildcard_constraints:
        model=one_of(IMPORTED),
    conda:
        ENVIRONMENT
    resources:
        **requests("import_"),
    params:
        values=lambda w: parameters(VALUES, f"models.{w.model}"),
        codes=lambda w, input: ["--codes", input.codes] if input.codes else [],
    shell:
        "latent-atlas import --model {wildcards.model} --images {input.images} "
        "--state-dict {input.state_dict:q} {params.codes:q} --checkpoint {output.checkpoint} --log {log}"


if TRAINED:

    rule train_summary:
        input:
            curves=every(rules.train.output.curve, model=TRAINED),
            sources=sources("train_summary"),
        output:
            curves="results/train/curves.csv",
            summary="results/train/summary.csv",
            joint=multiext("results/train/curves", ".svg", ".png"),
            pictures=expand(
                "results/train/{model}/curve{ending}",
                model=TRAINED,
                ending=[".svg", ".png"],
            ),
        log:
            "logs/train_summary.log",
        group:
            submitted_as("compare")
        conda:
            ENVIRONMENT
        resources:
            **requests("train_summary"),
        params:
            values=parameters(VALUES, "models"),
        shell:
            "latent-atlas train-summary --folder results/train --log {log}"
