"""Follow a result back, input by input, to the NWB files it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driftwave.address import is_remote
from driftwave.contents import sha256_of
from driftwave.errors import InputError
from driftwave.provenance import SIDECAR, content_id
from driftwave.provenance_read import read_record
from driftwave.verification import results_below

CHECKS = ("quick", "files", "all")
_SAID = {
    "unchanged": "",
    "moved": "moved here",
    "changed": "CHANGED SINCE: what was made from it is stale",
    "missing": "missing",
    "remote": "not compared: not on this machine",
    "unknown": "carries no identity to compare",
    "damaged": "DAMAGED: its content is not what was written",
}
# Branches of the tree: of an input that others follow, of the last, and what stands below each.
_FORK, _LAST, _THROUGH, _BLANK = "\u251c\u2500 ", "\u2514\u2500 ", "\u2502  ", "   "


@dataclass
class Link:
    """One result of the chain, or a file that it starts from.

    Attributes
    ----------
    path : Path
        Where it lies, or lay.
    state : str
        unchanged, moved, remote (an address), changed (since the result above was made from it),
        missing, unknown (it carries no identity) or damaged.
    record : dict
        Its own record; of a file of another program what is known of it (sha256, bytes).
    inputs : list of Link
    """

    path: Path
    state: str
    record: dict[str, Any]
    inputs: list[Link] = field(default_factory=list)

    def walk(self) -> Iterator[Link]:
        """This link and all below it."""
        yield self
        for link in self.inputs:
            yield from link.walk()

    def as_dict(self) -> dict[str, Any]:
        """Nested mappings, as ``--json`` prints them."""
        below = [link.as_dict() for link in self.inputs]
        record = {k: v for k, v in self.record.items() if k != "inputs"}
        return {"path": str(self.path), "state": self.state, "record": record, "inputs": below}


def chain(path: str | Path, *, search: Sequence[str | Path] = (), check: str = "files") -> Link:
    """The chain from a result back to the NWB files.

    Parameters
    ----------
    path : path
        Store, folder of a fit, table or figure.
    search : sequence of paths
        Folders in which inputs that moved are looked for, by their identity.
    check : {"quick", "files", "all"}
        ``quick`` compares sizes of NWB files, ``files`` their checksums as well, ``all`` also
        reads every store again.

    Raises
    ------
    InputError
        If the result is missing, was not written by driftwave, or its record is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise _fault(path, "no such file or folder", "Mend the path")
    record = _record(path)
    if not record:
        raise _fault(
            path,
            "no record of provenance",
            "Give a store, table or figure that driftwave wrote (and keep the "
            f"{SIDECAR} file of a table beside it)",
        )
    state = "changed" if record.get("changed") else "unchanged"
    if check == "all" and state == "unchanged" and not _whole(path, record):
        state = "damaged"
    return _Follower(search, check).link(path, record, state)


def _fault(path: Path, found: str, fix: str) -> InputError:
    expected = "a result written by driftwave"
    return InputError(file=path, field="provenance", found=found, expected=expected, fix=fix)


def _record(path: Path) -> dict[str, Any]:
    try:
        return read_record(path)
    except ValueError as error:
        fix = "Delete the result and run its stage again"
        raise _fault(path, str(error), fix) from error


def _record_if_whole(path: Path) -> dict[str, Any]:
    """The record of a result met in a search, where a damaged one is simply not what is sought."""
    try:
        return read_record(path)
    except ValueError:
        return {}


def _whole(path: Path, record: dict[str, Any]) -> bool:
    if "id" not in record or not path.is_dir() or (path / "result.json").is_file():
        return True
    return content_id(path) == record["id"]


class _Follower:
    """Finds inputs; each is followed once, however many results were made from it."""

    def __init__(self, search: Sequence[str | Path], check: str) -> None:
        self.search = [Path(folder) for folder in search]
        self.check = check
        self._links: dict[tuple[str, str], Link] = {}
        self._places: dict[str, Path] | None = None

    def link(self, path: Path, record: dict[str, Any], state: str) -> Link:
        below = [self._input(path, entry) for entry in record.get("inputs", [])]
        return Link(path, state, record, below)

    def _input(self, result: Path, entry: dict[str, Any]) -> Link:
        known = entry.get("id") or entry.get("sha256", "")
        key = (str(known), entry["path"])
        if key not in self._links:
            find = self._result if "id" in entry or "sha256" not in entry else self._file
            self._links[key] = find(_candidates(result, entry), entry)
        return self._links[key]

    def _result(self, candidates: list[Path], entry: dict[str, Any]) -> Link:
        """An input that driftwave wrote."""
        found = [path for path in candidates if path.exists()]
        for path in found:
            record = _record(path)
            if "id" in entry and record.get("id") == entry["id"]:
                state = "unchanged"
                if self.check == "all" and not _whole(path, record):
                    state = "damaged"
                return self.link(path, record, state)
        moved = self._places_by_id().get(str(entry["id"])) if "id" in entry else None
        if moved is not None:
            return self.link(moved, _record(moved), "moved")
        if found:
            record = _record(found[0])
            state = "changed" if "id" in entry and "id" in record else "unknown"
            return self.link(found[0], record, state)
        return Link(candidates[0], "missing", entry)

    def _file(self, candidates: list[Path], entry: dict[str, Any]) -> Link:
        """A file of another program, known by its checksum."""
        if is_remote(entry["path"]):
            return Link(Path(entry["path"]), "remote", entry)
        here = [path for path in candidates if path.is_file()]
        elsewhere = [p for folder in self.search for p in _like(folder, entry)]
        for path in [*here, *elsewhere]:
            if self._same(path, entry):
                state = "unchanged" if path in here else "moved"
                made = _record(path)  # by a simulator
                return self.link(path, entry | made, state)
        return Link(candidates[0], "changed" if here else "missing", entry)

    def _same(self, path: Path, entry: dict[str, Any]) -> bool:
        if "bytes" in entry and path.stat().st_size != entry["bytes"]:
            return False
        return self.check == "quick" or sha256_of(path) == entry["sha256"]

    def _places_by_id(self) -> dict[str, Path]:
        """Results below the search folders by identity."""
        if self._places is None:
            places = (p for folder in self.search for p in _recorded_below(folder))
            self._places = {str(_record_if_whole(p).get("id")): p for p in places}
        return self._places


def _candidates(result: Path, entry: dict[str, Any]) -> list[Path]:
    """Where an input may lie: as seen from the result, else as it was given."""
    given = Path(entry["path"])
    if "from_here" not in entry:
        return [given]
    here = (result.parent / entry["from_here"]).resolve()
    return [_shown(here), given]


def _shown(path: Path) -> Path:
    """A path below the working folder is shown relative to it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _like(folder: Path, entry: dict[str, Any]) -> list[Path]:
    """Files that may be an input under another path: of its name, or of its size and kind."""
    name = Path(entry["path"])
    alike = [p for p in folder.rglob(f"*{name.suffix}") if p.is_file()]
    size = entry.get("bytes")
    return sorted(p for p in alike if p.name == name.name or p.stat().st_size == size)


def _recorded_below(folder: Path) -> Iterable[Path]:
    """Those with a record of their own or beside them."""
    for result in results_below(folder):
        path = result.path
        recorded = path.is_dir() or path.with_name(path.name + SIDECAR).is_file()
        if recorded and result.kind != "leftover":
            yield path


def as_text(top: Link) -> str:
    """The chain as a tree, one result and the facts of its making per branch."""
    lines = list(_lines(top, "", "", set()))
    return "\n".join([*lines, "", verdict(top)])


def _lines(link: Link, first: str, rest: str, seen: set[int]) -> Iterator[str]:
    said = _SAID[link.state]
    name = link.record.get("path") if link.state == "remote" else link.path
    head = f"{name}" + (f"  [{said}]" if said else "")
    if id(link) in seen and link.inputs:
        yield f"{first}{head}  (see above)"
        return
    seen.add(id(link))
    yield first + head
    through = rest + (_THROUGH if link.inputs else _BLANK)
    yield from (f"{through}{line}" for line in _facts(link.record))
    for i, below in enumerate(link.inputs):
        last = i == len(link.inputs) - 1
        yield from _lines(
            below, rest + (_LAST if last else _FORK), rest + (_BLANK if last else _THROUGH), seen
        )


def _facts(record: dict[str, Any]) -> Iterator[str]:
    if "sha256" in record:
        size = f", {record['bytes'] / 1e6:.1f} MB" if "bytes" in record else ""
        yield f"sha256 {record['sha256']}{size}"
    if "driftwave_version" not in record:
        return
    options = record.get("options", {})
    what = [str(record.get("stage", ""))]
    what += [str(v) for v in dict.fromkeys((record.get("model"), record.get("plugin"))) if v]
    what += [f"layout {options['layout']}"] if "layout" in options else []
    given = options.get("params") or {}
    what += [f"with {json.dumps(given) if isinstance(given, dict) else given}"] if given else []
    what += [f"seed {record['seed']}"] if "seed" in record else []
    yield ", ".join(filter(None, what))
    made = [f"driftwave {record['driftwave_version']} ({_short(record.get('git_hash', ''))})"]
    written = str(record.get("written", ""))
    made += [written.replace("T", " ").replace("+00:00", " UTC")] if written else []
    made += [f"{record['seconds']:g} s"] if "seconds" in record else []
    made += [f"{record['threads']} thread(s)"] if "threads" in record else []
    made += [str(record["device"])] if "device" in record else []
    yield ", ".join(made)


def _short(commit: str) -> str:
    name, dash, dirty = commit.partition("-dirty")
    return (name[:10] if len(name) == 40 else name) + dash + dirty


def verdict(top: Link) -> str:
    """One sentence: whether the chain is whole, and what is not."""
    links = {id(link): link for link in top.walk()}.values()
    starts = [link for link in links if "sha256" in link.record and "id" not in link.record]
    starts += [link for link in links if "sha256" in link.record and "id" in link.record]
    by_state = {
        state: [str(link.path) for link in links if link.state == state]
        for state in ("changed", "damaged", "missing", "unknown")
    }
    wrong = [f"{state}: {', '.join(paths)}" for state, paths in by_state.items() if paths]
    if wrong:
        return f"The chain is broken; {'; '.join(wrong)}."
    if not starts:
        return "The chain is whole; it starts from no file (simulated or generated)."
    return f"The chain is whole, back to {', '.join(sorted({str(s.path) for s in starts}))}."
