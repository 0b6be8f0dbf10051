"""Tasks of one job on the workers of a dask scheduler: the same results, and clear refusals."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr

from conftest import make_field_recording, make_recording
from driftwave.cli import cli
from driftwave.compute import dask_threads
from driftwave.config import parse_config
from driftwave.dask_scheduler import asked_scheduler
from driftwave.dask_settings import VARIABLE
from driftwave.errors import DriftwaveError, InputError
from driftwave.recording import open_recording
from driftwave.store import write_tree
from workflow_project import CONFIG, make_project


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of a scheduler with two workers in processes of their own."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        assert cluster.scheduler_address.startswith("tcp://")
        yield cluster.scheduler_address


def ask(monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps(settings))


def waves(folder: Path) -> xr.Dataset:
    """Waves with surrogates, of a field that is read chunk by chunk."""
    from driftwave.waves import plane_fit

    params = plane_fit.Params(surrogates=9)
    with dask_threads(2):
        return plane_fit.analyse(open_recording(folder), None, params, seed=1).load()


def encoding(folder: Path) -> xr.Dataset:
    """A permuted tensor factorisation."""
    from driftwave.encoding import neural_factors

    params = neural_factors.Params(**neural_factors.QUICK)
    with dask_threads(2):
        return neural_factors.analyse(open_recording(folder), None, params, seed=1).load()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["waves", "encoding"])
def test_workers_find_what_threads_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, kind: str
) -> None:
    made = make_field_recording(seconds=8.0) if kind == "waves" else make_recording()
    write_tree(made, tmp_path / "recording.zarr", facts={"stage": "ingest"})
    analyse = {"waves": waves, "encoding": encoding}[kind]
    here = analyse(tmp_path / "recording.zarr")
    ask(monkeypatch, scheduler=address)
    ran = _tasks(address)
    there = analyse(tmp_path / "recording.zarr")
    assert _tasks(address) > ran, "nothing ran on the workers"
    if kind == "waves":
        xr.testing.assert_identical(here, there)
    else:
        # Arrays that have travelled lie at other addresses, and BLAS sums as alignment allows.
        xr.testing.assert_allclose(here, there, rtol=1e-9)


def _tasks(address: str) -> int:
    """What the scheduler has done so far: grows with every task, not with a client alone."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        return client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)


def test_an_address_that_does_not_answer_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    ask(monkeypatch, scheduler="tcp://127.0.0.1:1", timeout=1.0)
    with (
        pytest.raises(InputError, match=r"dask\.scheduler: found no answer from tcp://127.0.0.1:1"),
        dask_threads(1),
    ):
        pass


def test_a_scheduler_without_workers_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=0, protocol="tcp://", processes=False, dashboard_address=":0"
    ) as cluster:
        ask(monkeypatch, scheduler=cluster.scheduler_address, timeout=0.5)
        with (
            pytest.raises(InputError, match=r"found no worker of tcp://.* Start `dask worker`"),
            dask_threads(1),
        ):
            pass


@pytest.mark.parametrize(
    ("package", "scheduler"), [("distributed", "tcp://a:1"), ("dask_jobqueue", "slurm")]
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, scheduler: str
) -> None:
    if package == "dask_jobqueue":
        pytest.importorskip("distributed")
    monkeypatch.setitem(sys.modules, package, None)
    ask(monkeypatch, scheduler=scheduler)
    with (
        pytest.raises(InputError, match=r"is not installed, expected .*driftwave\[dask\]"),
        dask_threads(1),
    ):
        pass


def test_stages_choose_and_ingest_never_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_scheduler("waves") is None
    ask(monkeypatch, scheduler="tcp://a:1", stages=["waves"])
    assert asked_scheduler("waves") is not None
    assert asked_scheduler("decode") is None
    ask(monkeypatch, scheduler="tcp://a:1")
    assert asked_scheduler("ingest") is None
    ask(monkeypatch, scheduler="threads")
    assert asked_scheduler("waves") is None
    monkeypatch.setenv(VARIABLE, '{"scheduler": "udp://a"}')
    with pytest.raises(InputError, match="environment variable DRIFTWAVE_DASK: scheduler: found"):
        asked_scheduler("waves")


def test_stages_are_commands() -> None:
    from typing import get_args

    from driftwave.dask_settings import DaskStage

    assert set(get_args(DaskStage)) <= set(cli.commands)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scheduler": "moon"}, r"dask\.scheduler: found 'moon'"),
        ({"scheduler": "threads", "workers": 3}, r"workers only with scheduler: slurm"),
        ({"scheduler": "slurm", "stages": ["ingest"]}, r"dask\.stages\.0: found 'ingest'"),
        ({"scheduler": "slurm", "memory": "4GB; rm -rf ~"}, r"dask\.memory: found"),
    ],
)
def test_wrong_settings_are_named_by_their_key(asked: dict[str, object], said: str) -> None:
    with pytest.raises(DriftwaveError, match=said):
        parse_config({"models": {}, "dask": asked})


@pytest.mark.parametrize("asked", [{}, {"scheduler": "slurm", "workers": 3}])
def test_settings_survive_their_text(asked: dict[str, object]) -> None:
    """The summary reads the whole configuration as Snakemake wrote it down."""
    config = parse_config({"models": {}, "dask": asked})
    assert parse_config(json.loads(config.model_dump_json())) == config


def test_the_workflow_hands_the_settings_to_every_job_and_reruns_none(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    rows = ("lorenz\tlorenz.nwb\tlorenz\t\tfit",)
    one = CONFIG | {"models": {"smoothing": CONFIG["models"]["smoothing"]}}
    project.configure(one | {"dask": {"scheduler": "slurm", "workers": 3}}, *rows)
    assert json.loads(project.plan().dask_settings()) == {
        "scheduler": "slurm",
        "workers": 3,
        "logs": "results/logs/dask",
    }
    log = project.folder / "results" / "simulated" / "logs" / "simulate.lorenz.log"
    project.snakemake("results/simulated/lorenz.nwb", "--verbose")
    assert log.exists()
    project.configure(one, *rows)
    assert project.planned("results/simulated/lorenz.nwb") == []
