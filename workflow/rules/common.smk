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

try:
    PLAN = checked_plan(config, ", ".join(map(str, workflow.configfiles)) or "config")
except DriftwaveError as error:
    raise WorkflowError(str(error)) from None


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


def scaled(base, per_megabyte=0.0):
    """Memory (MB) or time (min): a base and a share of the NWB file's MB, times the attempt."""

    def amount(wildcards, attempt):
        return int(attempt * (base + per_megabyte * PLAN.megabytes(wildcards.session)))

    return amount


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
    own = Path(str(workflow.current_basedir)) / f"../report/{figure}.rst"
    return f"../report/{figure}.rst" if own.is_file() else "../report/figure.rst"
