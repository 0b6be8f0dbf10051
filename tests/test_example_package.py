"""The example package: installed from its folder, found by its entry points, run in a workflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from driftwave.store import open_dataset, verify_store
from workflow_project import CONFIG, Project, make_project

EXAMPLE = ROOT / "examples" / "driftwave-mylab"
WANTED = (
    "results/mine/scores/mylab_mean.tsv",
    "results/mine/geometry/mylab_spread/mylab_mean.zarr",
    "results/mine/geometry/mylab_spread/recording.zarr",
)
pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that the package was installed into; the environment stays as it is."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("mylab")
    # Building leaves files beside the source.
    ignore = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(EXAMPLE, folder / "source", ignore=ignore)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    answer = run(
        "-m", "pip", "install", *options, "--target", str(folder / "site"), str(folder / "source"),
        cwd=folder, path=folder / "site",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout
    return folder / "site"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The workflow with the lab's plug-ins in its configuration, and without its layouts."""
    made = make_project(tmp_path_factory.mktemp("uses") / "project")
    shutil.rmtree(made.folder / "config" / "layouts")
    config = CONFIG | {
        "simulations": {"mine": CONFIG["simulations"]["lorenz"]},
        "models": {"mylab_mean": {"params": {"prior": 50}}},
        "geometry": {"mylab_spread": {"params": {"shuffles": 19}}},
    }
    made.configure(config, "mine\tmine.nwb\tmylab\t\tfit,manifold")
    return made


def snakemake(
    project: Project, installed: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """As :meth:`Project.snakemake`, in an environment that has the package as well."""
    scripts = Path(sys.executable).parent
    path = os.pathsep.join([str(project.folder / "src"), str(installed)])
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=project.folder,
        env=os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def planned(project: Project, installed: Path) -> str:
    answer = snakemake(project, installed, "--dry-run", *WANTED)
    assert answer.returncode == 0, answer.stdout
    return answer.stdout


def test_its_plugins_are_listed(installed: Path) -> None:
    listed = {
        kind: run("-m", "driftwave.cli", "list", kind, cwd=installed, path=installed).stdout
        for kind in ("models", "manifolds", "layouts")
    }
    assert "mylab_mean               Mean course of training trials" in listed["models"]
    assert "(driftwave_mylab)" in listed["models"]
    assert "mylab_spread             Distance between condition averages" in listed["manifolds"]
    layout = installed / "driftwave_mylab" / "layouts" / "mylab.yaml"
    assert f"mylab                    {layout}" in listed["layouts"]


def test_its_own_tests_pass(installed: Path) -> None:
    tests = EXAMPLE / "tests" / "test_plugins.py"
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", str(installed))
    answer = run("-m", "pytest", *options, str(tests), cwd=installed, path=installed)
    assert answer.returncode == 0, answer.stdout
    assert "4 passed" in answer.stdout


def test_the_workflow_runs_them_and_reruns_what_their_code_changes(
    installed: Path, project: Project
) -> None:
    answer = snakemake(project, installed, *WANTED)
    assert answer.returncode == 0, answer.stdout[-6000:]
    for path in WANTED[1:]:
        assert verify_store(project.folder / path) == []
    found = open_dataset(project.folder / WANTED[2])
    assert float(found["p_value"]) == pytest.approx(1 / 20)
    assert "co_bps" in (project.folder / WANTED[0]).read_text()
    assert "Nothing to be done" in planned(project, installed)
    package = installed / "driftwave_mylab"
    model, helper, analysis = (package / f"{n}.py" for n in ("model", "rates", "analysis"))
    # A comment is no change; a module that the plug-in imports by a relative import is.
    model.write_text(model.read_text() + "\n# a comment\n")
    assert "Nothing to be done" in planned(project, installed)
    text = helper.read_text()
    helper.write_text(text.replace("counts.mean(axis=0) / bin_width", "counts.mean(0) / bin_width"))
    told = planned(project, installed)
    assert "Fit mylab_mean to mine" in told
    assert "Ingest" not in told
    helper.write_text(text)
    assert "Nothing to be done" in planned(project, installed)
    analysis.write_text(analysis.read_text().replace("linalg.norm", "linalg. norm") + "\nX = 1\n")
    told = planned(project, installed)
    assert "Fit mylab_mean" not in told
    assert "mylab_spread" in told


def test_without_the_package_the_workflow_says_what_is_missing(project: Project) -> None:
    answer = project.snakemake("--dry-run", check=False)
    assert answer.returncode == 1
    assert "found 'mylab_mean', which is no models plug-in" in answer.stdout
    assert "Traceback" not in answer.stdout
