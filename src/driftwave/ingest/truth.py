"""The truth that simulated files carry: rates, latent state, fields, oscillators and waves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from hdmf.common import DynamicTable

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
_OSCILLATOR_UNITS = {
    "frequency": "Hz",
    "damping": "per sample",
    "kind": "planar | radial | rotating | standing | random | zero_lag",
    "direction": "degrees",
    "speed": "mm/s",
    "sign": "1",
    "centre_x": "mm",
    "centre_y": "mm",
}
_LOADING_UNITS = {"loading_re": "microvolt", "loading_im": "microvolt"}


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
    if starts is not None and (layout.rate or layout.state or layout.site_re or layout.site_im):
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
    for name in ("site_re", "site_im"):
        path = getattr(layout, name)
        if path is not None and starts is not None:
            part, unit = _at_bins(file, path, f"truth.{name}", starts, bin_width, bins)
            dims = ("trial", "time", "site")
            variables[name] = (dims, part.astype(np.float32), {"units": unit})
    if layout.sites is not None:
        coords |= _sites(file, layout.sites, variables)
    if layout.oscillators is not None:
        variables |= _oscillators(file, layout.oscillators)
    if layout.waves is not None:
        variables |= _waves(file, layout.waves)
    attrs = {} if layout.parameters is None else _parameters(file, layout.parameters)
    return xr.Dataset(variables, coords=coords, attrs=attrs)


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


def _table(file: NwbFile, path: str, field: str) -> DynamicTable:
    """The table at ``processing/MODULE/NAME``."""
    known = {
        f"processing/{module}/{name}": item
        for module, content in file.nwbfile.processing.items()
        for name, item in content.data_interfaces.items()
        if isinstance(item, DynamicTable)
    }
    if path.strip("/") not in known:
        raise file.fault(
            field,
            f"no table at {path!r}",
            f"one of {sorted(known)}" if known else "a table, of which the file has none",
            f"Mend `{field}` in the layout",
        )
    return known[path.strip("/")]


def _sites(file: NwbFile, path: str, variables: dict[str, tuple]) -> dict[str, object]:
    """Coordinates site, site_x, site_y (mm) and, where the table has it, site_frequency (Hz)."""
    frame, _ = table_frame(file, _table(file, path, "truth.sites"))
    for name in ("site_re", "site_im"):
        if name in variables and variables[name][1].shape[2] != len(frame):
            raise file.fault(
                f"truth.sites ({path})",
                f"{len(frame)} rows",
                f"one for each of {variables[name][1].shape[2]} columns of {name}",
                "Name another table in the layout",
            )
    x, y = (column(file, frame, name, "truth.sites", path).to_numpy(float) for name in "xy")
    coords: dict[str, object] = {
        "site": np.arange(len(frame)),
        "site_x": ("site", x, {"units": "mm"}),
        "site_y": ("site", y, {"units": "mm"}),
    }
    if "frequency" in frame:
        coords["site_frequency"] = ("site", frame["frequency"].to_numpy(float), {"units": "Hz"})
    return coords


def _oscillators(file: NwbFile, path: str) -> dict[str, tuple]:
    table = _table(file, path, "truth.oscillators")
    frame, _ = table_frame(file, table, leave_out=tuple(_LOADING_UNITS))
    variables: dict[str, tuple] = {}
    for name, unit in _OSCILLATOR_UNITS.items():
        values = column(file, frame, name, "truth.oscillators", path)
        plain = values.to_numpy(float) if name != "kind" else values.to_numpy().astype(str)
        variables[f"oscillator_{name}"] = ("oscillator", plain, {"units": unit})
    for name, unit in _LOADING_UNITS.items():
        if name not in table.colnames:
            raise file.fault(
                "truth.oscillators",
                f"no column {name!r} in {path}",
                f"columns {list(_LOADING_UNITS)}",
                "Mend `truth.oscillators` in the layout",
            )
        loading = file.read(table[name].data, slice(None), field=f"{path}/{name}")
        variables[name] = (("oscillator", "electrode"), loading.astype(float), {"units": unit})
    return variables


def _parameters(file: NwbFile, path: str) -> dict[str, object]:
    """The columns of a table of one row, as plain values."""
    frame, _ = table_frame(file, _table(file, path, "truth.parameters"))
    if len(frame) != 1:
        raise file.fault(
            f"truth.parameters ({path})", f"{len(frame)} rows", "one row", "Name another table"
        )
    row = frame.drop(columns="id").iloc[0]
    return {str(name): getattr(value, "item", lambda v=value: v)() for name, value in row.items()}
