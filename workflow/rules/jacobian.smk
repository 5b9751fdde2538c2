rule jacobian:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources(
            "jacobian", *architecture_of(w.manifold), *TRANSFORMATIONS
        ),
    output:
        spectra="results/jacobian/{manifold}/spectra.parquet",
        angles="results/jacobian/{manifold}/angles.parquet",
        singular_values="results/jacobian/{manifold}/singular_values.safetensors",
        values="results/jacobian/{manifold}/values.csv",
        examples="results/jacobian/{manifold}/examples.csv",
        package="results/jacobian/{manifold}/datapackage.json",
    log:
        "logs/jacobian/{manifold}.log",
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("jacobian"),
    params:
        values=parameters(VALUES, "sample", "examples", "invariance.transformations"),
    shell:
        "latent-atlas jacobian --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/jacobian/{wildcards.manifold} --log {log}"


rule jacobian_summary:
    input:
        spectra=every(rules.jacobian.output.spectra, manifold=MANIFOLDS),
        singular_values=every(rules.jacobian.output.singular_values, manifold=MANIFOLDS),
        values=every(rules.jacobian.output.values, manifold=MANIFOLDS),
        examples=every(rules.jacobian.output.examples, manifold=MANIFOLDS),
        packages=every(rules.jacobian.output.package, manifold=MANIFOLDS),
        sources=sources("jacobian_summary"),
    output:
        summary=in_report("results/jacobian/summary.csv"),
        examples=in_report("results/jacobian/examples.csv"),
        classes="results/jacobian/by_class.csv",
        differences="results/jacobian/differences.csv",
        bands="results/jacobian/bands.csv",
        values="results/jacobian/values.csv",
        package="results/jacobian/datapackage.json",
        spectra_of_sample=figures("results/jacobian/bands"),
        spectra=figures(
            "results/jacobian/spectra_{example}", "spectra", example=STUDY.examples
        ),
    log:
        "logs/jacobian_summary.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("jacobian_summary"),
    params:
        values=parameters(VALUES, "examples", "models", "pca", *SEEDS),
    shell:
        "latent-atlas jacobian-summary --folder results/jacobian --log {log}"
