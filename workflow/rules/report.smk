# All results that the page shows.
SHOWN = [
    file
    for part in [
        rules.reconstruct_summary.output,
        rules.train_summary.output if TRAINED else [],
        rules.pca.output.summary,
        rules.pca.output.baselines,
        rules.pca.output.pictures,
        rules.interpolate_summary.output,
        rules.geodesics_summary.output,
        rules.layers_summary.output,
        rules.jacobian_summary.output,
        every(rules.tangents.output, manifold=FIRSTS),
        rules.tangents_summary.output,
        rules.invariance_summary.output,
        rules.factors_summary.output if STUDY.dataset.name == SHAPES else [],
        rules.known_answers.output,
    ]
    for file in every(part)
]


rule report:
    input:
        SHOWN,
        images=IMAGES,
        sources=sources("report"),
        template=here(packaged("report/templates/report.html")),
        static=[
            here(packaged(f"report/static/{name}"))
            for name in ("page.css", "page.js", PLOTS)
        ],
    output:
        page="results/report/index.html",
        data="results/report/data.json",
        plots=f"results/report/{PLOTS}",
        pictures=[shown_as(file) for file in SHOWN if str(file).endswith(".png")],
    log:
        "logs/report.log",
    conda:
        ENVIRONMENT
    resources:
        **requests("report"),
    params:
        values=parameters(VALUES, *VALUES),
    shell:
        "latent-atlas report --results results --images {input.images} --folder results/report --log {log}"
