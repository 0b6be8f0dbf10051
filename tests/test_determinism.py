"""Same configuration and seed, same results: on one thread or two, whatever Python's hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info

from driftwave import registry
from driftwave.compute import ARITHMETIC, blas_threads, dask_threads
from driftwave.contract.analyses import ANALYSES, AnalysisContract, example_model
from driftwave.contract.common import quick_params
from driftwave.contract.models import ModelContract
from driftwave.errors import InputError
from driftwave.provenance import COSTS, ledger

# The cheapest at every run; all of them in the slow tests.
QUICK_MODELS = ("smoothing", "factor_analysis")
QUICK_ANALYSES = (("decoding", "ridge"), ("manifolds", "pca"))


def fitted(name: str, threads: int) -> xr.Dataset:
    contract = ModelContract(registry.load("models", name))
    params = quick_params(contract.module)
    options: dict[str, Any] = {"seed": 3, "device": "cpu", "progress": None, "checkpoint": None}
    with blas_threads(threads):
        fit = contract.module.fit(contract.recording, params, **options)
        return fit.infer(contract.recording)


def analysed(kind: str, name: str, threads: int) -> xr.Dataset:
    contract = AnalysisContract(registry.load(kind, name), kind)
    params = quick_params(contract.module)
    recording = example_model("field" if kind == "waves" else "spikes").recording
    with dask_threads(threads):
        return contract.module.analyse(recording, None, params, seed=3).compute()


def check_same(first: xr.Dataset, second: xr.Dataset) -> None:
    """Identical, values and attributes, apart from what they cost."""
    costs = (*COSTS, "seconds")
    one, two = (d.assign_attrs({k: 0 for k in costs if k in d.attrs}) for d in (first, second))
    xr.testing.assert_identical(one, two)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK_MODELS else pytest.mark.slow)
        for name in registry.plugins("models")
    ],
)
def test_a_model_is_the_same_on_one_thread_and_two(name: str) -> None:
    check_same(fitted(name, 1), fitted(name, 2))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(
            kind,
            name,
            id=f"{kind}-{name}",
            marks=() if (kind, name) in QUICK_ANALYSES else pytest.mark.slow,
        )
        for kind in ANALYSES
        for name in registry.plugins(kind)
    ],
)
def test_an_analysis_is_the_same_on_one_thread_and_two(kind: str, name: str) -> None:
    check_same(analysed(kind, name, 1), analysed(kind, name, 2))


def test_the_budget_does_not_decide_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    # On two threads OpenBLAS adds in another order, which shows in products of this size.
    left, right = (np.random.default_rng(i).normal(size=(700, 700)) for i in range(2))
    products = []
    for threads in (1, 2, 4):
        with blas_threads(threads):
            products.append(left @ right)
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert all(np.array_equal(products[0], product) for product in products)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # as Snakemake does for a job of four threads
    for budget in (blas_threads, dask_threads):
        with budget(4):
            assert os.environ["OMP_NUM_THREADS"] == "1"  # for what is imported later
        assert os.environ["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv(ARITHMETIC, "2")
    with ledger("fit") as kept, blas_threads(1):
        assert kept.described == {"threads": 1, "arithmetic_threads": 2}
    monkeypatch.setenv(ARITHMETIC, "many")
    with pytest.raises(InputError, match="found many"), blas_threads(1):
        pass


HASHED = """
import sys
from driftwave.contract.analyses import AnalysisContract, example_model
from driftwave.contract.models import ModelContract
from driftwave import registry
from driftwave.provenance import content_id
from driftwave.store import write_tree
from conftest import make_recording
from pathlib import Path
out = Path(sys.argv[1])
write_tree(make_recording(), out / "recording.zarr")
write_tree(ModelContract(registry.load("models", "factor_analysis")).inferred, out / "latents.zarr")
for kind, name in (("decoding", "ridge"), ("manifolds", "pca"), ("encoding", "neural_factors")):
    found = AnalysisContract(registry.load(kind, name), kind).result(of_model=False)
    write_tree(found, out / f"{name}.zarr")
print(sorted((path.name, content_id(path)) for path in out.glob("*.zarr")))
"""


@pytest.mark.slow
def test_the_hash_seed_of_python_does_not_matter(tmp_path: Path) -> None:
    told = set()
    for seed in ("0", "17"):
        answer = subprocess.run(
            [sys.executable, "-c", HASHED, str(tmp_path / seed)],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(answer.stdout.splitlines()[-1])
    assert len(told) == 1
    assert told.pop().count(".zarr") == 5
