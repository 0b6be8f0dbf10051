# What `snakemake` in this folder runs; the profiles beside it apply. The workflow is in
# workflow/Snakefile, from where others may use it as a module, by path or by revision.
include: "workflow/Snakefile"


# Snakemake forgets the default target of a file that is included.
rule everything:
    default_target: True
    input:
        lambda w: PLAN.targets(),
    message:
        "All results are made"
