"""Connect a job to the dask scheduler that its environment names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import click
from pydantic import ValidationError

from driftwave.dask_settings import VARIABLE, DaskConfig
from driftwave.errors import InputError

_KEY = "dask.scheduler"


def asked_scheduler(stage: str | None = None) -> DaskConfig | None:
    """Settings of the scheduler that ``stage`` is to use; None for threads of its own.

    Parameters
    ----------
    stage : str or None
        Subcommand; default the one that runs.

    Raises
    ------
    InputError
        If the environment variable holds no such settings.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        settings = DaskConfig.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            file=f"environment variable {VARIABLE}",
            field=".".join(map(str, first["loc"])) or "content",
            found=repr(first.get("input"))[:120],
            expected=first["msg"],
            fix="Unset it and set `dask` in the configuration",
        ) from None
    if stage is None:
        context = click.get_current_context(silent=True)
        stage = str(context.info_name) if context else None
    if settings.scheduler == "threads" or stage == "ingest":  # open files do not travel
        return None
    wanted = settings.stages is None or stage is None or stage in settings.stages
    return settings if wanted else None


@contextlib.contextmanager
def connected(settings: DaskConfig) -> Iterator[Any]:
    """Send the tasks of everything inside to the scheduler's workers.

    They must see the same files under the same paths, and have driftwave installed.

    Raises
    ------
    InputError
        If a package is missing, or scheduler or workers do not answer in time.
    """
    try:
        from distributed import Client
    except ImportError:
        raise _missing("distributed", settings) from None
    with contextlib.ExitStack() as stack:
        address = settings.scheduler
        if address == "slurm":
            address = stack.enter_context(_slurm_cluster(settings))
        try:
            client = stack.enter_context(Client(address, timeout=settings.timeout))
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                file="config",
                field=_KEY,
                found=f"no answer from {settings.scheduler} within {settings.timeout:g} s",
                expected="the address of a dask scheduler that runs and that this node can reach",
                fix="Start `dask scheduler`, mend the address, or set it to threads",
            ) from error
        _wait_for_a_worker(client, settings)
        yield client


def _wait_for_a_worker(client: Any, settings: DaskConfig) -> None:
    try:
        client.wait_for_workers(1, timeout=settings.timeout)
    except TimeoutError:
        raise InputError(
            file="config",
            field=_KEY,
            found=f"no worker of {settings.scheduler} within {settings.timeout:g} s",
            expected="at least one worker",
            fix="Start `dask worker`, or raise dask.timeout to what a job waits in the queue",
        ) from None


@contextlib.contextmanager
def _slurm_cluster(settings: DaskConfig) -> Iterator[Any]:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise _missing("dask-jobqueue", settings) from None
    with SLURMCluster(
        queue=settings.partition,
        account=settings.account,
        cores=settings.cores,
        processes=1,
        memory=settings.memory,
        walltime=settings.walltime,
        log_directory=settings.logs,
    ) as cluster:
        cluster.scale(settings.workers)
        yield cluster


def _missing(package: str, settings: DaskConfig) -> InputError:
    return InputError(
        file="config",
        field=_KEY,
        found=f"{settings.scheduler}, but {package} is not installed",
        expected="threads, or the packages of the extra `dask`",
        fix='Run: pip install "driftwave[dask]"',
    )
