# Nodes of a cluster seldom reach the internet; the machine that submits to them does.
rule fetch:
    input:
        sources=sources("fetch", *dataset(STUDY.dataset)),
        images=DATASET_FILES,
    output:
        images=IMAGES,
    log:
        "logs/fetch.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **requests("fetch"),
    params:
        values=parameters(VALUES, "dataset"),
    shell:
        "latent-atlas fetch --images {output.images} --log {log}"
