# The plan (which jobs each session needs) and what every rule shares.
from driftwave.strict import NAME_PATTERN
from pathlib import Path
import os

from driftwave.dask_settings import VARIABLE
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


if PLAN.config.dask.scheduler != "threads":
    # No part of the rules: results do not depend on it, so jobs are not run again.
    os.environ[VARIABLE] = PLAN.dask_settings()


def gpus(wildcards):
    """GPUs that a fit asks a cluster for: one where the configuration and its model use one."""
    return int(PLAN.uses_gpu(wildcards.model))


def megabytes_read(wildcards):
    """MB of the NWB files that a job's input comes from: a session's, or those of a group."""
    sessions = [wildcards.session] if "session" in wildcards.keys() else []
    if "group" in wildcards.keys():
        sessions = PLAN.groups()[wildcards.group]
    return sum(map(PLAN.megabytes, sessions))


def scaled(base, per_megabyte=0.0):
    """Memory (MB) or time (min): a base and a share of the NWB files' MB, times the attempt."""

    def amount(wildcards, attempt):
        return int(attempt * (base + per_megabyte * megabytes_read(wildcards)))

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
    own = workflow.current_basedir.join(f"../report/{figure}.rst")
    there = workflow.sourcecache.exists(own)
    return f"../report/{figure}.rst" if there else "../report/figure.rst"
