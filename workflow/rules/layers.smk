rule layers:
    input:
        checkpoint="results/checkpoints/{model}.safetensors",
        sources=lambda w: sources("layers", *architecture_of(w.model)),
    output:
        layers="results/layers/{model}/layers.csv",
        spectra="results/layers/{model}/spectra.csv",
        summary="results/layers/{model}/summary.csv",
    log:
        "logs/layers/{model}.log",
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("layers"),
    shell:
        "latent-atlas layers --model {wildcards.model} --checkpoint {input.checkpoint} --folder results/layers/{wildcards.model} "
        "--log {log}"


rule layers_summary:
    input:
        layers=every(rules.layers.output.layers, model=STUDY.models),
        spectra=every(rules.layers.output.spectra, model=STUDY.models),
        summary=every(rules.layers.output.summary, model=STUDY.models),
        sources=sources("layers_summary"),
    output:
        layers="results/layers/layers.csv",
        spectra="results/layers/spectra.csv",
        summary="results/layers/summary.csv",
        pictures=multiext("results/layers/spectra", ".svg", ".png"),
    log:
        "logs/layers_summary.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("layers_summary"),
    params:
        values=parameters(VALUES, "models"),
    shell:
        "latent-atlas layers-summary --folder results/layers --log {log}"
