rule tangents:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("tangents", *architecture_of(w.manifold)),
    output:
        columns=in_report(
            "results/tangents/{manifold}/columns.png", manifold="{manifold}"
        ),
        singular_vectors=in_report(
            "results/tangents/{manifold}/singular_vectors.png", manifold="{manifold}"
        ),
        tangents="results/tangents/{manifold}/tangents.safetensors",
    log:
        "logs/tangents/{manifold}.log",
    wildcard_constraints:
        manifold=one_of(FIRSTS),
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("tangents"),
    params:
        values=parameters(VALUES, "tangents", "examples"),
    shell:
        "latent-atlas tangents --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/tangents/{wildcards.manifold} --log {log}"


rule tangents_shared:
    input:
        manifolds=every(CHECKPOINT, manifold=MANIFOLDS),
        snapshots=every(
            "results/train/{manifold}/snapshots.safetensors", manifold=TRAINED
        ),
        images=IMAGES,
        sources=sources(
            "tangents_shared",
            *dict.fromkeys(
                file for name in MANIFOLDS for file in architecture_of(name)
            ),
        ),
    output:
        shared="results/tangents_shared/shared.parquet",
        epochs="results/tangents_shared/epochs.parquet",
        package="results/tangents_shared/datapackage.json",
    log:
        "logs/tangents_shared.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("tangents_shared"),
    params:
        values=parameters(VALUES, "sample", "examples", "models", "pca", *SEEDS),
    shell:
        "latent-atlas tangents-shared --checkpoints results/checkpoints --trainings results/train --images {input.images} "
        "--folder results/tangents_shared --log {log}"


rule tangents_summary:
    input:
        rules.tangents_shared.output,
        sources=sources("tangents_summary"),
    output:
        shared=in_report("results/tangents/shared.csv"),
        by_class="results/tangents/by_class.csv",
        epochs="results/tangents/epochs.csv",
        package="results/tangents/datapackage.json",
        pictures=figures("results/tangents/shared", "heat_map"),
        epoch_study=figures("results/tangents/epochs") if TRAINED else [],
    log:
        "logs/tangents_summary.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("tangents_summary"),
    params:
        values=parameters(VALUES, "pca"),
    shell:
        "latent-atlas tangents-summary --measured results/tangents_shared --folder results/tangents --log {log}"
