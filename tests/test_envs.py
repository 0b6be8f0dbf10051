"""Every description of the environment says the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
ENVS = ROOT / "envs"
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "mne": "mne-base",
    "dask": "dask-core",
}
RUNTIME_EXTRAS = ("workflow", "cluster")  # what the rules' environment holds beside the package's


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(*extras: str) -> dict[str, SpecifierSet]:
    lines = list(project()["dependencies"])
    for extra in extras:
        lines += project()["optional-dependencies"][extra]
    return {
        canonicalize_name(Requirement(line).name): Requirement(line).specifier for line in lines
    }


def lock_lines() -> list[str]:
    lines = (ENVS / "requirements.lock.txt").read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def locked() -> dict[str, str]:
    pairs = [line.partition("==") for line in lock_lines()]
    return {canonicalize_name(name): version for name, _, version in pairs}


def conda_environment() -> dict[str, SpecifierSet]:
    entries = yaml.safe_load((ENVS / "driftwave.yaml").read_text())["dependencies"]
    pairs = [re.match(r"([\w-]+)\s*(.*)", entry) for entry in entries]
    return {
        m[1]: SpecifierSet(re.sub(r"^=(?!=)", "~=", m[2]) + (".0" if m[1] == "python" else ""))
        for m in pairs
        if m and m[1] != "pip"
    }


def pins() -> dict[str, str]:
    lines = (ENVS / "driftwave.linux-64.pin.txt").read_text().splitlines()
    return dict(line.split("=") for line in lines if line and not line.startswith("#"))


def test_lock_holds_plain_versions_only() -> None:
    for line in lock_lines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    assert "nlb-tools" not in locked()
    assert "driftwave" not in locked()


def test_lock_satisfies_every_requirement_and_extra() -> None:
    versions = locked()
    # Peers of benchmarks live in environments of their own; dandi brings a hundred packages.
    extras = [e for e in project()["optional-dependencies"] if e not in ("bench", "dandi")]
    for name, specifier in requirements(*extras).items():
        assert name in versions, f"{name} is not locked"
        assert specifier.contains(versions[name]), f"{name} {versions[name]} is not {specifier}"


def test_conda_environment_holds_the_same_bounds() -> None:
    environment = conda_environment()
    wanted = {CONDA_NAMES.get(n, n): s for n, s in requirements(*RUNTIME_EXTRAS).items()}
    assert {n: s for n, s in environment.items() if n != "python"} == wanted


def test_pins_are_the_locked_versions() -> None:
    versions = {CONDA_NAMES.get(name, name): version for name, version in locked().items()}
    found = pins()
    assert found.pop("python") == "3.11"
    assert set(found) == set(conda_environment()) - {"python"}
    for name, version in found.items():
        assert version == versions[name], name


def test_python_versions_agree() -> None:
    wanted = SpecifierSet(project()["requires-python"])
    assert wanted.contains("3.11.0")
    assert conda_environment()["python"].contains("3.11.7")
    assert re.search(r"^FROM python:3\.11-", (ENVS / "Dockerfile").read_text(), flags=re.MULTILINE)


def test_dockerfile_copies_what_the_build_needs() -> None:
    text = (ENVS / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.*)$", text, flags=re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert source == "README.md" or (ROOT / source).exists(), source
    assert "requirements.lock.txt" in text
