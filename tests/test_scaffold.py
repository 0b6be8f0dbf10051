"""``driftwave new``: what it writes works as it is, in this repository and in another package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from driftwave.cli import main
from driftwave.contract import check_layout
from driftwave.errors import DriftwaveError
from driftwave.scaffold.write import write_plugin

WRITTEN = [
    ("model", None),
    ("analysis", None),
    ("analysis", "decoding"),
    ("analysis", "encoding"),
    ("analysis", "waves"),
    ("figure", None),
    ("layout", None),
]
PYPROJECT = '[project]\nname = "{name}"\n'
RUFF = ["--isolated", "--line-length", "100", "--target-version", "py311"]
RUFF_RULES = ["--select", "E,F,W,I,B,UP,NPY,PD,RUF,SIM,C4,PT,ARG", "--ignore", "RUF002,PD011"]


@pytest.fixture
def mylab(tmp_path: Path) -> Path:
    """Another package, without any plug-in."""
    package = tmp_path / "mylab-repository" / "src" / "mylab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package.parents[1] / "pyproject.toml").write_text(PYPROJECT.format(name="mylab"))
    return package


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of driftwave, as far as `new` looks at it."""
    folder = tmp_path / "driftwave"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT.format(name="driftwave"))
    return folder


def ruff(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ruff", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


def pytest_in(folder: Path, *paths: str) -> subprocess.CompletedProcess[str]:
    """Run tests there as their author would."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths],
        cwd=folder,
        env=os.environ | single | {"PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def written_everywhere(package: Path) -> list[Path]:
    """All there is to write, in another package."""
    paths = []
    for what, kind in WRITTEN:
        name = f"my_{kind or what}"
        paths += write_plugin(what, name, kind, package, package)[0]
    return paths


@pytest.mark.slow
def test_what_is_written_passes_its_tests(mylab: Path) -> None:
    written_everywhere(mylab)
    answer = pytest_in(mylab.parents[1])
    assert answer.returncode == 0, answer.stdout
    assert f"{len(WRITTEN) + 1} passed" in answer.stdout


def test_what_is_written_satisfies_the_linter(mylab: Path, checkout: Path) -> None:
    written_everywhere(mylab)
    own = [write_plugin(what, f"my_{kind or what}", kind, None, checkout) for what, kind in WRITTEN]
    assert own
    known = 'lint.isort.known-first-party=["driftwave"]'
    for folder, config in ((mylab.parents[1], 'src=["src"]'), (checkout, known)):
        checked = ruff("check", "--config", config, *RUFF, *RUFF_RULES, ".", cwd=folder)
        assert checked.returncode == 0, checked.stdout
        formatted = ruff("format", "--check", "--diff", *RUFF[:3], ".", cwd=folder)
        assert formatted.returncode == 0, formatted.stdout


def test_places_in_this_repository(checkout: Path) -> None:
    paths, told = write_plugin("model", "mine", None, None, checkout)
    assert [p.relative_to(checkout).as_posix() for p in paths] == [
        "src/driftwave/models/mine.py",
        "tests/test_mine.py",
    ]
    assert "models:\n      mine: {}" in told
    assert "entry-points" not in told
    paths, _ = write_plugin("figure", "drawn", None, None, checkout)
    assert checkout / "workflow" / "report" / "drawn.rst" in paths
    below = checkout / "docs"
    below.mkdir()
    paths, _ = write_plugin("layout", "lab", None, None, below)
    assert paths[0] == checkout / "config" / "layouts" / "lab.yaml"
    check_layout(paths[0])


def test_another_package_is_told_its_entry_point(mylab: Path) -> None:
    paths, told = write_plugin("analysis", "mine", "decoding", mylab, mylab)
    assert paths == [mylab / "mine.py", mylab.parents[1] / "tests" / "test_mine.py"]
    assert '[project.entry-points."driftwave.decoding"]\n    mine = "mylab.mine"' in told
    assert "decoders:\n      mine: {}" in told
    below = mylab / "analyses"
    _, told = write_plugin("analysis", "other", None, below, mylab)
    assert 'other = "mylab.analyses.other"' in told
    _, told = write_plugin("layout", "lab", None, mylab, mylab)
    assert 'lab = "mylab.layouts"' in told
    assert (mylab / "layouts" / "lab.yaml").is_file()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smoothing", "which there is already"),
        ("class", "a word of Python"),
        ("match", "a word of Python"),
        ("My", "found 'My', expected a new Python identifier"),
        ("my-model", "Use a-z, 0-9 and _"),
        ("../up", "Use a-z, 0-9 and _"),
        ("2nd", "a letter first"),
        ("", "a letter first"),
        ("x" * 61, "at most 60"),
    ],
)
def test_a_bad_name_is_refused(mylab: Path, name: str, said: str) -> None:
    with pytest.raises(DriftwaveError, match=said):
        write_plugin("model", name, None, mylab, mylab)
    assert sorted(p.name for p in mylab.parents[1].rglob("*.py")) == ["__init__.py"]


def test_nothing_is_overwritten(mylab: Path) -> None:
    test = mylab.parents[1] / "tests" / "test_mine.py"
    test.parent.mkdir()
    test.write_text("mine\n")
    with pytest.raises(DriftwaveError, match=r"test_mine.py: mine: found a file, expected none"):
        write_plugin("model", "mine", None, mylab, mylab)
    assert test.read_text() == "mine\n"
    assert not (mylab / "mine.py").exists()


def test_a_wrong_kind_or_no_package_is_told(mylab: Path, tmp_path: Path) -> None:
    with pytest.raises(DriftwaveError, match="--kind: found 'models', expected one of manifolds"):
        write_plugin("analysis", "mine", "models", mylab, mylab)
    with pytest.raises(DriftwaveError, match="found the project 'mylab', expected the folder"):
        write_plugin("model", "mine", None, None, mylab)
    with pytest.raises(DriftwaveError, match=r"no pyproject\.toml here"):
        write_plugin("model", "mine", None, None, tmp_path)
    with pytest.raises(DriftwaveError, match="folder of a Python package"):
        write_plugin("model", "mine", None, mylab.parents[1] / "no-package", mylab)


def test_the_command_prints_what_it_wrote(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkout)
    main(["new", "analysis", "mine", "--kind", "waves"])
    shown = capsys.readouterr().out
    assert f"Written: {checkout / 'src' / 'driftwave' / 'waves' / 'mine.py'}" in shown
    assert "detectors:\n      mine: {}" in shown
    with pytest.raises(SystemExit):
        main(["new", "analysis", "mine", "--kind", "waves"])
    assert "found a file" in capsys.readouterr().err


def test_templates_are_installed_with_the_package() -> None:
    import tomllib

    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "scaffold/templates/*" in content["tool"]["setuptools"]["package-data"]["driftwave"]
