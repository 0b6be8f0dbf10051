"""Where the tasks of one job run: in threads of its own, or on the workers of a dask scheduler."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from driftwave.strict import PathText, Strict

VARIABLE = "DRIFTWAVE_DASK"  # environment variable that hands the settings to the jobs
DaskStage = Literal[
    "decode", "manifold", "encode", "connectome", "waves", "detect", "spike-waves", "align"
]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.,:@+\-]+$")]


class DaskConfig(Strict):
    """Scheduler of the tasks inside one job; for a job too large for one machine."""

    scheduler: Annotated[str, Field(pattern=r"^(threads|slurm|(tcp|tls)://\S+:[0-9]+)$")] = Field(
        "threads",
        description="threads of the job itself; tcp://HOST:PORT of a dask scheduler that runs; or "
        "slurm: workers that the job asks SLURM for (dask-jobqueue).",
    )
    stages: list[DaskStage] | None = Field(
        None, description="Commands whose tasks go there; null for all that have tasks."
    )
    timeout: float = Field(
        30.0, gt=0, description="Seconds within which the scheduler, or a worker, must answer."
    )
    workers: int = Field(2, ge=1, description="slurm: jobs to submit, one worker each.")
    cores: int = Field(1, ge=1, description="slurm: cores of each worker.")
    memory: Word = Field("4GB", description="slurm: memory of each worker.")
    walltime: Word = Field("01:00:00", description="slurm: time limit of each worker.")
    partition: Word | None = Field(None, description="slurm: partition; null for the default.")
    account: Word | None = Field(None, description="slurm: account; null for the default.")
    logs: PathText | None = Field(
        None, description="slurm: folder of the workers' logs; null for <results>/logs/dask."
    )

    @model_validator(mode="after")
    def _workers_only_of_slurm(self) -> Self:
        of_slurm = {"workers", "cores", "memory", "walltime", "partition", "account", "logs"}
        fields = type(self).model_fields
        extra = sorted(n for n in of_slurm if getattr(self, n) != fields[n].default)
        if extra and self.scheduler != "slurm":
            raise ValueError(f"{', '.join(extra)} only with scheduler: slurm")
        return self
