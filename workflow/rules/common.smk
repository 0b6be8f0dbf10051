# The plan (which jobs each session needs) and what every rule shares.
from driftwave.errors import DriftwaveError
from driftwave.preflight import checked_plan
from driftwave.workflow_plan import FIGURES, as_json
from snakemake.exceptions import WorkflowError

try:
    PLAN = checked_plan(config, ", ".join(map(str, workflow.configfiles)) or "config")
except DriftwaveError as error:
    raise WorkflowError(str(error)) from None


pathvars:
    results=PLAN.config.results,


wildcard_constraints:
    session=r"[A-Za-z0-9][A-Za-z0-9_\-]*",
    model=r"[A-Za-z0-9][A-Za-z0-9_\-]*",
    source=r"[A-Za-z0-9][A-Za-z0-9_\-]*",


def memory(base, per_megabyte=0.0):
    """Memory (MB) of a job: a base and a share of the NWB file's size, more at each attempt."""

    def megabytes(wildcards, attempt):
        return int(attempt * (base + per_megabyte * PLAN.megabytes(wildcards.session)))

    return megabytes


def minutes(base, per_megabyte=0.0):
    """Time limit (min) of a job, scaled like its memory."""

    def limit(wildcards, attempt):
        return int(attempt * (base + per_megabyte * PLAN.megabytes(wildcards.session)))

    return limit


def latents_of_source(wildcards):
    """Latents of the source's model; nothing where the source is the recording."""
    return PLAN.latents_of(wildcards.session, wildcards.source)


def analysis_params(stage):
    """What changes the result of an analysis besides its input."""
    analysis = PLAN.analysis(stage)
    return {
        "plugin": analysis.plugin,
        "json": as_json(analysis.params),
        "seed": PLAN.config.seed,
        "code": PLAN.code(stage, analysis.plugin),
    }


def figure_results(wildcards, figure):
    """Results that a figure draws, by the name it knows them by."""
    name = ".".join([figure, *wildcards[1:]])
    return PLAN.figures(wildcards.session, figure)[name]


def options(option, values):
    """A command-line option repeated for each value: VALUE of a list, NAME=VALUE of a mapping."""
    pairs = isinstance(values, dict) and option != "--scores"
    texts = [f"{k}={v}" for k, v in values.items()] if pairs else list(values)
    return [part for text in texts for part in (option, text)]
