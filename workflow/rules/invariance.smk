rule invariance:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("invariance", *architecture_of(w.manifold), *MOTIONS),
    output:
        angles="results/invariance/{manifold}/angles.parquet",
        steps="results/invariance/{manifold}/steps.csv",
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
        values=parameters(VALUES, "invariance", "sample", "examples"),
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
        epochs="results/invariance/{model}/epochs.csv",
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
        values=parameters(VALUES, "invariance", "examples"),
    shell:
        "latent-atlas invariance-epochs --model {wildcards.model} --checkpoint {input.checkpoint} --snapshots {input.snapshots} "
        "--curve {input.curve} --images {input.images} --folder results/invariance/{wildcards.model} --log {log}"


rule invariance_summary:
    input:
        angles=every(rules.invariance.output.angles, manifold=STUDY.manifolds),
        steps=every(rules.invariance.output.steps, manifold=STUDY.manifolds),
        pictures=every(rules.invariance.output.pictures, manifold=STUDY.manifolds),
        epochs=every(rules.invariance_epochs.output.epochs, model=TRAINED),
        sources=sources("invariance_summary"),
    output:
        summary="results/invariance/summary.csv",
        examples="results/invariance/examples.csv",
        steps="results/invariance/steps.csv",
        epochs="results/invariance/epochs.csv",
        maps=expand(
            "results/invariance/angles_{example}{ending}",
            example=STUDY.examples,
            ending=[".svg", ".png"],
        ),
        studies=expand(
            "results/invariance/{study}{ending}",
            study=["steps", "epochs"] if TRAINED else ["steps"],
            ending=[".svg", ".png"],
        ),
        displacements=expand(
            "results/invariance/displacements/{example}/{kind}.png",
            example=STUDY.invariance.pictures,
            kind=STUDY.invariance.transformations,
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
        values=parameters(VALUES, "invariance", "examples", "models", "pca"),
    shell:
        "latent-atlas invariance-summary --folder results/invariance --log {log}"
