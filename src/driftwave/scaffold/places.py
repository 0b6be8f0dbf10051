"""Where the parts of a plug-in belong: this repository's layout, or that of another package."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from driftwave.errors import DriftwaveError, InputError

LAYOUTS = "layouts"


@dataclass(frozen=True)
class Place:
    """Where a plug-in is written.

    Attributes
    ----------
    root : Path
        The repository, which holds ``pyproject.toml`` and ``tests``.
    folder : Path
        Folder of the plug-in.
    package : str
        Package that the folder is, as one imports it; empty for a folder of layouts.
    own : bool
        Whether this is a checkout of driftwave, which finds plug-ins by their folder.
    project : str
        Name of the project.
    """

    root: Path
    folder: Path
    package: str
    own: bool
    project: str


def find_place(kind: str, into: Path | None, start: Path) -> Place:
    """Where a plug-in of a kind belongs.

    Parameters
    ----------
    kind : str
        Kind of the registry, or ``layouts``.
    into : Path, optional
        Folder of another package's source, such as ``src/mylab``.
    start : Path
        Folder that the command runs in.

    Raises
    ------
    DriftwaveError
        If there is no ``pyproject.toml`` at or above the folder, or no folder was given outside a
        checkout of driftwave.
    """
    root = _root((into or start).resolve())
    if root is None:
        raise InputError(
            file=into or start,
            field="--into",
            found="no pyproject.toml here or above",
            expected="a checkout of driftwave, or a package's folder such as src/mylab",
            fix="Change into one, or give the package's folder with --into",
        )
    project = _project(root)
    if into is None and project == "driftwave":
        relative = "config/layouts" if kind == LAYOUTS else f"src/{_package(kind)}"
        folder = root / relative.replace(".", "/")
        return Place(root, folder, "" if kind == LAYOUTS else _package(kind), True, project)
    if into is None:
        raise InputError(
            file=root / "pyproject.toml",
            field="--into",
            found=f"the project {project!r}",
            expected="the folder of the package that the plug-in goes into, such as src/mylab",
            fix="Give it with --into",
        )
    folder = into.resolve()
    package = ".".join(folder.relative_to(_top(folder, root)).parts)
    if not all(part.isidentifier() for part in package.split(".")):
        raise DriftwaveError(
            f"{into}: found {package!r}, expected the folder of a Python package; give a folder "
            "such as src/mylab with --into."
        )
    return Place(root, folder, package, False, project)


def _package(kind: str) -> str:
    from driftwave.registry import KINDS

    return KINDS[kind][0]


def _root(folder: Path) -> Path | None:
    return next(
        (p for p in (folder, *folder.parents) if (p / "pyproject.toml").is_file()),
        None,
    )


def _project(root: Path) -> str:
    path = root / "pyproject.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            file=path,
            field="file",
            found=str(error),
            expected="valid TOML",
            fix="Mend the syntax at that line",
        ) from error
    return str(content.get("project", {}).get("name", root.name))


def _top(folder: Path, root: Path) -> Path:
    """Folder that imports start from: ``src`` if there is one on the way, else the repository."""
    source = root / "src"
    return source if folder.is_relative_to(source) and folder != source else root
