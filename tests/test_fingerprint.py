"""The fingerprint of a module changes with its code and what it imports, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from driftwave import fingerprint as module
from driftwave import registry

FILES = {
    "__init__.py": "",
    "models/__init__.py": "",
    "models/one.py": "from lab.shared import helper\n\ndef fit(x):\n    return helper(x)\n",
    "models/two.py": "def fit(x):\n    return x\n",
    "models/lazy.py": "def fit(x):\n    import lab.deep as d\n    return d.value\n",
    "shared.py": (
        'from lab import deep\n\n\ndef helper(x):\n    """Help."""\n    return deep.value\n'
    ),
    "deep.py": "import math\nvalue = math.pi\n",
}

Edit = Callable[[str, str, str], None]


def clear() -> None:
    for function in (*vars(module).values(), *vars(registry).values()):
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package ``lab`` of a few modules; the fixture edits one and forgets what was cached."""
    for name, text in FILES.items():
        path = tmp_path / "lab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    clear()

    def change(name: str, old: str, new: str) -> None:
        path = tmp_path / "lab" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        clear()

    yield change
    clear()


def all_models() -> dict[str, str]:
    return {name: module.fingerprint(f"lab.models.{name}") for name in ("one", "two", "lazy")}


def changed_by(edit: Edit, name: str, old: str, new: str) -> set[str]:
    before = all_models()
    edit(name, old, new)
    after = all_models()
    return {name for name in before if before[name] != after[name]}


def test_it_is_stable_and_short(edit: Edit) -> None:  # noqa: ARG001
    first = all_models()
    clear()
    assert first == all_models()
    assert all(len(value) == 16 for value in first.values())
    assert len(set(first.values())) == 3


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("models/one.py", "return", "# a comment\n    return"),
        ("models/one.py", "\n\ndef", "\n\n\n\n\ndef"),
        ("models/one.py", "helper(x)", "helper( x )"),
        ("models/one.py", "from lab", '"""A docstring."""\nfrom lab'),
        ("shared.py", '"""Help."""', '"""Help more."""'),
        ("shared.py", '    """Help."""\n', ""),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(
    edit: Edit, name: str, old: str, new: str
) -> None:
    assert changed_by(edit, name, old, new) == set()


def test_editing_a_model_changes_that_model_only(edit: Edit) -> None:
    assert changed_by(edit, "models/two.py", "return x", "return x + 1") == {"two"}


def test_a_string_that_is_no_docstring_counts(edit: Edit) -> None:
    edit("models/two.py", "return x", 'return "a"')
    assert changed_by(edit, "models/two.py", '"a"', '"b"') == {"two"}


def test_imports_are_followed_to_any_depth(edit: Edit) -> None:
    assert changed_by(edit, "shared.py", "deep.value", "deep.value * 2") == {"one"}
    assert changed_by(edit, "deep.py", "math.pi", "math.e") == {"one", "lazy"}


def test_relative_imports_are_followed_as_well(edit: Edit) -> None:
    edit("models/two.py", "def fit", "from . import base\nfrom ..shared import helper\n\ndef fit")
    edit("models/__init__.py", "", "from .two import fit\n")
    assert changed_by(edit, "deep.py", "math.pi", "math.e") == {"one", "two", "lazy"}
    edit("__init__.py", "", "from .models.one import fit\n")
    before = module.fingerprint("lab")
    edit("models/one.py", "helper(x)", "helper(x) + 1")
    assert module.fingerprint("lab") != before


def test_what_another_package_takes_of_driftwave_counts(edit: Edit) -> None:
    edit("models/two.py", "def fit", "from driftwave.strict import NAME_PATTERN\n\ndef fit")
    seen = module._read("lab.models.two")[1]
    assert "driftwave.strict" in seen
    assert "numpy" not in seen


def test_cycles_end(edit: Edit) -> None:
    edit("deep.py", "import math", "import math\nfrom lab.models import one")
    assert changed_by(edit, "models/one.py", "helper(x)", "helper(x) + 1") == {"one", "lazy"}


def test_an_unknown_module_has_a_fingerprint_of_its_own(edit: Edit) -> None:  # noqa: ARG001
    assert module.fingerprint("lab.nothing") != module.fingerprint("lab.models.one")


def test_own_models_do_not_share_one_fingerprint() -> None:
    clear()
    names = ("smoothing", "factor_analysis", "langevinflow", "oscillators")
    assert len({module.fingerprint(f"driftwave.models.{name}") for name in names}) == 4
