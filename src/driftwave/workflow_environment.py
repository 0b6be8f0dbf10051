"""What the workflow's jobs find in their environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from driftwave.dask_settings import VARIABLE
from driftwave.workflow_plan import Plan


def prepare(plan: Plan) -> None:
    """Set what the jobs need: ``driftwave`` on PATH, and where dask's tasks go.

    A cluster that does not hand on the environment starts the right Python, but would not find the
    command beside it. Results do not depend on the dask setting; as a variable, and no part of the
    rules, it makes no job run again.
    """
    beside = str(Path(sys.executable).parent)
    known = os.environ.get("PATH", "")
    if beside not in known.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join(filter(None, [beside, known]))
    if plan.config.dask.scheduler != "threads":
        os.environ[VARIABLE] = plan.dask_settings()
