# All results that the page shows.
SHOWN = [
    file
    for part in [
        rules.reconstruct_summary.output,
        rules.train_summary.output if TRAINED else [],
        rules.pca.output.summary,
        rules.pca.output.baselines,
        rules.pca.output.package,
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


# The rules that made them, which the page names with their parameters and inputs.
MAKERS = {
    name: getattr(rules, name)
    for name, there in {
        "reconstruct_summary": True,
        "train_summary": TRAINED,
        "pca": True,
        "interpolate_summary": True,
        "geodesics_summary": True,
        "layers_summary": True,
        "jacobian_summary": True,
        "tangents": True,
        "tangents_summary": True,
        "invariance_summary": True,
        "factors_summary": STUDY.dataset.name == SHAPES,
        "known_answers": True,
    }.items()
    if there
}


rule report:
    input:
        SHOWN,
        # Their checksums are on the page.
        read=[
            file
            for maker in MAKERS.values()
            for file in every(read_by(maker), manifold=FIRSTS)
        ],
        origins=here(origins({name: origin(each) for name, each in MAKERS.items()})),
        images=IMAGES,
        sources=sources("report"),
        template=here(packaged("report/templates/report.html")),
        definitions=here(packaged("report/templates/definitions.json")),
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
        "latent-atlas report --results results --images {input.images} "
        "--origins {input.origins} --folder results/report --log {log}"
