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
    resources:
        mem_mb=memory("fetch"),
        runtime=runtime("fetch"),
    params:
        values=parameters(VALUES, "dataset"),
    shell:
        "latent-atlas fetch --images {output.images} --log {log}"
