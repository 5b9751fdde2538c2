rule pca:
    input:
        images=IMAGES,
        sources=sources("pca"),
    output:
        components="results/pca/components.safetensors",
        summary=in_report("results/pca/summary.csv"),
        baselines=in_report("results/pca/baselines.csv"),
        pictures=figures("results/pca/spectrum"),
        checkpoints=expand(CHECKPOINT, manifold=PCA),
    log:
        "logs/pca.log",
    conda:
        ENVIRONMENT
    resources:
        **requests("pca"),
    params:
        values=parameters(VALUES, "pca"),
    shell:
        "latent-atlas pca --images {input.images} --components {output.components} --summary {output.summary} "
        "--baselines {output.baselines} --picture {output.pictures[0]} --checkpoints results/checkpoints --log {log}"
