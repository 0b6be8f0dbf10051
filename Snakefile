from snakemake.utils import min_version

min_version("9.14")


# A file given with --configfile replaces the demo's configuration; merged, its models and
# sessions would be added to those of the demo.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


# The image of envs/Dockerfile, as `make image` builds it.
container: "docker-daemon:driftwave:0.1.0"


include: "workflow/rules/common.smk"
include: "workflow/rules/analyses.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/latents.smk"
include: "workflow/rules/ensembles.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/decoding.smk"
include: "workflow/rules/manifolds.smk"
include: "workflow/rules/activations.smk"
include: "workflow/rules/encoding.smk"
include: "workflow/rules/groups.smk"
include: "workflow/rules/connectome.smk"
include: "workflow/rules/waves.smk"
include: "workflow/rules/detectors.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/experiments.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        lambda w: PLAN.targets(),
    message:
        "All results are made"


# A paper's sessions and models are another configuration, so another workflow.
PAPERS = ("langevinflow", "oscillators", "waves", "manifolds")


for name in PAPERS:

    rule:
        name:
            f"paper_{name}"
        input:
            f"config/paper/{name}.yaml",
        log:
            f"results/paper/logs/{name}.log",
        localrule: True
        threads: workflow.cores
        params:
            snakefile=workflow.main_snakefile,
        message:
            "Fit, compare and draw what {input} lists"
        shell:
            "( snakemake --snakefile {params.snakefile:q} --configfile {input:q} --cores {threads}"
            " --keep-going || status=$?;"
            " snakemake summary --snakefile {params.snakefile:q} --configfile {input:q} --cores 1;"
            " exit ${{status:-0}} ) 2>&1 | tee {log:q}"


rule paper:
    log:
        "results/paper/logs/paper.log",
    localrule: True
    threads: workflow.cores
    params:
        names=[f"paper_{name}" for name in PAPERS],
        snakefile=workflow.main_snakefile,
    message:
        "All papers, one after the other; results/paper/*/summary.html tell what became of them"
    shell:
        "( for name in {params.names}; do snakemake $name --snakefile {params.snakefile:q}"
        " --cores {threads} || status=$?; done; exit ${{status:-0}} ) 2>&1 | tee {log:q}"
