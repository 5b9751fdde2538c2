rule tangents:
    input:
        manifold=CHECKPOINT,
        images=IMAGES,
        sources=lambda w: sources("tangents", *architecture_of(w.manifold)),
    output:
        columns="results/tangents/{manifold}/columns.png",
        singular_vectors="results/tangents/{manifold}/singular_vectors.png",
        tangents="results/tangents/{manifold}/tangents.safetensors",
    log:
        "logs/tangents/{manifold}.log",
    wildcard_constraints:
        manifold=one_of(FIRSTS),
    group:
        submitted_as("measure")
    conda:
        ENVIRONMENT
    resources:
        **requests("tangents"),
    params:
        values=parameters(VALUES, "tangents", "examples"),
    shell:
        "latent-atlas tangents --name {wildcards.manifold} --manifold {input.manifold} --images {input.images} "
        "--folder results/tangents/{wildcards.manifold} --log {log}"
