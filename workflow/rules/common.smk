# The plan (which jobs each session needs) and what every rule shares.
from driftwave.strict import NAME_PATTERN
from pathlib import Path

from driftwave.errors import DriftwaveError
from driftwave.preflight import checked_plan
from driftwave.search import plan as search_plan
from driftwave.workflow_figures import FIGURES, GROUP_FIGURES
from driftwave.workflow_fits import RESERVED
from driftwave.workflow_plan import as_json
from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import LocalSourceFile

try:
    PLAN = checked_plan(config, ", ".join(map(str, workflow.configfiles)) or "config")
except DriftwaveError as error:
    raise WorkflowError(str(error)) from None

# Paths that rules hand to commands as parameters would miss a prefix.
PROBE = f"{PLAN.config.results}/summary.tsv"
if workflow.modifier.path_modifier.replace_prefix(PROBE) != PROBE:
    raise WorkflowError(
        "module: found prefix or replace_prefix, expected neither; set `results` in the module's "
        "config to the folder that its results belong in."
    )


pathvars:
    results=PLAN.config.results,


NAME = NAME_PATTERN.strip("^$")
NOTHING = "(?!)"


wildcard_constraints:
    simulation="|".join(PLAN.config.simulations) or NOTHING,
    experiment="|".join(PLAN.config.experiments) or NOTHING,
    session=rf"(?!(?:{'|'.join(RESERVED)})/){NAME}",
    group="|".join(PLAN.config.groups) or NOTHING,
    activations="|".join(PLAN.config.activations) or NOTHING,
    entry=NAME,
    model=NAME,
    source=NAME,
    rung=r"\d+",
    place=r"\d+",


def figure_results(wildcards, figure):
    """Results that a figure draws, by the name it knows them by."""
    name = ".".join([figure, *wildcards[1:]])
    return PLAN.figures(wildcards.session, figure)[name]


def search_space(wildcards):
    """What decides the parameter sets of a search, save their number."""
    search = PLAN.config.search[wildcards.model]
    space = {name: part.model_dump() for name, part in search.space.items()}
    return as_json({"space": space, "seed": search.seed})


def search_ranking(wildcards):
    """Ranking of the rung before; nothing for the first."""
    rung = int(wildcards.rung)
    return search_plan.ranking(PLAN, wildcards.session, wildcards.model, rung)


def search_results(wildcards):
    """Results of a rung."""
    rung = int(wildcards.rung)
    return search_plan.results(PLAN, wildcards.session, wildcards.model, rung)


def options(option, values):
    """A command-line option repeated for each value: VALUE of a list, NAME=VALUE of a mapping."""
    if isinstance(values, dict):
        values = [f"{name}={value}" for name, value in values.items()]
    return [part for value in values for part in (option, value) if part]


def caption_of(figure):
    """Caption of a figure; one text serves figures of other packages, which ship none."""
    own = workflow.current_basedir.join(f"../report/{figure}.rst")
    # The cache of sources copies each file, which takes longer than all rules of figures.
    here = isinstance(own, LocalSourceFile)
    there = Path(str(own)).is_file() if here else workflow.sourcecache.exists(own)
    return f"../report/{figure}.rst" if there else "../report/figure.rst"


def say_summary():
    """Write and print the summary at the end of a run, also when jobs have failed.

    Snakemake calls it in the process that a user started: not for a dry run, not in the jobs of a
    cluster, and not where another workflow uses this one as a module.
    """
    targets = set(workflow.dag_settings.targets or ())
    if targets and targets <= {"summary", "made"}:
        return
    import sys

    from driftwave.summary import told, write_summary

    table = f"{PLAN.config.results}/summary.tsv"
    try:
        said = told(write_summary(PLAN, table))
    # A full disk, say; how the run has ended does not depend on it.
    except (DriftwaveError, OSError) as error:
        said = f"The summary could not be written: {error}"
    print(said, file=sys.stderr)
    print(f"See {table.removesuffix('.tsv')}.html", file=sys.stderr, flush=True)
