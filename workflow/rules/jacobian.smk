rule jacobian:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("jacobian", *architecture_of(w.manifold)),
    output:
        spectra="results/jacobian/{manifold}/spectra.parquet",
        values="results/jacobian/{manifold}/values.csv",
        examples="results/jacobian/{manifold}/examples.csv",
    log:
        "logs/jacobian/{manifold}.log",
    benchmark:
        "logs/jacobian/{manifold}.benchmark.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory("jacobian"),
        runtime=runtime("jacobian"),
    params:
        values=parameters(VALUES, "sample", "examples"),
    shell:
        "latent-atlas jacobian --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/jacobian/{wildcards.manifold} --log {log}"


rule jacobian_summary:
    input:
        spectra=every(rules.jacobian.output.spectra, manifold=STUDY.manifolds),
        values=every(rules.jacobian.output.values, manifold=STUDY.manifolds),
        examples=every(rules.jacobian.output.examples, manifold=STUDY.manifolds),
        sources=sources("jacobian_summary"),
    output:
        summary="results/jacobian/summary.csv",
        examples="results/jacobian/examples.csv",
        values="results/jacobian/values.csv",
        pictures=expand(
            "results/jacobian/spectra_{example}{ending}",
            example=STUDY.examples,
            ending=[".svg", ".png"],
        ),
    log:
        "logs/jacobian_summary.log",
    benchmark:
        "logs/jacobian_summary.benchmark.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory("jacobian_summary"),
        runtime=runtime("jacobian_summary"),
    params:
        values=parameters(VALUES, "examples", "models", "pca"),
    shell:
        "latent-atlas jacobian-summary --folder results/jacobian --log {log}"
