"""What whole, checked and traceable stores cost: writing, identity, opening, reading.

.venv/bin/python benchmarks/stores.py [--megabytes 100] [--repeats 5]

Random float32, which does not compress, in a store of one variable; medians, CPU seconds of one
process. The peer is the same zarr store written and read by xarray alone, without list of contents,
identity and record.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from driftwave.compute import blas_threads
from driftwave.provenance import content_id, git_state, packages
from driftwave.store import open_dataset, write_tree


def median_cpu(job: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of a job."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        job()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    values = np.random.default_rng(0).standard_normal(
        (options.megabytes * 250, 1000), dtype=np.float32
    )
    data = xr.Dataset({"lfp": (("time", "electrode"), values, {"units": "uV"})})
    began = time.process_time()
    git_state(), packages()
    once = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder, blas_threads(1):
        ours, plain = Path(folder) / "ours.zarr", Path(folder) / "plain.zarr"
        encoding = {"lfp": {"chunks": (8000, 1000)}}

        def write_plain() -> None:
            data.to_zarr(plain, mode="w", zarr_format=3, encoding=encoding)

        def open_plain() -> xr.Dataset:
            return xr.open_zarr(plain, chunks=None)

        rows = {
            "write": (lambda: write_tree(data, ours), write_plain),
            "open": (lambda: open_dataset(ours), open_plain),
            "open and read": (lambda: open_dataset(ours).load(), lambda: open_plain().load()),
        }
        print(f"{options.megabytes} MB; commit and versions, once in a job: {once:.3f} s")
        print(f"{'':16s}{'ours':>8s}{'xarray':>8s}{'ratio':>8s}")
        for name, (mine, theirs) in rows.items():
            a, b = median_cpu(mine, options.repeats), median_cpu(theirs, options.repeats)
            print(f"{name:16s}{a:8.3f}{b:8.3f}{a / b:8.2f}")
        print(f"{'identity':16s}{median_cpu(lambda: content_id(ours), options.repeats):8.3f}")


if __name__ == "__main__":
    main()
