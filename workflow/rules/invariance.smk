rule invariance:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("invariance", *architecture_of(w.manifold), *MOTIONS),
    output:
        probe_angles="results/invariance/{manifold}/probe_angles.csv",
        step_angles="results/invariance/{manifold}/step_angles.csv",
        pictures="results/invariance/{manifold}/pictures.safetensors",
    log:
        "logs/invariance/{manifold}.log",
    benchmark:
        "logs/invariance/{manifold}.benchmark.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory("invariance"),
        runtime=runtime("invariance"),
    params:
        values=parameters(VALUES, "invariance", "probes"),
    shell:
        "latent-atlas invariance --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/invariance/{wildcards.manifold} --log {log}"


rule invariance_epochs:
    input:
        checkpoint=rules.train.output.checkpoint,
        snapshots=rules.train.output.snapshots,
        curve=rules.train.output.curve,
        images=IMAGES,
        sources=lambda w: sources(
            "invariance_epochs", *architecture_of(w.model), *MOTIONS
        ),
    output:
        epoch_angles="results/invariance/{model}/epoch_angles.csv",
    log:
        "logs/invariance_epochs/{model}.log",
    benchmark:
        "logs/invariance_epochs/{model}.benchmark.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory("invariance_epochs"),
        runtime=runtime("invariance_epochs"),
    params:
        values=parameters(VALUES, "invariance", "probes"),
    shell:
        "latent-atlas invariance-epochs --model {wildcards.model} --checkpoint {input.checkpoint} --snapshots {input.snapshots} "
        "--curve {input.curve} --images {input.images} --folder results/invariance/{wildcards.model} --log {log}"


rule invariance_summary:
    input:
        probe_angles=every(
            rules.invariance.output.probe_angles, manifold=STUDY.manifolds
        ),
        step_angles=every(rules.invariance.output.step_angles, manifold=STUDY.manifolds),
        pictures=every(rules.invariance.output.pictures, manifold=STUDY.manifolds),
        epoch_angles=every(rules.invariance_epochs.output.epoch_angles, model=TRAINED),
        sources=sources("invariance_summary"),
    output:
        probe_angles="results/invariance/probe_angles.csv",
        step_angles="results/invariance/step_angles.csv",
        epoch_angles="results/invariance/epoch_angles.csv",
        maps=expand(
            "results/invariance/angles_{probe}{ending}",
            probe=STUDY.probes,
            ending=[".svg", ".png"],
        ),
        studies=expand(
            "results/invariance/{study}_angles{ending}",
            study=["step", "epoch"] if TRAINED else ["step"],
            ending=[".svg", ".png"],
        ),
        motions=expand(
            "results/invariance/motion_{probe}_{motion}.png",
            probe=STUDY.invariance.pictures,
            motion=STUDY.invariance.transformations,
        ),
    log:
        "logs/invariance_summary.log",
    benchmark:
        "logs/invariance_summary.benchmark.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory("invariance_summary"),
        runtime=runtime("invariance_summary"),
    params:
        values=parameters(VALUES, "invariance", "probes", "models", "pca"),
    shell:
        "latent-atlas invariance-summary --folder results/invariance --log {log}"
