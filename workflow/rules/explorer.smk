rule explorer:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        geodesics=rules.geodesics.output,
        sources=lambda w: sources("explorer", *architecture_of(w.manifold)),
    output:
        graphs="results/explorer/{manifold}/graphs.safetensors",
        table="results/explorer/{manifold}/export.csv",
        images="results/explorer/{manifold}/images.csv",
        package="results/explorer/{manifold}/datapackage.json",
    log:
        "logs/explorer/{manifold}.log",
    wildcard_constraints:
        manifold=one_of(COMPARED),
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("explorer"),
    params:
        values=parameters(
            VALUES,
            "sample",
            "examples",
            "invariance.transformations",
            "interpolate.pairs",
        ),
    shell:
        "latent-atlas explorer --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--geodesics results/geodesics/{wildcards.manifold} --folder results/explorer/{wildcards.manifold} --log {log}"


rule explorer_summary:
    input:
        graphs=every(rules.explorer.output.graphs, manifold=COMPARED),
        tables=every(rules.explorer.output.table, manifold=COMPARED),
        packages=every(rules.explorer.output.package, manifold=COMPARED),
        shown=every(rules.explorer.output.images, manifold=COMPARED[0]),
        pairs=every(
            [rules.geodesics.output.pairs, rules.geodesics.output.package],
            manifold=COMPARED[0],
        ),
        images=IMAGES,
        static=[here(packaged(f"report/static/{file}")) for file in EXPLORER],
        template=here(packaged("report/templates/explorer.html")),
        sources=sources("explorer_summary"),
    output:
        summary=in_report("results/explorer/summary.csv"),
        package="results/explorer/datapackage.json",
        page="results/report/explorer.html",
        files=expand(
            "results/report/explorer/{file}",
            file=[
                *EXPLORER,
                "sample.js",
                *(f"decoder_{name}.js" for name in COMPARED),
            ],
        ),
    log:
        "logs/explorer_summary.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("explorer_summary"),
    params:
        values=parameters(
            VALUES,
            "examples",
            "invariance.transformations",
            "interpolate.pairs",
            "models",
            "pca",
            *SEEDS,
        ),
    shell:
        "latent-atlas explorer-summary --folder results/explorer --geodesics results/geodesics --images {input.images} "
        "--report results/report --log {log}"
