"""Labelled zarr stores and files that appear whole or not at all."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftwave.atomic import atomic_path, write_text
from driftwave.contents import (
    CONTENTS,
    REMAKE,
    checksums,
    contents_problems,
    read_contents,
    seal,
)
from driftwave.errors import InputError
from driftwave.provenance import stamp_store, used

__all__ = ["atomic_path", "open_dataset", "open_tree", "verify_store", "write_text", "write_tree"]

# Zarr says on every write that consolidated metadata is not in the v3 specification yet, Snakemake
# leaves a timestamp file in each directory output and we a list of contents; none concerns a user.
warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
warnings.filterwarnings("ignore", message="Object at .snakemake_timestamp")
warnings.filterwarnings("ignore", message=f"Object at {CONTENTS}")
warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")


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

        known = checksums(temporary)
        stamp_store(temporary, target, {**(facts or {}), "contents": CONTENTS}, known)
        zarr.consolidate_metadata(str(temporary))
        problems = _structure_problems(temporary)
        if problems:
            raise OSError(f"{target}: written store is not whole: {'; '.join(problems)}")
        # The root's metadata has been written again; everything else is as it was.
        seal(temporary, {name: found for name, found in known.items() if name != "zarr.json"})


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
    sealed = (path / CONTENTS).exists()
    try:
        tree = _opened(path, sealed=sealed)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            file=path,
            field="store",
            found=f"unreadable metadata ({error})",
            expected="a zarr store written by driftwave",
            fix=REMAKE,
        ) from error
    if not sealed and CONTENTS in str(tree.attrs.get("provenance")):
        raise InputError(
            file=path, field=CONTENTS, found="nothing", expected="a list of checksums", fix=REMAKE
        )
    used(path)
    return tree.map_over_datasets(_in_order_of_names)


def _in_order_of_names(dataset: xr.Dataset) -> xr.Dataset:
    """Variables as every machine lists them; file systems list folders as they like."""
    names = sorted(dataset.data_vars, key=str)
    variables = {name: dataset.variables[name] for name in names}
    return xr.Dataset(variables, coords=dataset.coords, attrs=dataset.attrs)


def _opened(path: Path, *, sealed: bool) -> xr.DataTree:
    """A store with every file checked as it is read, or one from elsewhere as it is."""
    if not sealed:
        return xr.open_datatree(path, engine="zarr", consolidated=False, chunks=None)
    from driftwave.checked_store import CheckedStore

    while True:
        store: Any = CheckedStore(path, read_only=True)
        contents = store.contents
        try:
            # The list of arrays is in the checked root metadata: a lost folder cannot pass.
            return xr.open_datatree(store, engine="zarr", consolidated=True, chunks=None)
        except InputError:
            if read_contents(path) == contents:
                raise  # otherwise another job has put its own there meanwhile


def open_dataset(path: str | Path) -> xr.Dataset:
    """Open a store of one dataset (latents, an analysis) lazily."""
    return open_tree(path).to_dataset()


def verify_store(path: str | Path, *, read: bool = True) -> list[str]:
    """Check a store and return what is wrong, one sentence each (empty when whole).

    The files must be those of its list of contents, with ``read`` byte for byte; every array must
    have all its chunks; the root must carry provenance. In a store without such a list, ``read``
    decompresses each chunk.
    """
    path = Path(path)
    if (path / CONTENTS).exists():
        damage = [f"{path}: {problem}" for problem in contents_problems(path, read=read)]
        return damage or _structure_problems(path)
    root = path / "zarr.json"
    if root.is_file() and f'\\"contents\\": \\"{CONTENTS}\\"' in root.read_text(errors="replace"):
        return [f"{path}: {CONTENTS}: lost"]
    return _structure_problems(path, read=read)


def _structure_problems(path: Path, *, read: bool = False) -> list[str]:
    import zarr

    problems: list[str] = []
    listed = None if (path / CONTENTS).exists() else False  # else the files themselves are listed
    try:
        root = zarr.open_group(str(path), mode="r", use_consolidated=listed)
        members = root.members(max_depth=None)
    except Exception as error:  # damaged metadata may raise anything
        return [f"{path}: not a readable zarr group ({type(error).__name__}: {error})"]
    if "provenance" not in root.attrs:
        problems.append(f"{path}: root has no provenance")
    for name, item in members:
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
