# Latent Atlas: the whole pipeline. `snakemake` makes everything; `snakemake report` says the same by name.


include: "workflow/rules/common.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/pca.smk"
include: "workflow/rules/reconstruct.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.report.output,
