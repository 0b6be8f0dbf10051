"""Plug-ins are found by adding a file, without being imported."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import driftwave.models
from driftwave import registry
from driftwave.errors import DriftwaveError


def forget() -> None:
    """What the registry has found so far."""
    for function in vars(registry).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.fixture(autouse=True)
def _fresh():
    forget()
    yield
    forget()


def offer(monkeypatch: pytest.MonkeyPatch, group: str, points: dict[str, str]) -> None:
    """Pretend that another package registers these entry points."""
    found = [EntryPoint(name, module, group) for name, module in points.items()]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [p for p in found if p.group == group]
    )


def test_own_models_are_found_with_summary_and_signal() -> None:
    found = registry.plugins("models")
    assert {"smoothing", "factor_analysis", "langevinflow", "oscillators"} <= set(found)
    assert found["smoothing"].observes == "spikes"
    assert found["oscillators"].observes == "field"
    assert found["factor_analysis"].paper.startswith("Yu et al. 2009")
    assert found["smoothing"].summary.startswith("Gaussian smoothing")
    assert "run" not in found  # a helper module, which defines no fit


def test_an_unknown_name_or_kind_is_told_with_those_there_are() -> None:
    with pytest.raises(
        DriftwaveError, match=r"no models plug-in named 'lfasd'; there are .*langev"
    ):
        registry.plugin("models", "lfasd")
    with pytest.raises(DriftwaveError, match="no plug-in kind 'modles'"):
        registry.plugins("modles")


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from driftwave import registry\n"
        "for kind in registry.KINDS: registry.plugins(kind)\n"
        "print(sorted({'torch', 'sklearn', 'pynwb', 'xarray'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    folder = tmp_path / "otherlab"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('listing must not import')\n")
    (folder / "slds.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("otherlab", "otherlab.slds"):  # of another test
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_file_in_the_folder_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for source in Path(driftwave.models.__path__[0]).glob("*.py"):
        (folder / source.name).write_text(source.read_text())
    (folder / "toy.py").write_text(
        '"""A toy.\n\nMore."""\nOBSERVES = "spikes"\nPAPER = "Me 2020"\ndef fit(): ...\n'
    )
    (folder / "helper.py").write_text("def other(): ...\n")
    (folder / "_private.py").write_text("def fit(): ...\n")
    real = registry.source_of
    monkeypatch.setattr(
        registry,
        "source_of",
        lambda m: folder / "__init__.py" if m == "driftwave.models" else real(m),
    )
    found = registry.plugins("models")
    assert (found["toy"].summary, found["toy"].paper) == ("A toy.", "Me 2020")
    assert "helper" not in found
    assert "_private" not in found


def test_another_package_adds_models_by_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "otherlab"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "slds.py").write_text(
        '"""Switching."""\nOBSERVES = "spikes"\ndef fit():\n    return 3\n'
    )
    (folder / "none.py").write_text('"""No model."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    offer(
        monkeypatch,
        "driftwave.models",
        {"slds": "otherlab.slds", "none": "otherlab.none", "smoothing": "otherlab.slds"},
    )
    found = registry.plugins("models")
    assert found["slds"].summary == "Switching."
    assert "none" not in found
    assert found["smoothing"].module == "driftwave.models.smoothing"  # our own come first
    assert registry.load("models", "slds").fit() == 3


def test_listing_does_not_import_the_packages_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside(tmp_path, monkeypatch, '"""Switching."""\nfrom otherlab.core import fit\n')
    offer(monkeypatch, "driftwave.models", {"slds": "otherlab.slds"})
    assert registry.plugins("models")["slds"].summary == "Switching."
    with pytest.raises(DriftwaveError, match=r"importing it fails \(listing must not import\)"):
        registry.load("models", "slds")


def test_a_package_that_is_broken_or_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside(tmp_path, monkeypatch, '"""Switching."""\ndef fit(:\n')
    offer(monkeypatch, "driftwave.models", {"slds": "otherlab.slds"})
    with pytest.raises(DriftwaveError, match=r"slds.py: line 2: found invalid syntax"):
        registry.plugins("models")
    forget()
    offer(monkeypatch, "driftwave.models", {"gone": "nolab.gone"})
    with pytest.raises(DriftwaveError, match=r"nolab.gone: .*No module named 'nolab'"):
        registry.load("models", "gone")


def test_another_package_adds_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from driftwave.config import find_layout

    folder = tmp_path / "lablayouts"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "lab.yaml").write_text("name: lab\n")
    monkeypatch.syspath_prepend(tmp_path)
    offer(monkeypatch, "driftwave.layouts", {"lab": "lablayouts"})
    assert registry.layout_paths() == {"lab": folder / "lab.yaml"}
    assert find_layout("lab", tmp_path / "nowhere") == folder / "lab.yaml"
