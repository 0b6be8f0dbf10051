"""What a result was made from: every store, table and figure says so in itself or beside it.

A job keeps a ledger (:func:`ledger`, begun by the command line): its options, its threads and
device, and the identity of every result it opens. What it writes then carries a record of that.
The identity of a store is a hash of its content, so a result made again from the same inputs keeps
its identity, and one whose content differs does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from driftwave import __version__
from driftwave.address import REMOTE_FACTS, is_remote, shown_command
from driftwave.contents import CONTENTS, files_in, sha256_of

PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "xarray",
    "zarr",
    "dask",
    "pandas",
    "scikit-learn",
    "pynwb",
    "h5py",
    "pydantic",
    "matplotlib",
    "snakemake",
)
SIDECAR = ".provenance.json"
IN_FOLDER = "provenance.json"
# Attributes that may differ between two runs that give the same result.
COSTS = (
    "provenance",
    "cpu_seconds",
    "wall_seconds",
    "source_file",
    "source_sha256",
    *(f"source_{fact}" for fact in REMOTE_FACTS),
)
# Differ between two runs that draw the same figure.
_OF_ONE_RUN = (
    "written",
    "seconds",
    "command",
    "threads",
    "arithmetic_threads",
    "device",
    "options",
)


@dataclass
class Ledger:
    """What a running job was told and what it has opened.

    Attributes
    ----------
    stage : str
    options : dict
        Options of the command, without paths.
    inputs : dict of Path to dict
        Absolute path of each result opened, and its identity.
    """

    stage: str
    options: dict[str, Any] = field(default_factory=dict)
    inputs: dict[Path, dict[str, Any]] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)


_LEDGER: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@contextlib.contextmanager
def ledger(stage: str, options: Mapping[str, Any] | None = None) -> Iterator[Ledger]:
    """Keep a ledger while a job runs; what it writes carries it."""
    told = {k: v for k, v in (options or {}).items() if not _is_path(v) and v is not None}
    kept = Ledger(stage, told)
    token = _LEDGER.set(kept)
    try:
        yield kept
    finally:
        _LEDGER.reset(token)


def _is_path(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_is_path(item) for item in value)
    if isinstance(value, str):
        return is_remote(value) or ("=" in value and "/" in value)
    return isinstance(value, Path)


def describe(**facts: Any) -> None:
    """Enter facts of the job (threads, device) into its ledger, if it keeps one."""
    kept = _LEDGER.get()
    if kept is not None:
        kept.described.update(facts)


def used(path: str | Path, record: Mapping[str, Any] | None = None) -> None:
    """Enter an input into the ledger of the job, if it keeps one.

    Parameters
    ----------
    path : path
        Store, table, folder of a fit, or file of another program (known by its sha256).
    record : mapping, optional
        The input's own record, where the caller has read it already.
    """
    kept = _LEDGER.get()
    if kept is None:
        return
    place = Path(path).absolute()
    if place in kept.inputs:
        return
    found = dict(record) if record else own_record(place)
    entry: dict[str, Any] = {"path": str(path)}
    if found:
        entry |= {k: found[k] for k in ("id", "stage") if k in found}
        entry["sources"] = found.get("sources", [])
    elif place.is_file():
        entry |= {"sha256": sha256_of(place), "bytes": place.stat().st_size}
    kept.inputs[place] = entry


@cache
def git_state() -> str:
    """Commit of the code that runs, ``-dirty`` if the package was edited since; or why none."""
    here = Path(__file__).resolve().parent
    direct = _installed_commit()
    if direct:
        return direct
    try:
        # A package installed into a folder of somebody else's repository is not part of it.
        _git(here, "ls-files", "--error-unmatch", "__init__.py")
        lines = _git(here, "status", "--porcelain=v2", "--branch", "--", ".").splitlines()
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return "not a git checkout"
    commit = next(line.split()[-1] for line in lines if line.startswith("# branch.oid"))
    return commit + ("-dirty" if any(not line.startswith("#") for line in lines) else "")


def _git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
    )
    return answer.stdout


def _installed_commit() -> str:
    """Commit that pip installed from, if it installed from a repository (PEP 610)."""
    try:
        text = metadata.distribution("driftwave").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return ""
    return json.loads(text).get("vcs_info", {}).get("commit_id", "") if text else ""


@cache
def packages() -> dict[str, str]:
    """Versions of Python and of the packages that decide results; none is imported."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def provenance(**facts: Any) -> dict[str, Any]:
    """The record of a result that is about to be written.

    It holds version and commit of driftwave, time of writing, versions of packages, platform, the
    job's ledger (stage, options, threads, device, inputs with their identities, the NWB files at
    the start of the chain) and the caller's facts.
    """
    record: dict[str, Any] = {
        "driftwave_version": __version__,
        "git_hash": git_state(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": packages(),
        "platform": platform.platform(),
    }
    kept = _LEDGER.get()
    if kept is not None:
        inputs = [{k: v for k, v in entry.items() if k != "sources"} for entry in _inputs(kept)]
        told: dict[str, Any] = {
            "stage": kept.stage,
            "command": " ".join(["driftwave", *shown_command(sys.argv[1:])]),
            "options": kept.options,
            **{k: kept.options[k] for k in ("seed", "plugin", "params") if k in kept.options},
            "device": "cpu",
            **kept.described,
            "seconds": round(time.perf_counter() - kept.began, 2),
            "inputs": inputs,
            "sources": _sources(kept),
        }
        record |= told
    return json.loads(json.dumps(record | facts, default=str))


def _inputs(kept: Ledger) -> list[dict[str, Any]]:
    return list(kept.inputs.values())


def _sources(kept: Ledger) -> list[dict[str, Any]]:
    """Files of other programs at the start of the chain, each once."""
    found: dict[str, dict[str, Any]] = {}
    for entry in _inputs(kept):
        if "sha256" in entry and "id" not in entry:
            found[_source_key(entry)] = {"file": entry["path"], "sha256": entry["sha256"]}
        for source in entry.get("sources", []):
            found[_source_key({"path": source["file"], **source})] = source
    return list(found.values())


def _source_key(entry: Mapping[str, Any]) -> str:
    """Content of a file; of a remote one, whose checksum may not be known, its address."""
    return str(entry["path"] if is_remote(entry["path"]) else entry["sha256"])


def place_inputs(record: dict[str, Any], target: str | Path) -> dict[str, Any]:
    """Add where each input lies as seen from the result, so that both may move together."""
    folder = Path(target).absolute().parent
    for entry in record.get("inputs", []):
        if not is_remote(entry["path"]):
            entry["from_here"] = os.path.relpath(Path(entry["path"]).absolute(), folder)
    return record


def content_id(folder: str | Path, checksums: Mapping[str, str] | None = None) -> str:
    """Identity of a store or folder: a hash of its files, without costs, times and places.

    ``checksums`` of files by their path in the folder spare reading these again.
    """
    known = checksums or {}
    folder = Path(folder)
    whole = hashlib.sha256()
    for name in sorted(files_in(folder), key=PurePosixPath):
        path = folder / name
        if path.name in (IN_FOLDER, CONTENTS):
            continue
        taken = known.get(name) or sha256_of(path)
        digest = _without_costs(path) if path.name == "zarr.json" else taken
        whole.update(f"{name}\0{digest}\n".encode())
    return whole.hexdigest()


def _without_costs(path: Path) -> str:
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("consolidated_metadata", None)
    attributes = content.get("attributes", {})
    content["attributes"] = {k: v for k, v in attributes.items() if k not in COSTS}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stamp_store(
    written: str | Path,
    target: str | Path,
    facts: Mapping[str, Any] | None = None,
    checksums: Mapping[str, str] | None = None,
) -> None:
    """Put the record into the root attributes of a store that is whole but for it.

    Parameters
    ----------
    written : path
        The store, still under its temporary name and without consolidated metadata.
    target : path
        Where it will lie.
    facts : mapping, optional
        As of :func:`provenance`.
    checksums : mapping, optional
        As of :func:`content_id`.
    """
    import zarr

    root = zarr.open_group(str(written), mode="r+", use_consolidated=False)
    if "source_sha256" in root.attrs and "source_file" in root.attrs:
        _used_source(dict(root.attrs))
    record = place_inputs(provenance(**(facts or {})), target)
    root.attrs["provenance"] = json.dumps({"id": content_id(written, checksums), **record})


def _used_source(attributes: Mapping[str, Any]) -> None:
    """Enter the NWB file of a recording, whose checksum ingest has taken already."""
    kept = _LEDGER.get()
    file = str(attributes["source_file"])
    if kept is not None and not kept.inputs:
        entry: dict[str, Any] = {"path": file, "sha256": str(attributes["source_sha256"])}
        facts = {fact: attributes.get(f"source_{fact}") for fact in REMOTE_FACTS}
        entry |= {fact: value for fact, value in facts.items() if value is not None}
        with contextlib.suppress(OSError):
            entry["bytes"] = Path(file).stat().st_size
        kept.inputs[Path(file).absolute()] = entry


def stamp_folder(written: str | Path, target: str | Path, **facts: Any) -> None:
    """Put the record into a folder of files (a fitted model) before it gets its final name."""
    record = place_inputs(provenance(**facts), target)
    text = json.dumps({"id": content_id(written), **record}, indent=1)
    (Path(written) / IN_FOLDER).write_text(text, encoding="utf-8")


def stamp_table(path: str | Path, **facts: Any) -> None:
    """Write the record of a table, file of rates or film beside it: ``NAME.provenance.json``."""
    from driftwave.store import write_text

    path = Path(path)
    record = place_inputs(provenance(**facts), path)
    text = json.dumps({"id": sha256_of(path), **record}, indent=1)
    write_text(path.with_name(path.name + SIDECAR), text + "\n")


def figure_record(target: str | Path) -> str:
    """The record of a figure as text, the same for each run that draws the same figure."""
    record = place_inputs(provenance(), target)
    return json.dumps({k: v for k, v in record.items() if k not in _OF_ONE_RUN})


def own_record(path: str | Path) -> dict[str, Any]:
    """Record of a store, folder of a fit, table or figure; empty if it has none.

    Raises
    ------
    ValueError
        If there is one that cannot be read.
    """
    from driftwave.provenance_read import read_record

    return read_record(Path(path))
