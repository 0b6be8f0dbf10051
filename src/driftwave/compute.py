"""Threads, seeds and clocks, decided in one place."""

from __future__ import annotations

import contextlib
import resource
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@contextlib.contextmanager
def dask_threads(threads: int) -> Iterator[None]:
    """Give the budget to dask: ``threads`` dask threads, one BLAS thread each.

    Dask threads times BLAS threads oversubscribe the cores and run many times slower.
    """
    import dask
    from threadpoolctl import threadpool_limits

    with (
        threadpool_limits(limits=1),
        dask.config.set(scheduler="threads", num_workers=max(1, threads)),
    ):
        yield


@contextlib.contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """Give the budget to BLAS and torch: dask runs synchronously."""
    import sys

    import dask
    from threadpoolctl import threadpool_limits

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(max(1, threads))
    with threadpool_limits(limits=max(1, threads)), dask.config.set(scheduler="synchronous"):
        yield


def generator(seed: int, *names: str) -> np.random.Generator:
    """A NumPy generator for ``seed``; further names give independent streams of the same seed."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def choose_device(wanted: str = "auto") -> str:
    """``auto`` becomes ``cuda`` where a GPU is usable, else ``cpu``; other names pass through."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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
