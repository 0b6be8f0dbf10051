"""``driftwave search``: one model, one session, run by Snakemake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from driftwave import registry
from driftwave.config import load_config
from driftwave.errors import DriftwaveError, InputError
from driftwave.preflight import checked_plan
from driftwave.reading import read_yaml
from driftwave.search import plan as search_plan
from driftwave.search.space import draw_trials
from driftwave.store import write_text
from driftwave.workflow_plan import Plan


def search_content(
    config: str | Path, session: str, model: str, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration with this one search in it, changed as asked.

    Raises
    ------
    InputError
        If the configuration is not valid, or there is no space to search.
    """
    load_config(config)
    content = dict(read_yaml(config))
    configured = (content.get("search") or {}).get(model) or {}
    settings = {**configured, **changes, "sessions": [session]}
    if settings.get("strategy", "random") == "random":
        settings.pop("budget", None)
    if "space" not in settings:
        raise InputError(
            file=config,
            field=f"search.{model}",
            found="no space of parameters",
            expected="the values that each searched parameter may take",
            fix="Add `search` to the configuration, or give --space",
        )
    return content | {"search": {model: settings}}


def run_search(
    config: str | Path,
    *,
    session: str,
    model: str,
    changes: Mapping[str, Any],
    snakefile: str | Path,
    jobs: int,
    profile: str | None,
    options: Sequence[str] = (),
) -> str:
    """Run the search and return the text of its best parameters.

    The configuration in force is kept as ``config.yaml`` in the search's folder, where jobs on a
    cluster read it too.

    Raises
    ------
    DriftwaveError
        If a name, a value or the space is wrong, or a job failed.
    """
    if not Path(snakefile).is_file():
        raise InputError(
            file=snakefile,
            field="file",
            found="no such file",
            expected="driftwave's workflow",
            fix="Run the search in the folder of the Snakefile, or give --snakefile",
        )
    content = search_content(config, session, model, changes)
    plan = checked_plan(content, config)
    _check_search(plan, session, model, config)
    kept = Path(search_plan.folder(plan, session, model, "config.yaml"))
    write_text(kept, yaml.safe_dump(content, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "search", "--snakefile", str(snakefile)]
    command += ["--configfile", str(kept), "--rerun-incomplete"]
    command += ["--profile", profile, "--jobs", str(jobs)] if profile else ["--cores", str(jobs)]
    # The rules call `driftwave` by its name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    answer = subprocess.run([*command, *options], env=os.environ | {"PATH": path}, check=False)
    if answer.returncode:
        raise DriftwaveError(
            f"The search of {model} on {session} did not end; what is done is kept, and the same "
            "command goes on from there."
        )
    if {"-n", "--dry-run", "--dryrun"} & set(options):
        return "Nothing was run."
    best = Path(search_plan.folder(plan, session, model, "best.yaml"))
    return best.read_text(encoding="utf-8")


def _check_search(plan: Plan, session: str, model: str, config: str | Path) -> None:
    """Names the plan leaves out in silence, and values that need the model's own class."""
    if (session, model) not in search_plan.searched(plan):
        fitted = plan.models(session, "spikes") if session in plan.sessions else []
        known = fitted if session in plan.sessions else sorted(plan.sessions)
        raise InputError(
            file=config,
            field="model" if session in plan.sessions else "session",
            found=repr(model if session in plan.sessions else session),
            expected=f"one of {known}",
            fix="Mend the name",
        )
    params = registry.load("models", plan.plugin_of(model)).Params
    search, base = plan.config.search[model], plan.params_of(model)
    draw_trials(search.space, search.trials, search.seed, model=params, base=base)
