"""Threads, seeds and clocks, decided in one place."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from driftwave.dask_scheduler import asked_scheduler, connected
from driftwave.errors import InputError
from driftwave.provenance import describe

# Environment variable: more threads for large fits, at the price of results that then depend on it.
ARITHMETIC = "DRIFTWAVE_ARITHMETIC_THREADS"
_LATER = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def dask_threads(threads: int) -> Iterator[None]:
    """Give the budget to dask: ``threads`` dask threads, one BLAS thread each.

    Where the configuration names another scheduler for this stage, its workers do the tasks.

    Dask threads times BLAS threads oversubscribe the cores and run many times slower.
    """
    import dask

    describe(threads=threads)
    settings = asked_scheduler()
    with _arithmetic(1):
        if settings:
            with connected(settings):
                yield
        else:
            with dask.config.set(scheduler="threads", num_workers=max(1, threads)):
                yield


@contextlib.contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """For work that is one sequence of linear algebra: dask runs synchronously.

    BLAS and torch add in another order on another number of threads, and an optimiser carries that
    last digit into results that differ to the eye. Their number of threads is therefore not the
    budget but a number of its own, 1 unless :data:`ARITHMETIC` says otherwise.
    """
    import dask

    own = arithmetic_threads()
    describe(threads=threads, arithmetic_threads=own)
    with _arithmetic(own), dask.config.set(scheduler="synchronous"):
        yield


@contextlib.contextmanager
def _arithmetic(threads: int) -> Iterator[None]:
    """Threads of BLAS, OpenMP and torch, loaded already or only later."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    of_torch = torch.get_num_threads() if torch else threads
    if torch:
        torch.set_num_threads(threads)
    before = {name: os.environ.get(name) for name in _LATER}
    # What is imported later asks the environment, where Snakemake has put the job's threads.
    os.environ.update(dict.fromkeys(_LATER, str(threads)))
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        if torch:
            torch.set_num_threads(of_torch)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def arithmetic_threads() -> int:
    """Threads of BLAS and torch within a fit, from the environment; part of what decides it.

    Raises
    ------
    InputError
        If it is no positive whole number.
    """
    text = os.environ.get(ARITHMETIC, "1")
    if not text.isdecimal() or int(text) < 1:
        raise InputError(
            file="environment",
            field=ARITHMETIC,
            found=text,
            expected="a whole number of threads from 1",
            fix="Mend it or unset it",
        )
    return int(text)


def generator(seed: int, *names: str) -> np.random.Generator:
    """A NumPy generator for ``seed``; further names give independent streams of the same seed."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def choose_device(wanted: str = "auto") -> str:
    """``auto`` becomes ``cuda`` where a GPU is usable, else ``cpu``; other names pass through."""
    if wanted == "auto":
        import torch

        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    describe(device=wanted)
    return wanted


@dataclass
class Clock:
    """CPU seconds (all threads of this process) and wall seconds since :meth:`start`."""

    cpu_start: float = 0.0
    wall_start: float = 0.0

    @classmethod
    def start(cls) -> Clock:
        return cls(_cpu_seconds(), time.perf_counter())

    @property
    def cpu_seconds(self) -> float:
        return _cpu_seconds() - self.cpu_start

    @property
    def wall_seconds(self) -> float:
        return time.perf_counter() - self.wall_start


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
