rule known_answers:
    input:
        every(
            [
                rules.pca.output.components,
                rules.pca.output.summary,
                rules.pca.output.package,
                rules.reconstruct_summary.output.summary,
                rules.reconstruct_summary.output.package,
                rules.jacobian_summary.output.examples,
                rules.jacobian_summary.output.package,
                rules.invariance_summary.output.examples,
                rules.invariance_summary.output.package,
            ]
        ),
        images=IMAGES,
        sources=sources("known_answers"),
    output:
        summary=in_report("results/known_answers/summary.csv"),
        package="results/known_answers/datapackage.json",
    log:
        "logs/known_answers.log",
    group:
        submitted_as("compare")
    conda:
        ENVIRONMENT
    resources:
        **requests("known_answers"),
    params:
        values=parameters(VALUES, "dataset", "models", "pca", "examples", "invariance"),
    shell:
        "latent-atlas known-answers --results results --images {input.images} --summary {output.summary} --log {log}"
