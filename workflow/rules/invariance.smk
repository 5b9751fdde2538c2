rule invariance:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources(
            "invariance", *architecture_of(w.manifold), *TRANSFORMATIONS
        ),
    output:
        steps="results/invariance/{manifold}/steps.csv",
        package="results/invariance/{manifold}/datapackage.json",
        pictures="results/invariance/{manifold}/pictures.safetensors",
    log:
        "logs/invariance/{manifold}.log",
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("invariance"),
    params:
        values=parameters(VALUES, "invariance", "examples", "sample"),
    shell:
        "latent-atlas invariance --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/invariance/{wildcards.manifold} --log {log}"


rule invariance_epochs:
    input:
        checkpoint=rules.train.output.checkpoint,
        snapshots=rules.train.output.snapshots,
        curve=rules.train.output.curve,
        package=rules.train.output.package,
        images=IMAGES,
        sources=lambda w: sources(
            "invariance_epochs", *architecture_of(w.manifold), *TRANSFORMATIONS
        ),
    output:
        epochs="results/invariance_epochs/{manifold}/epochs.csv",
        package="results/invariance_epochs/{manifold}/datapackage.json",
    log:
        "logs/invariance_epochs/{manifold}.log",
    wildcard_constraints:
        manifold=one_of(TRAINED),
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("invariance_epochs"),
    params:
        values=parameters(VALUES, "invariance", "examples"),
    shell:
        "latent-atlas invariance-epochs --name {wildcards.manifold} --checkpoint {input.checkpoint} --snapshots {input.snapshots} "
        "--curve {input.curve} --images {input.images} --folder results/invariance_epochs/{wildcards.manifold} --log {log}"


rule invariance_summary:
    input:
        angles=every(rules.jacobian.output.angles, manifold=MANIFOLDS),
        packages_of_angles=every(rules.jacobian.output.package, manifold=MANIFOLDS),
        steps=every(rules.invariance.output.steps, manifold=MANIFOLDS),
        packages_of_steps=every(rules.invariance.output.package, manifold=MANIFOLDS),
        pictures=every(rules.invariance.output.pictures, manifold=MANIFOLDS),
        epochs=every(rules.invariance_epochs.output, manifold=TRAINED),
        sources=sources("invariance_summary"),
    output:
        summary=in_report("results/invariance/summary.csv"),
        quantiles="results/invariance/quantiles.csv",
        examples=in_report("results/invariance/examples.csv"),
        classes="results/invariance/by_class.csv",
        differences="results/invariance/differences.csv",
        differences_by_class="results/invariance/differences_by_class.csv",
        scores="results/invariance/scores.csv",
        scores_by_class="results/invariance/scores_by_class.csv",
        score_differences="results/invariance/score_differences.csv",
        percentiles="results/invariance/percentiles.csv",
        distributions=figures("results/invariance/distributions"),
        mean_scores=figures("results/invariance/classes"),
        steps="results/invariance/steps.csv",
        epochs="results/invariance/epochs.csv",
        package="results/invariance/datapackage.json",
        maps=figures(
            "results/invariance/angles_{example}", "angles", example=STUDY.examples
        ),
        step_study=figures("results/invariance/steps"),
        epoch_study=figures("results/invariance/epochs") if TRAINED else [],
        displacements=figures(
            "results/invariance/displacements/{example}/{transformation}",
            "displacements",
            endings=[".png"],
            example=STUDY.invariance.pictures,
            transformation=STUDY.invariance.transformations,
        ),
    log:
        "logs/invariance_summary.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("invariance_summary"),
    params:
        values=parameters(VALUES, "invariance", "examples", "models", "pca", *SEEDS),
    shell:
        "latent-atlas invariance-summary --jacobians results/jacobian --epochs results/invariance_epochs --folder results/invariance "
        "--log {log}"
