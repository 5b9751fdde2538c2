rule pca:
    input:
        images=IMAGES,
        sources=sources("pca"),
    output:
        components="results/pca/components.safetensors",
        summary=in_report("results/pca/summary.csv"),
        baselines=in_report("results/pca/baselines.csv"),
        package="results/pca/datapackage.json",
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
        "latent-atlas pca --images {input.images} --folder results/pca --checkpoints results/checkpoints --log {log}"
