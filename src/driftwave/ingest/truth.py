"""The truth that simulated files carry: rates, latent state and waves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from driftwave.ingest.file import NwbFile
from driftwave.ingest.series import times_of, values_of
from driftwave.ingest.tables import column, table_frame
from driftwave.layout import TruthLayout

_WAVE_UNITS = {
    "kind": "planar | radial | rotating",
    "direction": "degrees",
    "speed": "mm/s",
    "frequency": "Hz",
    "sign": "1",
    "centre_x": "mm",
    "centre_y": "mm",
}


def truth_group(
    file: NwbFile,
    layout: TruthLayout,
    *,
    starts: np.ndarray | None,
    offset: float,
    bin_width: float,
    bins: int,
    units: np.ndarray | None,
    units_in_file: int,
) -> xr.Dataset:
    """The recording's ``truth`` group.

    Parameters
    ----------
    starts : ndarray (trial,) or None
        Start of the first bin of each trial, s; None if the layout cuts no trials.
    offset, bin_width : float
        Start of the first bin relative to the alignment event and bin width, s.
    bins : int
    units : ndarray of int (unit,) or None
        Rows of the Units table that were kept.
    units_in_file : int
        Its length, which is that of the true rates' second dimension.

    Raises
    ------
    InputError
        Missing series, table or column; rates that are not one per unit; truth that is missing
        at some bin of a trial.
    """
    variables: dict[str, tuple] = {}
    coords: dict[str, object] = {}
    if starts is not None and (layout.rate or layout.state):
        time = offset + np.arange(bins) * bin_width
        coords |= {"trial": np.arange(len(starts)), "time": ("time", time, {"units": "s"})}
    if layout.rate is not None and starts is not None and units is not None:
        rate, _ = _at_bins(file, layout.rate, "truth.rate", starts, bin_width, bins)
        if rate.shape[2] != units_in_file:
            raise file.fault(
                f"truth.rate ({layout.rate})",
                f"{rate.shape[2]} columns",
                f"one for each of {units_in_file} units",
                "Name another series in the layout",
            )
        kept = rate[:, :, units].astype(np.float32)
        variables["rate"] = (("trial", "time", "unit"), kept, {"units": "Hz"})
        coords["unit"] = np.arange(len(units))
    if layout.state is not None and starts is not None:
        state, unit = _at_bins(file, layout.state, "truth.state", starts, bin_width, bins)
        variables["state"] = (
            ("trial", "time", "state_dim"),
            state.astype(np.float32),
            {"units": unit},
        )
    if layout.waves is not None:
        variables |= _waves(file, layout.waves)
    return xr.Dataset(variables, coords=coords)


def _at_bins(
    file: NwbFile, path: str, field: str, starts: np.ndarray, bin_width: float, bins: int
) -> tuple[np.ndarray, str]:
    """Values at the start of each bin (the nearest sample), or their mean over the bin.

    The mean is taken where the series has two samples per bin or more, since a count's expected
    value is the mean rate over its bin.
    """
    series = file.series(path, field)
    times, values = times_of(file, series, path), values_of(file, series, path)
    step = float(np.median(np.diff(times)))
    lefts = (starts[:, None] + np.arange(bins) * bin_width).ravel()
    if step <= bin_width / 1.5:
        # Half a sample early, so that rounding cannot move a sample on an edge across it.
        low = np.searchsorted(times, lefts - step / 2)
        high = np.searchsorted(times, lefts + bin_width - step / 2)
        running = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
        number = (high - low)[:, None]
        found = (running[high] - running[low]) / np.maximum(number, 1)
        missing = number[:, 0] == 0
    else:
        after = np.clip(np.searchsorted(times, lefts), 1, len(times) - 1)
        nearer_before = lefts - times[after - 1] <= times[after] - lefts
        index = np.where(nearer_before, after - 1, after)
        found = values[index]
        missing = np.abs(times[index] - lefts) > max(step, bin_width) / 2 * (1 + 1e-6)
    if missing.any():
        raise file.fault(
            f"{field} ({path})",
            f"no value at {int(missing.sum())} of {len(lefts)} bins, the first at "
            f"{lefts[missing][0]:.6g} s",
            "true values throughout each trial",
            "Mend the simulated file, or the window in the layout",
        )
    return found.reshape(len(starts), bins, -1), series.unit or "arbitrary"


def _waves(file: NwbFile, path: str) -> dict[str, tuple]:
    table = file.intervals(path, "truth.waves")
    frame, _ = table_frame(file, table)
    variables: dict[str, tuple] = {
        "wave_start": ("wave", frame["start_time"].to_numpy(float), {"units": "s"}),
        "wave_stop": ("wave", frame["stop_time"].to_numpy(float), {"units": "s"}),
    }
    for name, unit in _WAVE_UNITS.items():
        values = column(file, frame, name, "truth.waves", path)
        plain = (
            values.astype(str).to_numpy().astype(str)
            if name == "kind"
            else pd.to_numeric(values, errors="coerce").to_numpy(float)
        )
        variables[f"wave_{name}"] = ("wave", plain, {"units": unit})
    return variables
