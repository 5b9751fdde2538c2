rule layers:
    input:
        checkpoint="results/checkpoints/{manifold}.safetensors",
        sources=lambda w: sources("layers", *architecture_of(w.manifold)),
    output:
        layers="results/layers/{manifold}/layers.csv",
        spectra="results/layers/{manifold}/spectra.csv",
        summary="results/layers/{manifold}/summary.csv",
        package="results/layers/{manifold}/datapackage.json",
    log:
        "logs/layers/{manifold}.log",
    wildcard_constraints:
        manifold=one_of(NETWORKS),
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("layers"),
    shell:
        "latent-atlas layers --name {wildcards.manifold} --checkpoint {input.checkpoint} --folder results/layers/{wildcards.manifold} "
        "--log {log}"


rule layers_summary:
    input:
        layers=every(rules.layers.output.layers, manifold=NETWORKS),
        spectra=every(rules.layers.output.spectra, manifold=NETWORKS),
        summary=every(rules.layers.output.summary, manifold=NETWORKS),
        packages=every(rules.layers.output.package, manifold=NETWORKS),
        sources=sources("layers_summary"),
    output:
        layers="results/layers/layers.csv",
        spectra="results/layers/spectra.csv",
        summary=in_report("results/layers/summary.csv"),
        package="results/layers/datapackage.json",
        pictures=figures("results/layers/spectra"),
    log:
        "logs/layers_summary.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("layers_summary"),
    params:
        values=parameters(VALUES, "models", *SEEDS),
    shell:
        "latent-atlas layers-summary --folder results/layers --log {log}"
