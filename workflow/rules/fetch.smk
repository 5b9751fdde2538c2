rule fetch:
    input:
        sources=sources("fetch"),
    output:
        images=IMAGES,
    log:
        "logs/fetch.log",
    benchmark:
        "logs/fetch.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        values=parameters(VALUES, "dataset"),
    shell:
        "latent-atlas fetch --images {output.images} --log {log}"
