rule report:
    input:
        rules.reconstruct_gather.output,
        rules.train_gather.output if TRAINED else [],
        rules.pca.output.spectrum,
        rules.pca.output.pictures,
        rules.interpolate_gather.output,
        rules.layers_gather.output,
        rules.jacobian_gather.output,
        every(rules.tangents.output, manifold=STUDY.manifolds),
        rules.invariance_gather.output,
        images=IMAGES,
        sources=sources("report"),
        template=here(packaged("templates/report.html")),
    output:
        page="results/report/index.html",
    log:
        "logs/report.log",
    benchmark:
        "logs/report.benchmark.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory("report"),
        runtime=runtime("report"),
    params:
        values=parameters(VALUES, *VALUES),
    shell:
        "latent-atlas report --results results --images {input.images} --page {output.page} --log {log}"
