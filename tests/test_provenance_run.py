"""A whole run: the same on one thread and two, told at its end, and described as an RO-Crate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from driftwave.contents import sha256_of
from driftwave.errors import DriftwaveError, InputError
from driftwave.provenance import content_id
from driftwave.provenance_chain import chain
from driftwave.store import open_tree
from workflow_project import CONFIG, Project, make_project

pytestmark = pytest.mark.slow
SIMULATION = CONFIG["simulations"]["lorenz"]["params"]
RUN = {k: v for k, v in CONFIG.items() if k not in ("simulations", "models")}
RUN |= {
    "data_root": "data",
    "models": {"factor_analysis": {"params": {"factors": [3], "iterations": 30, "folds": 2}}},
}
# What the second run makes: a table, and figures of stores.
AGAIN = [
    "results/lorenz/comparison.tsv",
    "results/lorenz/figures/rates.png",
    "results/lorenz/figures/recording.png",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Project, str]:
    """Two runs of one file, on one thread and two with other hash seeds; what the first said."""
    folder = tmp_path_factory.mktemp("runs")
    nwb = folder / "lorenz.nwb"
    driftwave(folder, "simulate", "lorenz", "--params", json.dumps(SIMULATION), "--out", str(nwb))
    made = []
    for threads in (1, 2):
        project = make_project(folder / f"threads{threads}")
        (project.folder / "data").mkdir()
        shutil.copy(nwb, project.folder / "data")
        project.configure(RUN | {"threads": threads}, "lorenz\tlorenz.nwb\tlorenz\t\tfit")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONHASHSEED", str(threads))
            said = project.snakemake(*(AGAIN if made else ())).stdout
        made.append((project, said))
    return made[0][0], made[1][0], made[0][1]


def driftwave(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "driftwave.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)


def results(project: Project) -> dict[str, str]:
    """Identity of each store, table and figure, costs apart; of logs and records there is none."""
    root = project.folder / "results"
    found = {}
    for path in sorted(root.rglob("*")):
        inside = [p for p in path.parents if p.suffix == ".zarr"]
        if path.suffix == ".zarr" or (path / "provenance.json").is_file():
            found[str(path.relative_to(root))] = content_id(path)
        elif path.suffix == ".tsv" and not inside:
            rows = [r for r in path.read_text().splitlines() if "_seconds" not in r]
            found[str(path.relative_to(root))] = "\n".join(rows)
        elif path.suffix in (".png", ".svg") and not inside:
            found[str(path.relative_to(root))] = sha256_of(path)
    return {k: v for k, v in found.items() if "benchmarks" not in k and "summary" not in k}


def test_a_run_is_the_same_on_one_thread_and_two(runs: tuple[Project, Project, str]) -> None:
    one, two = results(runs[0]), results(runs[1])
    assert {Path(name).suffix for name in two} == {".zarr", ".tsv", ".png", ".svg", ""}
    assert len(two) == 9
    assert {name: one[name] for name in two} == two
    latents = [p.folder / "results/lorenz/models/factor_analysis/latents.zarr" for p in runs[:2]]
    told = [json.loads(open_tree(path).attrs["provenance"]) for path in latents]
    assert [record["threads"] for record in told] == [1, 2]
    assert told[0]["id"] == told[1]["id"]


def test_the_end_of_a_run_is_told_and_not_that_of_a_dry_run(
    runs: tuple[Project, Project, str],
) -> None:
    project, _, said = runs
    assert "See results/summary.html" in said
    assert " done." in said
    assert (project.folder / "results" / "summary.sessions.tsv").is_file()
    assert "summary.html" not in project.snakemake("--dry-run", "--forceall").stdout


def test_every_result_of_a_run_leads_back_to_its_file(runs: tuple[Project, Project, str]) -> None:
    root = runs[0].folder / "results"
    assert len(results(runs[0])) > 8
    for name in results(runs[0]):
        links = list(chain(root / name).walk())
        assert {link.state for link in links} == {"unchanged"}, name
        assert "lorenz.nwb" in {link.path.name for link in links}, name


def entities(crate: Path) -> dict[str, dict[str, Any]]:
    text = (crate / "ro-crate-metadata.json").read_text()
    return {entity["@id"]: entity for entity in json.loads(text)["@graph"]}


def references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(references, value)) if value else set()
    return {value["@id"]} if isinstance(value, dict) and "@id" in value else set()


def test_a_run_is_described_as_a_crate(runs: tuple[Project, Project, str], tmp_path: Path) -> None:
    from rocrate.rocrate import ROCrate

    project = runs[0].folder
    for out in (tmp_path / "crate", tmp_path / "crate.zip"):
        driftwave(project, "crate", "results", "--out", str(out))
        crate = ROCrate(out)
        assert crate.mainEntity.id == "Snakefile"
        profiles = {
            entity.id.rpartition("/wfrun/")[2] for entity in crate.root_dataset["conformsTo"]
        }
        assert {"process/0.6", "workflow/0.6", "provenance/0.6"} <= profiles
    described = entities(tmp_path / "crate")
    for entity in described.values():
        for value in entity.values():
            lost = {i for i in references(value) if i not in described and "://" not in i}
            assert not lost, f"{entity['@id']} refers to {lost}"
        kinds = entity["@type"]
        if "File" in kinds and not entity["@id"].startswith("#"):
            assert (tmp_path / "crate" / entity["@id"]).is_file()
    fit = described["#job-lorenz-fit-factor_analysis"]
    assert fit["@type"] == "CreateAction"
    assert fit["startTime"] <= fit["endTime"]
    assert fit["actionStatus"].endswith("CompletedActionStatus")
    tool = described[fit["instrument"]["@id"]]
    assert tool["name"] == "driftwave fit"
    assert any(line.startswith("numpy ") for line in tool["softwareRequirements"])
    ingest = described["#job-lorenz-ingest"]
    read = references(ingest["object"])
    nwb = described[next(name for name in read if name.endswith(".nwb"))]
    assert nwb["sha256"] == sha256_of(project / "data" / "lorenz.nwb")
    whole = described["#run"]
    assert whole["instrument"] == {"@id": "Snakefile"}
    assert "config/config.yaml" in references(whole["object"])
    assert references(ingest["result"]) <= references(whole["result"])
    assert not list((tmp_path / "crate").rglob("*.zarr"))


def test_a_crate_is_refused_where_it_cannot_be(
    runs: tuple[Project, Project, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from driftwave.crate import write_crate

    monkeypatch.chdir(runs[0].folder)
    (tmp_path / "taken").write_text("x")
    with pytest.raises(InputError, match="something there"):
        write_crate("results", tmp_path / "taken")
    with pytest.raises(InputError, match="no such file"):
        write_crate("results", tmp_path / "a", config="nothing.yaml")
    with pytest.raises(DriftwaveError, match="no job"):
        write_crate(tmp_path / "empty", tmp_path / "a")
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    with pytest.raises(DriftwaveError, match=r"install driftwave\[crate\]"):
        write_crate("results", tmp_path / "a")
    assert not os.path.lexists(tmp_path / "a")
