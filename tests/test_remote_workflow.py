"""A session on the web through the workflow: planned without a network, ingested from a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from driftwave.address import REMOTE_MEGABYTES
from driftwave.config import Config, parse_params
from driftwave.ingest.simulate import lorenz
from driftwave.preflight import problems
from driftwave.store import open_tree, verify_store
from driftwave.workflow_plan import Plan
from range_server import RangeServer
from workflow_project import CONFIG, Project, make_project

pytest_plugins = ("remote_cases",)
pytestmark = pytest.mark.usefixtures("nwb_cache")

NOWHERE = "https://nowhere.invalid/a.nwb"
ASKED: dict[str, Any] = CONFIG | {
    "simulations": {},
    "models": {"smoothing": CONFIG["models"]["smoothing"]},
}


def plan_of(tmp_path: Path, *rows: str, **changes: Any) -> Plan:
    table = tmp_path / "sessions.tsv"
    heads = "session\tnwb\tlayout\tsha256\tmegabytes"
    table.write_text("\n".join([heads, *rows]) + "\n")
    layouts = str(Path(__file__).resolve().parents[1] / "config" / "layouts")
    return Plan.read(ASKED | {"sessions": str(table), "layouts": layouts, **changes})


def test_an_address_is_planned_without_asking_its_server(tmp_path: Path) -> None:
    rows = (f"far\t{NOWHERE}\tlorenz\t\t", "dandi\tdandi:000140/a.nwb\tlorenz\t\t1200")
    plan = plan_of(tmp_path, *rows, absent="skip")
    assert not plan.left_out
    assert not list(problems(plan))
    assert plan.nwb("far") == NOWHERE
    assert plan.megabytes("far") == REMOTE_MEGABYTES
    assert plan.megabytes("dandi") == 1200
    assert next(job for job in plan.jobs("far") if job.stage == "ingest").inputs == ()
    assert plan.remote_options("far") == ["--remote", "auto"]
    other = plan_of(tmp_path, *rows, remote="ranges", cache="/scratch/nwb")
    assert other.remote_options("far") == ["--remote", "ranges", "--cache", "/scratch/nwb"]


def test_a_local_file_is_still_looked_for(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "near\tnear.nwb\tlorenz\t\t")
    assert [str(p) for p in problems(plan) if "no file" in str(p)]
    assert plan.remote_options("near") == []
    left = plan_of(
        tmp_path, "near\tnear.nwb\tlorenz\t\t", f"far\t{NOWHERE}\tlorenz\t\t", absent="skip"
    )
    assert list(left.left_out) == ["near"]


def test_the_configuration_knows_three_ways() -> None:
    assert Config.model_validate(ASKED).remote == "auto"
    with pytest.raises(ValueError, match="remote"):
        Config.model_validate(ASKED | {"remote": "lazy"})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("remote") / "project")


@pytest.mark.slow
def test_a_remote_session_runs_and_runs_again_when_its_address_changes(
    project: Project,
    server: RangeServer,
    tmp_path: Path,
) -> None:
    path = tmp_path / "lorenz.nwb"
    params = CONFIG["simulations"]["lorenz"]["params"]
    lorenz.simulate(path, parse_params(lorenz, params, "lorenz"), seed=0)
    url = server.serve("/lorenz.nwb", path.read_bytes())
    other = server.serve("/moved.nwb", path.read_bytes())
    store = "results/far/recording.zarr"

    project.configure(ASKED, f"far\t{url}\tlorenz\t\t")
    assert f"Ingest {url}" in project.planned(store)
    assert server.asked == []
    project.snakemake(store)
    made = open_tree(project.folder / store)
    assert made.attrs["source_file"] == url
    assert made.attrs["source_sha256"] == "not computed: read in ranges"
    assert verify_store(project.folder / store) == []
    asked = len(server.asked)
    assert project.planned(store) == []
    project.configure(ASKED, f"far\t{other}\tlorenz\t\t")
    assert project.planned(store) == [f"Ingest {other}"]
    assert len(server.asked) == asked

    project.configure(ASKED, f"far\t{server.address}/missing.nwb\tlorenz\t\t")
    failed = project.snakemake(store, "--retries", "0", check=False)
    assert failed.returncode
    assert "missing.nwb: file: found no such file (HTTP 404" in failed.stdout
