rule report:
    input:
        rules.reconstruct_summary.output,
        rules.train_summary.output if TRAINED else [],
        rules.pca.output.summary,
        rules.pca.output.baselines,
        rules.pca.output.pictures,
        rules.interpolate_summary.output,
        rules.layers_summary.output,
        rules.jacobian_summary.output,
        every(rules.tangents.output, manifold=FIRSTS),
        rules.invariance_summary.output,
        rules.known_answers.output,
        images=IMAGES,
        sources=sources("report"),
        template=here(packaged("report/templates/report.html")),
    output:
        page="results/report/index.html",
    log:
        "logs/report.log",
    conda:
        ENVIRONMENT
    resources:
        **requests("report"),
    params:
        values=parameters(VALUES, *VALUES),
    shell:
        "latent-atlas report --results results --images {input.images} --page {output.page} --log {log}"
