# Latent Atlas: the whole pipeline, a file for each stage. `snakemake` makes everything.


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/pca.smk"
include: "workflow/rules/reconstruct.smk"
include: "workflow/rules/interpolate.smk"
include: "workflow/rules/geodesics.smk"
include: "workflow/rules/layers.smk"
include: "workflow/rules/jacobian.smk"
include: "workflow/rules/tangents.smk"
include: "workflow/rules/invariance.smk"
include: "workflow/rules/factors.smk"
include: "workflow/rules/known_answers.smk"
include: "workflow/rules/explorer.smk"
include: "workflow/rules/report.smk"


# Every output of every rule, so that a missing or changed one is noticed also where nothing after it needs it.
rule all:
    default_target: True
    input:
        everything(),


# What each job took, and where, beside the results.
onsuccess:
    records.collect()


onerror:
    records.collect()


attach(workflow, "workflow/versioning.yaml", records.times)
cluster.attach(workflow)
