"""Open an NWB file, or say in one sentence why it cannot be opened; find what lies in it."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pynwb

from driftwave.errors import InputError


@dataclass
class NwbFile:
    """An open NWB file.

    Attributes
    ----------
    path : Path
    nwbfile : pynwb.NWBFile
    h5 : h5py.File
        The same file, for streaming and for paths.
    """

    path: Path
    nwbfile: pynwb.NWBFile
    h5: h5py.File

    @cached_property
    def sha256(self) -> str:
        """Checksum of the file's bytes, hexadecimal."""
        return checksum(self.path)

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
        return self.nwbfile.objects[identity]

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
        try:
            return np.asarray(data[selection])
        except OSError as error:
            raise self.fault(
                field,
                f"data that cannot be read ({error})",
                "a whole HDF5 dataset",
                "Fetch the file again and compare its checksum",
            ) from error

    def fault(self, field: str, found: object, expected: object, fix: str) -> InputError:
        """An InputError that names this file."""
        return InputError(file=self.path, field=field, found=found, expected=expected, fix=fix)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, read in pieces of 4 MB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


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
    if sha256 and checksum(path) != sha256.strip().lower():
        raise InputError(
            file=path,
            field="sha256",
            found=checksum(path),
            expected=sha256,
            fix="Fetch the file again, or mend the checksum in the session table",
        )


def _open_hdf5(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        truncated = "truncated" in str(error)
        raise InputError(
            file=path,
            field="file",
            found="a truncated HDF5 file" if truncated else f"a file HDF5 cannot open ({error})",
            expected="an NWB 2 file (HDF5)",
            fix="Fetch it again and compare its checksum" if truncated else "Check what it is",
        ) from error


def _read_nwb(io: pynwb.NWBHDF5IO, h5: h5py.File, path: Path) -> pynwb.NWBFile:
    try:
        return io.read()
    except Exception as error:  # pynwb raises any of a dozen types on a file outside its schema
        version = _text(h5.attrs.get("nwb_version", b"") or _old_version(h5))
        if version and not version.startswith("2"):
            found = f"NWB version {version}"
            fix = "Convert it to NWB 2 (pynwb cannot read NWB 1)"
        else:
            found = f"HDF5 content that is not NWB 2 ({' '.join(str(error).split())[:200]})"
            fix = "Run `python -m pynwb.validate` on it and mend what it names"
        raise InputError(
            file=path, field="file", found=found, expected="an NWB 2 file", fix=fix
        ) from error


def _old_version(h5: h5py.File) -> str:
    """NWB 1 kept its version in a dataset at the root."""
    item = h5.get("nwb_version")
    return _text(item[()]) if isinstance(item, h5py.Dataset) and item.shape == () else ""


@contextlib.contextmanager
def open_nwb(path: str | Path, sha256: str | None = None) -> Iterator[NwbFile]:
    """Open an NWB 2 file for reading.

    Parameters
    ----------
    path : path
    sha256 : str, optional
        Checksum the file must have, hexadecimal.

    Yields
    ------
    NwbFile

    Raises
    ------
    InputError
        Missing file, folder, web page, truncated or damaged HDF5, NWB 1, content that is not
        NWB, or another checksum than asked.
    """
    path = Path(path)
    _refuse_at_sight(path)
    _check_sha256(path, sha256)
    with contextlib.ExitStack() as stack:
        h5 = stack.enter_context(_open_hdf5(path))
        # pynwb warns of deprecated or doubtful content that no user of a recording can mend;
        # `driftwave inspect` says what matters of it in its notes.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                io = stack.enter_context(pynwb.NWBHDF5IO(file=h5, mode="r"))
            except Exception as error:
                raise InputError(
                    file=path,
                    field="file",
                    found=f"HDF5 content that is not NWB 2 ({error})",
                    expected="an NWB 2 file",
                    fix="Run `python -m pynwb.validate` on it and mend what it names",
                ) from error
            nwbfile = _read_nwb(io, h5, path)
        yield NwbFile(path, nwbfile, h5)
