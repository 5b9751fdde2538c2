rule geodesics:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("geodesics", *architecture_of(w.manifold)),
    output:
        pairs="results/geodesics/{manifold}/pairs.csv",
        package="results/geodesics/{manifold}/datapackage.json",
        images="results/geodesics/{manifold}/images.safetensors",
    log:
        "logs/geodesics/{manifold}.log",
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("geodesics"),
    params:
        values=parameters(VALUES, "geodesics", "interpolate.pairs", "examples"),
    shell:
        "latent-atlas geodesics --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/geodesics/{wildcards.manifold} --log {log}"


rule geodesics_summary:
    input:
        pairs=every(rules.geodesics.output.pairs, manifold=MANIFOLDS),
        packages=every(rules.geodesics.output.package, manifold=MANIFOLDS),
        images=every(rules.geodesics.output.images, manifold=STUDY.models),
        sources=sources("geodesics_summary"),
    output:
        pairs="results/geodesics/pairs.csv",
        summary=in_report("results/geodesics/summary.csv"),
        differences="results/geodesics/differences.csv",
        variation=in_report("results/geodesics/variation.csv"),
        package="results/geodesics/datapackage.json",
        gains=figures("results/geodesics/gains"),
        pictures=figures(
            "results/geodesics/{pair}",
            "path",
            endings=[".png"],
            pair=STUDY.interpolate.pairs,
        ),
    log:
        "logs/geodesics_summary.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("geodesics_summary"),
    params:
        values=parameters(
            VALUES,
            "interpolate.pairs",
            "examples",
            "models",
            "pca",
            *SEEDS,
        ),
    shell:
        "latent-atlas geodesics-summary --folder results/geodesics --log {log}"
