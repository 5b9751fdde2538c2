# Only of images whose factors are known.
if STUDY.dataset.name == SHAPES:

    rule factors:
        input:
            manifold=CHECKPOINT,
            images=IMAGES,
            sources=lambda w: sources("factors", *architecture_of(w.manifold)),
        output:
            factors="results/factors/{manifold}/factors.parquet",
            package="results/factors/{manifold}/datapackage.json",
            pictures="results/factors/{manifold}/pictures.safetensors",
        log:
            "logs/factors/{manifold}.log",
        group:
            submitted_as("measure")
        conda:
            ENVIRONMENT
        resources:
            **requests("factors"),
        params:
            values=parameters(VALUES, "sample", "examples", "tangents"),
        shell:
            "latent-atlas factors --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
            "--folder results/factors/{wildcards.manifold} --log {log}"

    rule factors_summary:
        input:
            factors=every(rules.factors.output.factors, manifold=MANIFOLDS),
            packages=every(rules.factors.output.package, manifold=MANIFOLDS),
            pictures=every(rules.factors.output.pictures, manifold=MANIFOLDS),
            sources=sources("factors_summary"),
        output:
            summary=in_report("results/factors/summary.csv"),
            examples=in_report("results/factors/examples.csv"),
            by_class="results/factors/by_class.csv",
            differences="results/factors/differences.csv",
            package="results/factors/datapackage.json",
            scores=figures("results/factors/factors"),
            directions=in_report("results/factors/directions.png"),
        log:
            "logs/factors_summary.log",
        group:
            submitted_as("compare")
        conda:
            ENVIRONMENT
        resources:
            **requests("factors_summary"),
        params:
            values=parameters(
                VALUES,
                "examples",
                "tangents",
                "models",
                "pca",
                *SEEDS,
            ),
        shell:
            "latent-atlas factors-summary --folder results/factors --log {log}"
