"""The rules of decoders, geometry, encoding, activations, groups and connectomes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from driftwave.store import open_dataset
from workflow_project import CONFIG, Project, make_project

TOY = '''"""A toy."""

from pydantic import BaseModel, ConfigDict

DECODES = "both"


class Params(BaseModel):
    """Parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    scale: float = 1.0


def analyse(recording, latents, params, *, seed):
    """Mean count of each unit, scaled."""
    data = recording["spikes/counts"] if latents is None else latents["rate"]
    mean = params.scale * data.mean(["trial", "time"])
    return mean.rename("toy_mean").assign_attrs(units="1").to_dataset()
'''
FIGURE = '''"""A toy."""

STAGE = "{stage}"
RESULTS = "{results}"
DECODER = GEOMETRY = "toy"
EACH = {each}


def draw(recording, results):
    """Draw the names of what is handed over."""
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0.5, 0.5, " ".join(results))
    return figure
'''
FIGURES = {
    "toy_decoders": ("decoding", "decoders", True),
    "toy_geometry": ("manifold", "geometry", True),
    "toy_encoding": ("encoding", "encoding", True),
    "toy_group": ("alignment", "group", False),
    "toy_both": ("encoding", "both_sides", False),
    "toy_connectome": ("connectome", "connectome", False),
}
ASKED: dict[str, Any] = CONFIG | {
    "simulations": {
        name: CONFIG["simulations"]["lorenz"] | {"seed": seed}
        for seed, name in enumerate(("one", "two"))
    },
    "models": {"smoothing": CONFIG["models"]["smoothing"]},
    "decoders": {"toy": {}, "toy_half": {"plugin": "toy", "params": {"scale": 0.5}}},
    "geometry": {"toy": {}},
    "encoding": {"plugin": "toy"},
}
ROWS = ("one\tone.nwb\tlorenz\t\t", "two\ttwo.nwb\tlorenz\t\tdecode,manifold")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the workflow with a toy of each kind of plug-in."""
    made = make_project(tmp_path_factory.mktemp("rules") / "project")
    package = made.folder / "src" / "driftwave"
    for kind in ("decoding", "manifolds", "encoding"):
        (package / kind / "toy.py").write_text(TOY)
    for name, (stage, results, each) in FIGURES.items():
        text = FIGURE.format(stage=stage, results=results, each=each)
        (package / "figures" / f"{name}.py").write_text(text)
    return made


def plan_of(project: Project) -> list[dict[str, Any]]:
    """The jobs that the copy's own package plans."""
    script = """
import dataclasses, json, yaml
from driftwave.preflight import checked_plan
plan = checked_plan(yaml.safe_load(open("config/config.yaml")))
print(json.dumps([dataclasses.asdict(job) for job in plan.all_jobs()]))
"""
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": str(project.folder / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout)


@pytest.mark.slow
def test_every_planned_job_is_a_rule_with_its_log(project: Project) -> None:
    more = {
        "models": {"smoothing": {}, "ndt": {}},
        "activations": {"hidden": {"model": "ndt"}, "file": {"path": "{session}.zarr"}},
        "groups": {"pair": {"sessions": ["one", "two"]}},
        "connectome": {},
    }
    for session in ("one", "two"):
        (project.folder / "results" / "simulated" / f"{session}.zarr").mkdir(parents=True)
    project.configure(ASKED | more, *ROWS)
    planned = plan_of(project)
    answer = project.snakemake("--dry-run", "--printshellcmds")
    told = re.findall(r"^Shell command: driftwave (.*) --log (\S+)", answer.stdout, re.MULTILINE)
    of = {log: command for command, log in told}
    assert sorted(log for _, log in told) == sorted(job["log"] for job in planned)
    decoded = of["results/one/logs/decoders.toy_half.smoothing.log"]
    assert decoded.startswith("decode results/one/recording.zarr --plugin toy --latents ")
    assert """--params '{"scale": 0.5}'""" in decoded
    aligned = of["results/groups/logs/align.pair.log"]
    assert "align one=results/one/recording.zarr two=results/two/recording.zarr" in aligned
    assert "--encoding one=results/one/encoding/recording.zarr" in aligned
    assert "--encoding two" not in aligned
    assert "--fit results/one/models/ndt/fit" in of["results/one/logs/activations.hidden.log"]
    assert "--file results/simulated/one.zarr" in of["results/one/logs/activations.file.log"]
    drawn = of["results/one/logs/figure.toy_both.log"]
    assert "--result encoding=results/one/encoding/recording.zarr" in drawn


@pytest.mark.slow
def test_further_analyses_run_and_their_figures_are_drawn(project: Project) -> None:
    """Real plug-ins, and those that another lab would write, through the workflow's own rules."""
    from driftwave.alignment import compare
    from driftwave.encoding import neural_factors
    from driftwave.manifolds import embedding

    more = {
        "decoders": {"lda": {"params": {"shuffles": 19}}},
        "geometry": {"toy": {}, "embedding": {"params": embedding.QUICK}},
        "encoding": {"plugin": "neural_factors", "params": neural_factors.QUICK},
        "groups": {"pair": {"sessions": ["one", "two"], "params": compare.QUICK}},
    }
    project.configure(ASKED | more, *ROWS)
    wanted = [
        "results/one/decoders/lda/smoothing.zarr",
        "results/one/geometry/embedding/smoothing.zarr",
        "results/one/figures/toy_geometry.toy.smoothing.png",
        "results/one/figures/toy_encoding.recording.png",
        "results/one/figures/toy_both.png",
        "results/groups/pair.zarr",
    ]
    grouped = [job for job in plan_of(project) if job["stage"] == "group_figure"]
    project.snakemake(*wanted, *grouped[-1]["outputs"])
    for path in wanted:
        assert (project.folder / path).exists()
    compared = open_dataset(project.folder / "results" / "groups" / "pair.zarr")
    assert list(compared["session"].values) == ["one", "two"]
    decoded = open_dataset(project.folder / wanted[0])
    assert list(decoded["stimulus"].values) == ["condition"]
