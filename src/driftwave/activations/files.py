"""Activations that a user brings: continuous or cut into trials, as zarr or NWB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from driftwave.contents import check_contents
from driftwave.errors import InputError
from driftwave.ingest.behavior import resample
from driftwave.recording import require

NWB_MODULE = "activations"


def read_modules(recording: xr.DataTree, path: Path) -> dict[str, np.ndarray]:
    """Activations of the recording's trials (trial, time, unit) by module, from a file.

    Of a zarr store every variable with dims ``trial`` and ``time`` is a module as it is, and every
    variable with the dim ``time`` alone beside its units is cut into trials: its coordinate
    ``time`` is the session's clock (s). Of an NWB file every TimeSeries of the processing module
    ``activations`` is a module, or, without such a module, every one in acquisition. Continuous
    activations are brought to the bins as behaviour is
    (:func:`driftwave.ingest.behavior.resample`): averaged over the bin where sampled finer,
    interpolated where not.

    Raises
    ------
    InputError
        No such file; not zarr or NWB; nothing in it that could be activations; a clock that is
        missing or does not ascend; other trials than the recording's.
    """
    if not path.exists():
        raise _fault(path, "path", "no such file", "a zarr store or an NWB file", "Mend the path")
    if path.suffix == ".nwb":
        return _from_nwb(recording, path)
    if path.is_dir():
        return _from_zarr(recording, path)
    raise _fault(
        path,
        "path",
        f"a file ending in {path.suffix!r}",
        "a zarr store (a folder) or an NWB file (.nwb)",
        "Write the activations in one of these forms",
    )


def cut_into_trials(
    recording: xr.DataTree, times: np.ndarray, values: np.ndarray, file: Path, field: str
) -> np.ndarray:
    """A continuous series (sample, unit) in the recording's bins (trial, time, unit).

    Bins that the series does not cover are NaN.

    Parameters
    ----------
    times : ndarray (sample,)
        Session's clock, s, ascending.

    Raises
    ------
    InputError
        Times that do not ascend or are not finite; values of another length.
    """
    if len(times) != len(values):
        raise _fault(
            file,
            field,
            f"{len(values)} samples with {len(times)} times",
            "a time for each sample",
            "Write the series as time x unit",
        )
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise _fault(
            file, field, "times that do not ascend", "ascending times in s", "Sort the samples"
        )
    spikes = require(recording, "spikes", "activations")
    return resample(
        times,
        values.astype(float),
        spikes["trial_start"].values.astype(float),
        float(spikes.attrs["bin_width"]),
        spikes.sizes["time"],
    )


def _from_zarr(recording: xr.DataTree, path: Path) -> dict[str, np.ndarray]:
    check_contents(path, "a store")
    try:
        store = xr.open_dataset(path, engine="zarr", consolidated=False, chunks=None)
    except (OSError, KeyError, ValueError) as error:
        raise _fault(
            path, "store", f"unreadable ({error})", "a zarr store", "Write it with xarray"
        ) from error
    listed = [n.strip() for n in str(store.attrs.get("activations", "")).split(",") if n.strip()]
    wanted = listed or [
        str(name)
        for name, variable in store.data_vars.items()
        if "time" in variable.dims and variable.dtype.kind in "iuf"
    ]
    modules = {}
    for name in wanted:
        if name not in store:
            raise _fault(
                path, name, "nothing", "a variable, since `activations` lists it", "Mend the list"
            )
        modules[name] = _of_variable(recording, store[name], path)
    if not modules:
        raise _fault(
            path,
            "variables",
            f"{ {str(n): v.dims for n, v in store.data_vars.items()} }",
            "variables with dims (trial, time, unit), or (time, unit)",
            "Name the dims so",
        )
    return modules


def _of_variable(recording: xr.DataTree, variable: xr.DataArray, path: Path) -> np.ndarray:
    name = str(variable.name)
    rest = [dim for dim in variable.dims if dim not in ("trial", "time")]
    if "time" not in variable.dims or len(rest) != 1:
        raise _fault(
            path,
            name,
            f"dims {variable.dims}",
            "(trial, time, unit) or (time, unit)",
            "Name the dims so",
        )
    if "trial" in variable.dims:
        _same_axes(recording, variable, path)
        return variable.transpose("trial", "time", *rest).values
    if "time" not in variable.coords:
        raise _fault(
            path, name, "no coordinate `time`", "the session's clock in s", "Add the coordinate"
        )
    values = variable.transpose("time", *rest).values
    return cut_into_trials(recording, variable["time"].values.astype(float), values, path, name)


def _same_axes(recording: xr.DataTree, variable: xr.DataArray, path: Path) -> None:
    """Refuse labels of other trials or bins; without labels the shape alone must fit."""
    spikes = require(recording, "spikes", "activations")
    half = 0.5 * float(spikes.attrs["bin_width"])
    for dim, tolerance in (("trial", 0.0), ("time", half)):
        if dim not in variable.coords:
            continue
        have, wanted = variable[dim].values, spikes[dim].values[: variable.sizes[dim]]
        if have.dtype.kind not in "iuf" or len(have) != len(wanted):
            same = np.array_equal(have, wanted)
        else:
            same = bool((np.abs(have - wanted) <= tolerance).all())
        if not same:
            raise _fault(
                path,
                f"{variable.name}: {dim}",
                f"{len(have)} labels from {have[0]} to {have[-1]}",
                f"the recording's, from {spikes[dim].values[0]} to {spikes[dim].values[-1]}",
                "Give activations of this recording's trials and bins",
            )


def _from_nwb(recording: xr.DataTree, path: Path) -> dict[str, np.ndarray]:
    from driftwave.ingest.file import open_nwb
    from driftwave.ingest.series import times_of, values_of

    with open_nwb(path) as file:
        inside = [p for p in file.series_paths if p.startswith(f"processing/{NWB_MODULE}/")]
        chosen = inside or [p for p in file.series_paths if p.startswith("acquisition/")]
        if not chosen:
            raise file.fault(
                f"processing/{NWB_MODULE}",
                f"TimeSeries {sorted(file.series_paths)}",
                f"some in a processing module {NWB_MODULE!r} or in acquisition",
                "Write a TimeSeries per module there",
            )
        modules = {}
        for place in sorted(chosen):
            series = file.series(place, place)
            values = values_of(file, series, place)
            times = times_of(file, series, place)
            name = place.rsplit("/", 1)[-1]
            if name in modules:
                raise file.fault(
                    place, f"a second series {name!r}", "different names", "Rename one of them"
                )
            modules[name] = cut_into_trials(recording, times, values, path, place)
    return modules


def _fault(file: Path, field: str, found: object, expected: object, fix: str) -> InputError:
    return InputError(file=file, field=field, found=found, expected=expected, fix=fix)
