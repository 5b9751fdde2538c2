rule reconstruct:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("reconstruct", *architecture_of(w.manifold)),
    output:
        errors="results/reconstruct/{manifold}/errors.parquet",
        summary="results/reconstruct/{manifold}/summary.csv",
        package="results/reconstruct/{manifold}/datapackage.json",
        shown="results/reconstruct/{manifold}/shown.safetensors",
    log:
        "logs/reconstruct/{manifold}.log",
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("reconstruct"),
    params:
        values=parameters(VALUES, "reconstruct", "sample", "examples"),
    shell:
        "latent-atlas reconstruct --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/reconstruct/{wildcards.manifold} --log {log}"


rule reconstruct_summary:
    input:
        errors=every(rules.reconstruct.output.errors, manifold=MANIFOLDS),
        summary=every(rules.reconstruct.output.summary, manifold=MANIFOLDS),
        packages=every(rules.reconstruct.output.package, manifold=MANIFOLDS),
        shown=every(rules.reconstruct.output.shown, manifold=MANIFOLDS),
        images=IMAGES,
        sources=sources("reconstruct_summary"),
    output:
        summary=in_report("results/reconstruct/summary.csv"),
        examples=in_report("results/reconstruct/examples.csv"),
        sample=in_report("results/reconstruct/sample.csv"),
        classes="results/reconstruct/by_class.csv",
        differences="results/reconstruct/differences.csv",
        differences_by_class="results/reconstruct/differences_by_class.csv",
        package="results/reconstruct/datapackage.json",
        metrics="results/reconstruct/metrics.json",
        pictures=figures(
            "results/reconstruct/{split}_{picture}",
            "pictures",
            endings=[".png"],
            split=["train", "test"],
            picture=["images", "comparison", *groups(STUDY)],
        ),
    log:
        "logs/reconstruct_summary.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("reconstruct_summary"),
    params:
        values=parameters(VALUES, "reconstruct", "models", "pca", *SEEDS),
    shell:
        "latent-atlas reconstruct-summary --images {input.images} --folder results/reconstruct --log {log}"
