"""Write a plug-in and its test from the templates."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from driftwave import registry
from driftwave.errors import DriftwaveError, InputError
from driftwave.scaffold.places import LAYOUTS, Place, find_place

# What is written -> kinds of the registry; the first is the default.
WRITTEN: dict[str, tuple[str, ...]] = {
    "model": ("models",),
    "analysis": ("manifolds", "decoding", "encoding", "waves"),
    "layout": (LAYOUTS,),
    "figure": ("figures",),
}
# Where the configuration names a plug-in of a kind.
_CONFIGURED = {
    "models": "models:\n  {name}: {{}}",
    "manifolds": "geometry:\n  {name}: {{}}",
    "decoding": "decoders:\n  {name}: {{}}",
    "encoding": "encoding: {{plugin: {name}}}",
    "waves": "detectors:\n  {name}: {{}}",
}


def write_plugin(
    what: str, name: str, kind: str | None, into: Path | None, start: Path
) -> tuple[list[Path], str]:
    """Write a plug-in that works, and the test of its contract.

    Parameters
    ----------
    what : str
        ``model``, ``analysis``, ``layout`` or ``figure``.
    name : str
        Lower-case Python identifier.
    kind : str, optional
        Of an analysis: ``manifolds`` (default), ``decoding``, ``encoding`` or ``waves``.
    into : Path, optional
        Folder of another package; default the checkout of driftwave that ``start`` lies in.
    start : Path

    Returns
    -------
    written : list of Path
    told : str
        What to do next.

    Raises
    ------
    DriftwaveError
        A bad or taken name, a file in the way, no package to write into; nothing is written then.
    """
    chosen = _kind(what, kind)
    _check_name(chosen, name)
    place = find_place(chosen, into, start)
    texts = _texts(what, chosen, name, place)
    for path in texts:
        if path.exists():
            raise InputError(
                file=path,
                field=name,
                found="a file",
                expected="none, since nothing is overwritten",
                fix="Choose another name, or remove the file",
            )
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return list(texts), _next(chosen, name, place, list(texts))


def _kind(what: str, kind: str | None) -> str:
    if kind is None:
        return WRITTEN[what][0]
    if kind not in WRITTEN[what]:
        raise DriftwaveError(
            f"--kind: found {kind!r}, expected one of {', '.join(WRITTEN[what])}; "
            f"leave --kind out or name one of these for `new {what}`."
        )
    return kind


def _check_name(kind: str, name: str) -> None:
    def fault(found: str, fix: str) -> InputError:
        return InputError(
            file="new",
            field="NAME",
            found=found,
            expected="a new Python identifier in lower case, such as my_method",
            fix=fix,
        )

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > 60:
        raise fault(repr(name), "Use a-z, 0-9 and _, at most 60, a letter first")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise fault(f"{name!r}, a word of Python", "Choose another name")
    taken = registry.layout_paths() if kind == LAYOUTS else registry.plugins(kind)
    if name in taken:
        raise fault(f"{name!r}, which there is already", "Choose another name")


def _texts(what: str, kind: str, name: str, place: Place) -> dict[Path, str]:
    """Files to write, with their texts."""
    tests = place.root / "tests"
    if kind == LAYOUTS:
        folder = place.folder if place.own else place.folder / "layouts"
        path = folder / f"{name}.yaml"
        values = {"name": name, "path": path.relative_to(place.root).as_posix(), "depth": "1"}
        return {
            path: _rendered("layout.yaml", values),
            tests / f"test_layout_{name}.py": _rendered("test_layout.py", values),
        }
    values = {"name": name, "package": place.package, "kind": kind}
    values["imports"] = _imports(what, name, place)
    texts = {
        place.folder / f"{name}.py": _source(what, kind, values, own=place.own),
        tests / f"test_{name}.py": _rendered(f"test_{what}.py", values),
    }
    if kind == "figures" and place.own:
        texts[place.root / "workflow" / "report" / f"{name}.rst"] = _rendered("figure.rst", values)
    return texts


def _source(what: str, kind: str, values: Mapping[str, str], *, own: bool) -> str:
    """The plug-in's source; in another package driftwave's imports stand among third parties'."""
    text = _rendered(f"{kind if what == 'analysis' else what}.py", values)
    if own:
        return text
    import_ = r"(?:from|import) [^\n]+\n"
    blocks = re.search(rf"((?:{import_})+)\n((?:from driftwave[^\n]+\n)+)", text)
    assert blocks is not None
    lines = sorted("".join(blocks.groups()).splitlines(), key=lambda n: (n[0] == "f", n.split()[1]))
    return text.replace(blocks.group(), "\n".join(lines) + "\n")


def _imports(what: str, name: str, place: Place) -> str:
    """Imports of a test, in the order that linters ask for."""
    lines = [f"from driftwave.contract import check_{what}"]
    if what == "figure":
        lines.append("from driftwave.contract.analyses import example_model")
    own = f"from {place.package} import {name}"
    return "\n".join([*lines, own] if place.own else [*lines, "", own])


def _rendered(template: str, values: Mapping[str, str]) -> str:
    source = files("driftwave.scaffold") / "templates" / f"{template}.tmpl"
    return Template(source.read_text(encoding="utf-8")).substitute(values)


def _next(kind: str, name: str, place: Place, written: list[Path]) -> str:
    test = next(p for p in written if p.name.startswith("test_")).relative_to(place.root)
    lines = [] if place.own else [_registration(kind, name, place)]
    if kind in _CONFIGURED:
        shown = _CONFIGURED[kind].format(name=name).replace("\n", "\n    ")
        lines.append(f"Ask for it in the configuration:\n    {shown}")
    elif kind == LAYOUTS:
        lines.append(f"Name it in the column `layout` of the session table: {name}")
    lines.append(f"Test it: python -m pytest {test.as_posix()}")
    return "\n".join(lines)


def _registration(kind: str, name: str, place: Place) -> str:
    value = f"{place.package}.layouts" if kind == LAYOUTS else f"{place.package}.{name}"
    text = (
        f"Register it in {place.root.name}/pyproject.toml, and install the package again:\n"
        f'    [project.entry-points."driftwave.{kind}"]\n    {name} = "{value}"'
    )
    if kind == LAYOUTS:
        text += (
            "\n    [tool.setuptools.package-data]\n"
            f'    "{place.package}" = ["layouts/*.yaml"]   # or the files stay behind'
        )
    return text
