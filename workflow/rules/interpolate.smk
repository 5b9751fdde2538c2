rule interpolate:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("interpolate", *architecture_of(w.manifold)),
    output:
        path="results/interpolate/{manifold}/path.csv",
        summary="results/interpolate/{manifold}/summary.csv",
        images="results/interpolate/{manifold}/images.safetensors",
    log:
        "logs/interpolate/{manifold}.log",
    benchmark:
        "logs/interpolate/{manifold}.benchmark.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory("interpolate"),
        runtime=runtime("interpolate"),
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
        images="results/interpolate/pixels/images.safetensors",
    log:
        "logs/interpolate_pixels.log",
    benchmark:
        "logs/interpolate_pixels.benchmark.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory("interpolate_pixels"),
        runtime=runtime("interpolate_pixels"),
    params:
        values=parameters(VALUES, "interpolate", "examples"),
    shell:
        "latent-atlas interpolate --name pixels --images {input.images} --folder results/interpolate/pixels --log {log}"


rule interpolate_summary:
    input:
        pixels=rules.interpolate_pixels.output,
        path=every(rules.interpolate.output.path, manifold=STUDY.manifolds),
        summary=every(rules.interpolate.output.summary, manifold=STUDY.manifolds),
        images=every(rules.interpolate.output.images, manifold=STUDY.manifolds),
        sources=sources("interpolate_summary"),
    output:
        paths="results/interpolate/paths.csv",
        summary="results/interpolate/summary.csv",
        pictures=expand(
            "results/interpolate/{pair}{ending}",
            pair=STUDY.interpolate.pairs,
            ending=[".png", "_curves.svg", "_curves.png"],
        ),
    log:
        "logs/interpolate_summary.log",
    benchmark:
        "logs/interpolate_summary.benchmark.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory("interpolate_summary"),
        runtime=runtime("interpolate_summary"),
    params:
        values=parameters(VALUES, "interpolate", "examples", "models", "pca"),
    shell:
        "latent-atlas interpolate-summary --folder results/interpolate --log {log}"
