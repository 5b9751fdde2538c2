rule jacobian:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("jacobian", *architecture_of(w.manifold)),
    output:
        spectra="results/jacobian/{manifold}/spectra.csv",
        summary="results/jacobian/{manifold}/summary.csv",
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
        values=parameters(VALUES, "probes"),
    shell:
        "latent-atlas jacobian --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/jacobian/{wildcards.manifold} --log {log}"


rule jacobian_summary:
    input:
        spectra=every(rules.jacobian.output.spectra, manifold=STUDY.manifolds),
        summary=every(rules.jacobian.output.summary, manifold=STUDY.manifolds),
        sources=sources("jacobian_summary"),
    output:
        spectra="results/jacobian/spectra.csv",
        summary="results/jacobian/summary.csv",
        pictures=expand(
            "results/jacobian/spectra_{probe}{ending}",
            probe=STUDY.probes,
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
        values=parameters(VALUES, "probes", "models", "pca"),
    shell:
        "latent-atlas jacobian-summary --folder results/jacobian --log {log}"
