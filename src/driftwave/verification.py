"""``driftwave verify``: whether every result below a folder is whole, and what to do if not."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from driftwave.atomic import is_abandoned
from driftwave.command import PATH
from driftwave.contents import CONTENTS, contents_problems
from driftwave.errors import DriftwaveError, InputError
from driftwave.provenance import SIDECAR

_REMAKE = "delete it, and `snakemake {}` makes it again"
_CLEAR = "delete it"


@dataclass(frozen=True)
class Result:
    """One result found below a folder.

    Attributes
    ----------
    path : Path
    kind : str
        Store, fit, trial, checkpoint, figure, table, page, record, NWB file, file or leftover.
    """

    path: Path
    kind: str


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a result, a sentence each; nothing if it is whole."""

    result: Result
    problems: tuple[str, ...]


def results_below(folder: str | Path) -> Iterator[Result]:
    """Every result below a folder, each store or fit as one."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in list(folders):
            path = Path(place, name)
            kind = _kind_of_folder(path)
            if kind or name.startswith("."):
                folders.remove(name)
            if kind:
                yield Result(path, kind)
        for name in sorted(names):
            kind = _kind_of_file(Path(place, name))
            if kind:
                yield Result(Path(place, name), kind)


def _kind_of_folder(path: Path) -> str | None:
    if path.name.endswith(".partial"):
        return "leftover"
    if path.name.startswith("."):
        return None
    if path.suffix == ".zarr":
        return "store"
    if path.name == "fit" and path.parent.parent.name == "models":
        return "fit"
    if (path / CONTENTS).is_file() or (path / "result.json").is_file():
        return "trial"
    return None


_KINDS = {
    ".png": "figure",
    ".svg": "figure",
    ".tsv": "table",
    ".html": "page",
    ".json": "record",
    ".nwb": "NWB file",
}


def _kind_of_file(path: Path) -> str | None:
    if path.name.startswith("."):
        return "leftover" if path.name.endswith(".partial") else None
    if ".checkpoint" in str(path.parent):
        return "checkpoint"
    recorded = path.with_name(path.name + SIDECAR).is_file()
    return _KINDS.get(path.suffix) or ("file" if recorded else None)


def verify(result: Result) -> Verdict:
    """Check one result; whatever it holds, this ends in a verdict."""
    check = _CHECKS[result.kind]
    try:
        problems = list(check(result.path) or ())
    except Exception as error:  # a damaged file may raise anything
        problems = [f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"]
    return Verdict(result, tuple(problems))


def verify_all(folder: str | Path, threads: int = 1) -> Iterator[Verdict]:
    """Verdicts on all results below a folder, in the order of their paths."""
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(verify, results_below(folder))


def _store(path: Path) -> Iterator[str]:
    from driftwave.store import verify_store

    damage = verify_store(path)
    yield from (problem.removeprefix(f"{path}: ") for problem in damage)
    if not damage:
        if not (path / CONTENTS).exists():
            yield f"no {CONTENTS}, so that lost or changed bytes cannot be told"
        yield from _schema(path)


def _schema(path: Path) -> Iterator[str]:
    """What a store of its stage must hold."""
    from driftwave.recording import check_recording
    from driftwave.store import open_tree

    tree = open_tree(path)
    try:
        record = json.loads(str(tree.attrs["provenance"]))
        stage = record.get("stage")
    except (ValueError, AttributeError):
        yield "its provenance is not a JSON mapping"
        return
    if stage == "ingest" or "schema_version" in tree.attrs:
        try:
            check_recording(tree, path)
        except InputError as error:
            yield f"{error.field}: found {error.found}, expected {error.expected}"
        return
    if stage == "fit":
        yield from _latents(path)
    for node in tree.subtree:
        for name, variable in node.dataset.data_vars.items():
            if variable.dtype.kind in "iufc" and "units" not in variable.attrs:
                yield f"{node.path.rstrip('/')}/{name}: no units"


def _latents(path: Path) -> Iterator[str]:
    import numpy as np

    from driftwave.store import open_dataset

    latents = open_dataset(path)
    yield from (f"attrs: no {n}" for n in ("model", "plugin", "session") if n not in latents.attrs)
    for name in ("rate", "latent"):
        if name not in latents:
            continue
        values = latents[name]
        rows = max(1, 4_000_000 // max(1, int(np.prod(values.shape[1:]))))
        for start in range(0, values.shape[0] if values.ndim else 0, rows):
            if np.isinf(values[start : start + rows].values).any():
                yield f"{name}: infinite values"
                break


def _leftover(path: Path) -> Iterator[str]:
    if is_abandoned(path):
        yield "left by a job that was killed"
    else:
        yield "being written, or left by a job that was killed on another machine"


def _figure(path: Path) -> None:
    """Raise if a picture is not whole: PNG has checksums, SVG an end."""
    if path.suffix == ".svg":
        _parse_xml(path)
        return
    from PIL import Image

    with Image.open(path) as image:
        image.verify()  # the checksums of all its parts
    with Image.open(path) as image:
        image.load()


def _parse_xml(path: Path) -> None:
    from xml.parsers import expat

    parser = expat.ParserCreate()
    with path.open("rb") as file:
        parser.ParseFile(file)


def _table(path: Path) -> Iterator[str]:
    if path.stat().st_size == 0:
        yield "empty"
        return
    columns, last = 0, ""
    with path.open(encoding="utf-8", newline="") as file:
        for number, line in enumerate(file):
            count = line.count("\t") + 1
            columns = columns or count
            if count != columns and '"' not in line:
                yield f"line {number + 1}: {count} columns, the header has {columns}"
            last = line
    if not last.endswith("\n"):
        yield "cut in its last line"
    yield from _as_recorded(path)


def _as_recorded(path: Path) -> Iterator[str]:
    """A file with a record beside it must be the one the record is of."""
    from driftwave.provenance_read import read_record

    if read_record(path).get("changed"):
        yield "other bytes than were written"


def _page(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        if not file.read().rstrip().endswith(b"</html>"):
            yield "cut before its end"
    yield from _as_recorded(path)


def _record(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        json.load(file)


def _nwb(path: Path) -> Iterator[str]:
    import h5py

    found: list[str] = []

    def read(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            try:
                for part in item.iter_chunks() if item.chunks else [...]:
                    item[part]
            except OSError as error:
                found.append(f"{name}: cannot be read ({error})")

    with h5py.File(path, "r") as file:
        file.visititems(read)
    yield from found
    yield from _as_recorded(path)


def _checkpoint(path: Path) -> Iterator[str]:
    from driftwave.inference.checkpoint import load_arrays, read_sealed

    try:
        if path.suffix == ".npz":
            load_arrays(path)
        elif path.suffix == ".pt":
            import torch

            read_sealed(path, lambda p: torch.load(p, map_location="cpu", weights_only=True))
    except InputError as error:
        yield f"found {error.found}"


_CHECKS: dict[str, Callable[[Path], Iterable[str] | None]] = {
    "store": _store,
    "fit": contents_problems,
    "trial": contents_problems,
    "leftover": _leftover,
    "figure": _figure,
    "table": _table,
    "page": _page,
    "record": _record,
    "NWB file": _nwb,
    "file": _as_recorded,
    "checkpoint": _checkpoint,
}


@click.command(name="verify")
@click.argument("folder", type=PATH)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--list", "listed", is_flag=True, help="Also list what is whole.")
def verify_command(folder: Path, threads: int, listed: bool) -> None:
    """Check every store, fit, table and figure below a folder, and say what is wrong."""
    if not folder.is_dir():
        raise InputError(
            file=folder,
            field="folder",
            found="no such folder",
            expected="the folder of the results",
            fix="Mend the path",
        )
    found: Counter[str] = Counter()
    damaged: Counter[str] = Counter()
    for verdict in verify_all(folder, threads):
        kind, path = verdict.result.kind, verdict.result.path
        found[kind] += 1
        damaged[kind] += bool(verdict.problems)
        if listed and not verdict.problems:
            click.echo(f"whole    {kind} {path}")
        for problem in verdict.problems:
            todo = _CLEAR if kind in ("leftover", "checkpoint") else _REMAKE.format(path)
            click.echo(f"damaged  {kind} {path}: {problem}; {todo}.")
    if not found:
        raise DriftwaveError(f"{folder}: found no result; give the folder of the results.")
    summary = {kind: {"found": found[kind], "damaged": damaged[kind]} for kind in sorted(found)}
    click.echo(json.dumps(summary))
    bad = damaged.total()
    if bad:
        raise DriftwaveError(
            f"{bad} of {found.total()} results are damaged or left over; delete them and name "
            "them to `snakemake`, which makes nothing again by itself that only others came from."
        )


COMMANDS: tuple[click.Command, ...] = (verify_command,)
