rule report:
    input:
        rules.reconstruct_gather.output,
        rules.pca.output.spectrum,
        rules.pca.output.pictures,
        expand(rules.train.output.curve, model=TRAINED),
        expand(rules.train.output.pictures, model=TRAINED),
        images=IMAGES,
        sources=sources("report"),
        template=packaged("templates/report.html"),
    output:
        "results/report/index.html",
    log:
        "logs/report.log",
    benchmark:
        "logs/report.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        values=parameters(VALUES, "training", "models", "pca", "reconstruct"),
    shell:
        "latent-atlas report --results results --images {input.images} --page {output} --log {log}"
