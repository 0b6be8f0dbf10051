"""Labelled zarr stores and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftwave import __version__
from driftwave.errors import InputError

# Zarr says on every write that consolidated metadata is not in the v3 specification yet, and
# Snakemake leaves a timestamp file in each directory output; neither concerns a user.
warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
warnings.filterwarnings("ignore", message="Object at .snakemake_timestamp")
warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")


# Why a rename onto something fails: a folder in the way, or a folder where a file is or vice versa.
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


def _temporary_beside(target: Path) -> Path:
    """A hidden path beside ``target`` that tells which process of which machine made it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return target.with_name(f".{target.name}.{owner}.partial")


def _remove_abandoned(target: Path) -> None:
    """Remove what killed processes of this machine left beside ``target``."""
    prefix = f".{target.name}.{socket.gethostname()}-"
    for path in target.parent.glob(f"{glob.escape(prefix)}*.partial"):
        process = path.name.removeprefix(prefix).partition("-")[0]
        if process.isdigit() and not _alive(int(process)):
            _remove(path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is someone else's
        return True
    return True


def _remove(path: Path) -> None:
    """Remove a file or folder, into which threads of a failed write may still be writing."""
    for _ in range(100):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if not path.exists():
            return
        time.sleep(0.02)
    warnings.warn(f"{path} could not be removed; remove it by hand.", stacklevel=2)


def _replace(source: Path, target: Path) -> None:
    """Rename onto ``target``, moving aside what a rename cannot replace.

    Another process may put its own there meanwhile; the last one stays.
    """
    aside: list[Path] = []
    try:
        while True:
            try:
                os.replace(source, target)
                break
            except OSError as error:
                if error.errno not in _IN_THE_WAY:
                    raise
            old = _temporary_beside(target)
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, old)
                aside.append(old)
    except BaseException:
        if aside and not target.exists():
            os.rename(aside.pop(), target)
        raise
    finally:
        for old in aside:
            _remove(old)


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that becomes ``target`` only on success.

    Works for a file or a folder, whichever the caller makes. On an exception nothing is left
    behind and an earlier ``target`` stays as it was; what a killed process left is removed by the
    next one on the same machine.
    """
    target = Path(target)
    temporary = _temporary_beside(target)
    _remove_abandoned(target)
    try:
        yield temporary
        _replace(temporary, target)
    finally:
        if temporary.exists():
            _remove(temporary)


def write_text(target: str | Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


@lru_cache(maxsize=1)
def _git_hash() -> str:
    here = Path(__file__).resolve().parent
    answer = subprocess.run(
        ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "not a git checkout"


def provenance(**facts: Any) -> dict[str, Any]:
    """Where a store came from: version, git hash, time of writing, and the caller's facts."""
    return {
        "driftwave_version": __version__,
        "git_hash": _git_hash(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }


def _encoding(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    from zarr.codecs import ZstdCodec

    # The default zstd passes a flipped bit; with the checksum a damaged chunk cannot be read.
    compressor = [ZstdCodec(level=3, checksum=True)]
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "biufc":
            encoding[str(name)] = {"compressors": compressor}
            if variable.ndim and variable.chunks is None:
                encoding[str(name)]["chunks"] = _chunk_shape(variable)
    return encoding


def _chunk_shape(variable: xr.Variable, target_bytes: int = 32_000_000) -> tuple[int, ...]:
    """Chunks that split the leading dim only, each about ``target_bytes``."""
    shape = tuple(max(1, n) for n in variable.shape)
    row = max(1, int(np.prod(shape[1:])) * variable.dtype.itemsize)
    return (max(1, min(shape[0], target_bytes // row)), *shape[1:])


def _plain(dataset: xr.Dataset) -> xr.Dataset:
    """Drop encodings of the source and turn object strings into fixed-width ones."""
    dataset = dataset.drop_encoding()
    for name, variable in dataset.variables.items():
        if variable.dtype == object or isinstance(
            variable.dtype, np.dtypes.StringDType | type(None)
        ):
            text = np.asarray(variable.values).astype(str)
            if name in dataset.dims:
                dataset = dataset.assign_coords({name: (variable.dims, text, variable.attrs)})
            else:
                dataset[name] = (variable.dims, text, variable.attrs)
    return dataset


def write_tree(
    tree: xr.DataTree | xr.Dataset, target: str | Path, *, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a dataset or tree to ``target`` (zarr v3), verify it, then put it in place.

    Dask-backed variables are computed chunk by chunk while they are written.

    Parameters
    ----------
    tree : DataTree or Dataset
    target : path
        Ends in ``.zarr``. An earlier store there is replaced only once the new one is whole.
    facts : mapping, optional
        Added to the provenance in the root attributes (inputs, parameters, seed ...).
    """
    if isinstance(tree, xr.Dataset):
        tree = xr.DataTree(tree)
    with atomic_path(target) as temporary:
        for node in tree.subtree:
            dataset = _plain(node.to_dataset(inherit=False))
            dataset.attrs = {k: _attr(v) for k, v in dataset.attrs.items()}
            if node is tree:
                dataset.attrs["provenance"] = json.dumps(provenance(**(facts or {})), default=str)
            dataset.to_zarr(
                temporary,
                group=node.path,
                mode="w" if node is tree else "a",
                zarr_format=3,
                consolidated=False,
                write_empty_chunks=True,
                encoding=_encoding(dataset),
            )
        import zarr

        zarr.consolidate_metadata(str(temporary))
        problems = verify_store(temporary, read=False)
        if problems:
            raise OSError(f"{target}: written store is not whole: {'; '.join(problems)}")


def _attr(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return json.dumps(value, default=str)
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def open_tree(path: str | Path) -> xr.DataTree:
    """Open a store lazily as a DataTree.

    Raises
    ------
    InputError
        If it is missing or is not a zarr store.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(
            file=path,
            field="store",
            found="no such folder",
            expected="a zarr store written by driftwave",
            fix="Run the stage that makes it, or mend the path",
        )
    try:
        tree = xr.open_datatree(path, engine="zarr", consolidated=False, chunks=None)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            file=path,
            field="store",
            found=f"unreadable metadata ({error})",
            expected="a zarr store written by driftwave",
            fix="Delete it and run the stage that makes it again",
        ) from error
    # Variables are listed as the file system lists folders, which differs between machines.
    return tree.map_over_datasets(lambda dataset: dataset[sorted(dataset.data_vars, key=str)])


def open_dataset(path: str | Path) -> xr.Dataset:
    """Open a store of one dataset (latents, an analysis) lazily."""
    return open_tree(path).to_dataset()


def verify_store(path: str | Path, *, read: bool = True) -> list[str]:
    """Check a store and return what is wrong, one sentence each (empty when whole).

    Every array must have all its chunks; with ``read`` each chunk is also decompressed, which
    checks its checksum; the root must carry provenance.
    """
    import zarr

    path = Path(path)
    problems: list[str] = []
    try:
        root = zarr.open_group(str(path), mode="r", use_consolidated=False)
    except (OSError, KeyError, ValueError) as error:
        return [f"{path}: not a readable zarr group ({error})"]
    if "provenance" not in root.attrs:
        problems.append(f"{path}: root has no provenance")
    for name, item in root.members(max_depth=None):
        if not isinstance(item, zarr.Array):
            continue
        if item.nchunks_initialized != item.nchunks:
            problems.append(
                f"{path}: {name}: {item.nchunks_initialized} of {item.nchunks} chunks present"
            )
        elif read:
            problems.extend(_read_problems(path, name, item))
    return problems


def _read_problems(path: Path, name: str, array: Any) -> list[str]:
    rows = array.chunks[0] if array.ndim else 1
    try:
        if array.ndim == 0:
            array[...]
        else:
            for start in range(0, array.shape[0], rows):
                array[start : start + rows]
    except Exception as error:  # any codec may raise anything on damaged bytes
        return [f"{path}: {name}: unreadable chunk ({type(error).__name__}: {error})"]
    return []
