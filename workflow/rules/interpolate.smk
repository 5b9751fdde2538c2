rule interpolate:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("interpolate", *architecture_of(w.manifold)),
    output:
        path="results/interpolate/{manifold}/path.csv",
        summary="results/interpolate/{manifold}/summary.csv",
        package="results/interpolate/{manifold}/datapackage.json",
        images="results/interpolate/{manifold}/images.safetensors",
    log:
        "logs/interpolate/{manifold}.log",
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("interpolate"),
    params:
        values=parameters(VALUES, "interpolate", "examples"),
    shell:
        "latent-atlas interpolate --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/interpolate/{wildcards.manifold} --log {log}"


rule interpolate_pixels:
    input:
        images=IMAGES,
        sources=sources("interpolate"),
    output:
        path="results/interpolate/pixels/path.csv",
        summary="results/interpolate/pixels/summary.csv",
        package="results/interpolate/pixels/datapackage.json",
        images="results/interpolate/pixels/images.safetensors",
    log:
        "logs/interpolate_pixels.log",
    conda:
        ENVIRONMENT
    resources:
        **requests("interpolate_pixels"),
    params:
        values=parameters(VALUES, "interpolate", "examples"),
    shell:
        "latent-atlas interpolate --name pixels --images {input.images} --folder results/interpolate/pixels --log {log}"


rule interpolate_summary:
    input:
        pixels=rules.interpolate_pixels.output,
        path=every(rules.interpolate.output.path, manifold=MANIFOLDS),
        summary=every(rules.interpolate.output.summary, manifold=MANIFOLDS),
        packages=every(rules.interpolate.output.package, manifold=MANIFOLDS),
        images=every(rules.interpolate.output.images, manifold=MANIFOLDS),
        sources=sources("interpolate_summary"),
    output:
        paths="results/interpolate/paths.csv",
        summary=in_report("results/interpolate/summary.csv"),
        package="results/interpolate/datapackage.json",
        pictures=figures(
            "results/interpolate/{pair}",
            "path",
            endings=[".png"],
            pair=STUDY.interpolate.pairs,
        ),
        curves=figures(
            "results/interpolate/{pair}_curves",
            "curves",
            pair=STUDY.interpolate.pairs,
        ),
    log:
        "logs/interpolate_summary.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("interpolate_summary"),
    params:
        values=parameters(
            VALUES,
            "interpolate",
            "examples",
            "models",
            "pca",
            *SEEDS,
        ),
    shell:
        "latent-atlas interpolate-summary --folder results/interpolate --log {log}"
