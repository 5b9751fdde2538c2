# Latent Atlas: the whole pipeline, a file for each stage. `snakemake` makes everything.


include: "workflow/rules/common.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/pca.smk"
include: "workflow/rules/reconstruct.smk"
include: "workflow/rules/interpolate.smk"
include: "workflow/rules/layers.smk"
include: "workflow/rules/jacobian.smk"
include: "workflow/rules/tangents.smk"
include: "workflow/rules/invariance.smk"
include: "workflow/rules/report.smk"


# Nodes of a cluster seldom reach the internet; the machine that submits to them does.
localrules:
    fetch,


# Every output of every rule, so that a missing or changed one is noticed also where nothing after it needs it.
rule all:
    default_target: True
    input:
        rules.fetch.output,
        every(rules.train.output, model=TRAINED),
        every(rules.import_.output, model=IMPORTED),
        rules.train_summary.output if TRAINED else [],
        rules.pca.output,
        every(rules.reconstruct.output, manifold=STUDY.manifolds),
        rules.reconstruct_summary.output,
        rules.interpolate_pixels.output,
        every(rules.interpolate.output, manifold=STUDY.manifolds),
        rules.interpolate_summary.output,
        every(rules.layers.output, model=STUDY.models),
        rules.layers_summary.output,
        every(rules.jacobian.output, manifold=STUDY.manifolds),
        rules.jacobian_summary.output,
        every(rules.tangents.output, manifold=STUDY.manifolds),
        every(rules.invariance.output, manifold=STUDY.manifolds),
        every(rules.invariance_epochs.output, model=TRAINED),
        rules.invariance_summary.output,
        rules.report.output,


# What each job took, and where, beside the results.
onsuccess:
    records.gather()


onerror:
    records.gather()


attach(workflow, "workflow/versioning.yaml")
cluster.attach(workflow)
