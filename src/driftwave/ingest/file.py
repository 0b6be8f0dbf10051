"""Open an NWB file, or say in one sentence why it cannot be opened; find what lies in it."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pynwb

from driftwave.address import Address, is_remote
from driftwave.contents import sha256_of
from driftwave.errors import DriftwaveError, InputError
from driftwave.ingest.outside import refuse_outside
from driftwave.ingest.remote import Access, RangeReader, Remote, open_remote
from driftwave.isolation import OPENING, READING, watched
from driftwave.memory import check_size
from driftwave.reading import plain

# Bytes of data that no compression packs into one; asked of data of 100 GB and more.
_DENSEST, _LARGE = 10_000, 10**11
# What h5py raises when it reads damaged or unusual data.
_UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError, OverflowError)


@dataclass
class NwbFile:
    """An open NWB file.

    Attributes
    ----------
    path : Path or Address
        How messages name the file.
    nwbfile : pynwb.NWBFile
    h5 : h5py.File
        The same file, for streaming and for paths.
    remote : Remote or None
        What is known of a file on the web or on DANDI.
    """

    path: Path | Address
    nwbfile: pynwb.NWBFile
    h5: h5py.File
    remote: Remote | None = None

    @cached_property
    def sha256(self) -> str:
        """Checksum of the file's bytes, hexadecimal; or why it is not known of a remote file."""
        return sha256_of(self.path) if self.remote is None else self.remote.sha256

    @property
    def origin(self) -> dict[str, str | int]:
        """Facts on where a remote file came from, for the store's attributes."""
        return {} if self.remote is None else dict(self.remote.facts)

    @cached_property
    def series_paths(self) -> dict[str, str]:
        """Path inside the file of every TimeSeries, with its object id."""
        found: dict[str, str] = {}

        def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
            identity = item.attrs.get("object_id")
            if isinstance(self.nwbfile.objects.get(_text(identity)), pynwb.TimeSeries):
                found[name] = _text(identity)

        self.h5.visititems(visit)
        return found

    def series(self, path: str, field: str) -> pynwb.TimeSeries:
        """The TimeSeries at ``path``; ``field`` is the layout key that names it.

        Raises
        ------
        InputError
            If there is none; the sentence lists those there are.
        """
        identity = self.series_paths.get(path.strip("/"))
        if identity is None:
            raise self.fault(
                field,
                f"no TimeSeries at {path!r}",
                f"one of {sorted(self.series_paths)}",
                f"Mend `{field}` in the layout",
            )
        found = self.nwbfile.objects[identity]
        self._check_stored(found.data, path)
        return found

    def intervals(self, path: str, field: str) -> pynwb.epoch.TimeIntervals:
        """The interval table named ``trials``, ``intervals/NAME`` or ``NAME``."""
        name = path.strip("/").removeprefix("intervals/")
        tables = dict(self.nwbfile.intervals or {})
        if self.nwbfile.trials is not None:
            tables["trials"] = self.nwbfile.trials
        if self.nwbfile.epochs is not None:
            tables["epochs"] = self.nwbfile.epochs
        if name not in tables:
            known = sorted("trials" if key == "trials" else f"intervals/{key}" for key in tables)
            raise self.fault(
                field,
                f"no interval table {path!r}",
                f"one of {known}" if known else "an interval table, of which the file has none",
                f"Mend `{field}` in the layout"
                + ("" if known else ", or cut the recording by `windows` instead"),
            )
        return tables[name]

    def read(self, data: Any, selection: Any = (), *, field: str) -> np.ndarray:
        """Values of a dataset; a damaged chunk becomes an InputError naming ``field``."""
        size = self._check_size(data, selection, field)
        try:
            with watched(READING + size / 1e6):
                return np.asarray(data[selection])
        except _UNREADABLE as error:
            raise self.fault(
                field,
                f"data that cannot be read ({_brief(error)})",
                "a whole HDF5 dataset",
                "Fetch the file again and compare its checksum",
            ) from error

    def _check_stored(self, data: Any, field: str) -> None:
        """Refuse data that a file claims and does not hold: to read it would take for ever."""
        if not isinstance(data, h5py.Dataset) or data.nbytes < _LARGE:
            return
        stored = data.id.get_storage_size()
        if data.nbytes > _DENSEST * max(1, stored):
            raise self.fault(
                field,
                f"data of shape {data.shape}, of which the file holds {stored} bytes",
                "data that were written",
                "Fetch the file again, or name another series in the layout",
            )

    def _check_size(self, data: Any, selection: Any, field: str) -> float:
        """Refuse to read more than fits: a small file can claim, or unpack to, any size.

        Returns the size of what is selected, bytes.
        """
        if not isinstance(data, h5py.Dataset) or data.shape is None:
            return 0.0
        parts = selection if isinstance(selection, tuple) else (selection,)
        lengths = [
            len(range(*part.indices(length))) if isinstance(part, slice) else length
            for part, length in zip(parts, data.shape, strict=False)
        ]
        shape = (*lengths, *data.shape[len(parts) :])
        words: dict[str, Any] = {
            "file": self.path,
            "field": field,
            "fix": "Check the file, or use a machine with more memory",
        }
        what = f"values of shape {shape} to be read at once"
        check_size(shape, data.dtype.itemsize, what=what, **words)
        if data.chunks:
            what = f"values in pieces of shape {data.chunks}, each read at once"
            check_size(data.chunks, data.dtype.itemsize, what=what, **words)
        return math.prod(shape) * data.dtype.itemsize

    def fault(self, field: str, found: object, expected: object, fix: str) -> InputError:
        """An InputError that names this file."""
        return InputError(file=self.path, field=field, found=found, expected=expected, fix=fix)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _brief(error: Exception) -> str:
    """What an error says, on one line of bounded length."""
    return plain(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def explained(file: NwbFile) -> Iterator[None]:
    """Turn what content outside of NWB's rules raises, anywhere, into one sentence.

    Faults that labs' files are known to have get sentences of their own, where they are found;
    this is for the others. It may as well be a fault of driftwave, so the sentence says where the
    traceback is: among the events of the job's log.

    Raises
    ------
    InputError
    """
    try:
        yield
    except (DriftwaveError, NameError, ImportError, AssertionError):  # not the file's doing
        raise
    except MemoryError as error:
        raise file.fault(
            "content",
            "values that take more than the memory of this job",
            "a recording that fits",
            "Give the job more memory, or ask less of the layout",
        ) from error
    except Exception as error:  # pandas, hdmf, h5py and numpy each raise types of their own
        raise file.fault(
            "content",
            f"something that cannot be used as the layout asks ({_brief(error)})",
            "content that keeps the rules of NWB 2",
            "Run `python -m pynwb.validate` on it and mend what it names, or leave out of the "
            "layout what is broken; if the file is valid this may be a fault of driftwave, so "
            "report it with the traceback, which `driftwave ingest --log` keeps in the log's "
            ".jsonl file",
        ) from error


def _refuse_at_sight(path: Path) -> None:
    """Faults that show without HDF5: no file, a folder, an empty file, a web page, text."""

    def fault(found: str, fix: str) -> InputError:
        return InputError(
            file=path, field="file", found=found, expected="an NWB 2 file (HDF5)", fix=fix
        )

    if not path.exists():
        raise fault("no such file", "Mend the path, or `data_root` in the configuration")
    if path.is_dir():
        raise fault("a folder", "Give the path of one .nwb file (zarr folders are not read)")
    if path.stat().st_size == 0:
        raise fault("an empty file", "Fetch it again")
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise fault(
            "a web page saved under this name", "Fetch the file itself, from its download link"
        )


def _check_sha256(path: Path, sha256: str | None) -> None:
    found = sha256_of(path) if sha256 else None
    if sha256 and found != sha256.strip().lower():
        raise InputError(
            file=path,
            field="sha256",
            found=found,
            expected=sha256,
            fix="Fetch the file again, or mend the checksum in the session table",
        )


def _open_hdf5(source: Path | RangeReader, path: Path | Address) -> h5py.File:
    try:
        return h5py.File(source, "r")
    except OSError as error:
        truncated = "truncated" in str(error)
        raise InputError(
            file=path,
            field="file",
            found="a truncated HDF5 file"
            if truncated
            else f"a file HDF5 cannot open ({_brief(error)})",
            expected="an NWB 2 file (HDF5)",
            fix="Fetch it again and compare its checksum" if truncated else "Check what it is",
        ) from error


def _check_links(h5: h5py.File, path: Path | Address) -> None:
    try:
        refuse_outside(h5, path)
    except _UNREADABLE as error:
        raise InputError(
            file=path,
            field="file",
            found=f"damaged HDF5 content ({_brief(error)})",
            expected="an NWB 2 file (HDF5)",
            fix="Fetch it again and compare its checksum",
        ) from error


def _read_nwb(io: pynwb.NWBHDF5IO, h5: h5py.File, path: Path | Address) -> pynwb.NWBFile:
    try:
        return io.read()
    except Exception as error:  # pynwb raises any of a dozen types on a file outside its schema
        raise _not_nwb(path, error, _version(h5)) from error


def _not_nwb(path: Path | Address, error: Exception, version: str = "") -> InputError:
    if version and not version.startswith("2"):
        found = f"NWB version {version}"
        fix = "Convert it to NWB 2 (pynwb cannot read NWB 1)"
    else:
        found = f"HDF5 content that is not NWB 2 ({_brief(error)})"
        fix = "Run `python -m pynwb.validate` on it and mend what it names"
    return InputError(file=path, field="file", found=found, expected="an NWB 2 file", fix=fix)


def _version(h5: h5py.File) -> str:
    """Version of NWB, which NWB 1 kept in a dataset at the root; empty if it cannot be read."""
    try:
        item = h5.get("nwb_version")
        old = item[()] if isinstance(item, h5py.Dataset) and item.shape == () else b""
        return _text(h5.attrs.get("nwb_version", b"") or old)[:40]
    except _UNREADABLE:
        return ""


@contextlib.contextmanager
def open_nwb(
    path: str | Path,
    sha256: str | None = None,
    *,
    access: Access = "auto",
    cache: str | Path | None = None,
) -> Iterator[NwbFile]:
    """Open an NWB 2 file for reading.

    Parameters
    ----------
    path : path or str
        A local file, an http(s) address, or ``dandi:DANDISET[@VERSION]/PATH``.
    sha256 : str, optional
        Checksum the file must have, hexadecimal.
    access, cache
        How a remote file is read; see :func:`driftwave.ingest.remote.open_remote`.

    Yields
    ------
    NwbFile

    Raises
    ------
    InputError
        Missing file, folder, web page, truncated or damaged HDF5, NWB 1, content that is not
        NWB, or another checksum than asked; of a remote file any fault of network or server.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(path, str) and is_remote(path):
            remote = stack.enter_context(open_remote(path, sha256, access=access, cache=cache))
            stack.enter_context(_told_by(remote.reader))
            with watched(OPENING):
                opened = _opened(stack, remote.name, remote.file, remote)
            yield opened
        else:
            local = Path(path)
            _refuse_at_sight(local)
            _check_sha256(local, sha256)
            with watched(OPENING):
                opened = _opened(stack, local, local, None)
            yield opened


@contextlib.contextmanager
def _told_by(reader: RangeReader | None) -> Iterator[None]:
    """Report the fault of a remote file rather than what HDF5 made of it."""
    try:
        yield
    except Exception as error:
        if reader is not None and reader.fault is not None:
            raise reader.fault from error
        raise
    if reader is not None and reader.fault is not None:
        raise reader.fault


def _opened(
    stack: contextlib.ExitStack,
    name: Path | Address,
    source: Path | RangeReader,
    remote: Remote | None,
) -> NwbFile:
    h5 = stack.enter_context(_open_hdf5(source, name))
    _check_links(h5, name)
    # pynwb warns of deprecated or doubtful content that no user of a recording can mend;
    # `driftwave inspect` says what matters of it in its notes.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            io = stack.enter_context(pynwb.NWBHDF5IO(file=h5, mode="r"))
        except Exception as error:
            raise _not_nwb(name, error) from error
        return NwbFile(name, _read_nwb(io, h5, name), h5, remote)
