"""What wave analyses run on: LFP, imaging or binned spikes, in the form of the group ``field``."""

from __future__ import annotations

from typing import Any, Literal, get_args

import dask
import dask.array as da
import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.recording import require

Signal = Literal["auto", "field", "imaging", "spikes"]
KINDS = ("field", "imaging", "spikes")

# The median site fires once in this many bins: most bins of a sparse array are empty all the same,
# while waves that last a hundred bins hold enough spikes to have a phase.
BINS_PER_SPIKE = 10
BIN_WIDTHS = (1e-3, 1.0)
# Stamps this close to a regular clock, in samples, shift a phase by less than the waves' errors.
UNEVEN = 0.1
GAP = 1.5
_CHUNK_BYTES = 32_000_000


def wave_signal(
    recording: xr.DataTree,
    signal: Signal = "auto",
    *,
    bin_width: float | None = None,
    site: float | None = None,
) -> xr.Dataset:
    """The signal of a recording that waves are looked for in.

    Parameters
    ----------
    recording : DataTree
    signal : str
        ``field``, ``imaging`` or ``spikes``; ``auto`` takes the first of these that has positions.
    bin_width : float, optional
        Width of the bins that spikes are counted in, s. By default the median site fires once in
        ten bins, rounded to 1, 2 or 5 times a power of ten within 1 ms to 1 s.
    site : float, optional
        Side (mm) of the squares over which units are pooled; by default those at one position.

    Returns
    -------
    Dataset
        ``lfp`` (time, electrode) in microvolt, dff or spikes/bin (see its attrs), lazy where the
        recording is; coords time (s), electrode, x, y (mm), good and, if known, group. attrs:
        sampling_rate (Hz), signal, and what was done to the clock or the units.

    Raises
    ------
    InputError
        No such signal, no positions, or counts that were cut into trials with gaps between.
    """
    if signal not in get_args(Signal):
        raise InputError(
            file=_name(recording),
            field="signal",
            found=repr(signal),
            expected=f"one of {', '.join(get_args(Signal))}",
            fix="Mend `signal` in the waves parameters",
        )
    kind = _chosen(recording) if signal == "auto" else signal
    if kind == "field":
        found = require(recording, "field", "waves")
    elif kind == "imaging":
        found = _imaging(recording)
    else:
        found = _spikes(recording, bin_width, site)
    return found.assign_attrs(signal=kind)


def signal_of(recording: xr.DataTree) -> str | None:
    """What ``auto`` stands for; None if nothing in the recording has positions."""
    for kind, group in {"field": "field", "imaging": "imaging", "spikes": "units"}.items():
        if kind in _present(recording) and group in recording.children:
            dataset = recording[group]
            if "x" in dataset and "y" in dataset:
                return kind
    return None


def _present(recording: xr.DataTree) -> list[str]:
    """Signals a recording holds, with or without positions."""
    held = set(recording.children)
    if "spike_times" in held:
        held.add("spikes")
    return [kind for kind in KINDS if kind in held]


def _chosen(recording: xr.DataTree) -> str:
    found = signal_of(recording)
    if found is not None:
        return found
    present = _present(recording)
    if present:
        return present[0]  # whose own check says what it lacks
    raise InputError(
        file=_name(recording),
        field="field",
        found=f"groups {sorted(recording.children)}",
        expected="a field, imaging or spikes with positions, which waves need",
        fix="Add one of them to the session's layout, or leave waves out for this session",
    )


def _name(recording: xr.DataTree) -> str:
    return str(recording.attrs.get("session", "recording"))


def _imaging(recording: xr.DataTree) -> xr.Dataset:
    group = require(recording, "imaging", "waves")
    _check_positions(recording, group, "imaging", "`imaging.positions`")
    found = group[["dff"]].rename(dff="lfp", roi="electrode")
    found = found.reset_coords(
        [name for name in found.coords if name not in ("time", "electrode", *_COORDS)], drop=True
    )
    return _on_even_clock(found, _name(recording))


_COORDS = ("x", "y", "z", "good", "group", "region")


def _check_positions(recording: xr.DataTree, dataset: xr.Dataset, group: str, keys: str) -> None:
    if "x" in dataset and "y" in dataset:
        return
    raise InputError(
        file=_name(recording),
        field=f"{group}/x, y",
        found=f"variables {sorted(map(str, dataset.variables))}",
        expected="positions x and y in mm, which waves need",
        fix=f"Name them under {keys} in the layout and ingest again",
    )


def _on_even_clock(dataset: xr.Dataset, session: str) -> xr.Dataset:
    """Interpolate linearly to the median rate where the samples' clock is uneven.

    Times within a gap, an interval above 1.5 times the median one, become NaN.
    """
    time = dataset["time"].values.astype(float)
    steps = np.diff(time)
    if len(time) < 2 or (steps <= 0).any():
        raise InputError(
            file=session,
            field="imaging/time",
            found=f"{len(time)} samples, {int((steps <= 0).sum())} of them not after the last",
            expected="at least two samples with ascending times",
            fix="Mend the time stamps in the file",
        )
    rate = (len(time) - 1) / (time[-1] - time[0])
    late = np.abs((time - time[0]) * rate - np.arange(len(time)))
    if late.max() <= UNEVEN:
        return dataset.assign_attrs(sampling_rate=float(rate))
    step = float(np.median(steps))
    even = time[0] + step * np.arange(int((time[-1] - time[0]) / step + 1e-6) + 1)
    before = np.clip(np.searchsorted(time, even, side="right") - 1, 0, len(time) - 2)
    share = xr.DataArray(((even - time[before]) / steps[before]).astype(np.float32), dims="time")
    share = share.where((steps[before] <= GAP * step) | (share.values == 0))
    values = dataset["lfp"].drop_vars("time")
    mixed = values[before] * (1 - share) + values[before + 1] * share
    mixed = mixed.transpose("time", "electrode").astype(np.float32)
    result = dataset.drop_vars(["lfp", "time"]).assign(lfp=mixed.assign_attrs(values.attrs))
    return result.assign_coords(time=("time", even, {"units": "s"})).assign_attrs(
        sampling_rate=1 / step,
        clock=f"uneven, {steps.min():.4g} to {steps.max():.4g} s apart: interpolated linearly to "
        f"the median interval, {step:.6g} s; gaps above {GAP:g} intervals are NaN",
    )


def _spikes(recording: xr.DataTree, bin_width: float | None, site: float | None) -> xr.Dataset:
    units = require(recording, "units", "waves")
    _check_positions(recording, units, "units", "`spikes.positions`")
    place = np.stack([units["x"].values, units["y"].values], axis=1).astype(float)
    sites = _Sites.of(place, units["unit"].values, site, _name(recording))
    binned: tuple[da.Array | np.ndarray, np.ndarray, float]
    if "spike_times" in recording.children:
        binned = _from_times(recording, sites, bin_width)
    else:
        binned = _from_counts(recording, sites, bin_width)
    counts, time, width = binned
    return xr.Dataset(
        {"lfp": (("time", "electrode"), counts, {"units": "spikes/bin"})},
        coords={
            "time": ("time", time, {"units": "s", "long_name": "centre of bin, session clock"}),
            "electrode": sites.label,
            "x": ("electrode", sites.position[:, 0], {"units": "mm"}),
            "y": ("electrode", sites.position[:, 1], {"units": "mm"}),
            "good": ("electrode", sites.spiking(recording)),
            "units": ("electrode", sites.size, {"units": "count"}),
        },
        attrs={"sampling_rate": 1 / width, "bin_width": width, **sites.facts},
    )


class _Sites:
    """Where units are: those at one place make one site.

    Attributes
    ----------
    of_unit : ndarray of int (unit,)
        Site of each unit, -1 where it has no position.
    position : ndarray (site, 2)
        mm.
    label : ndarray (site,)
        Of the first unit.
    size : ndarray of int (site,)
        Number of units.
    """

    def __init__(
        self, of_unit: np.ndarray, position: np.ndarray, label: np.ndarray, facts: dict[str, Any]
    ) -> None:
        self.of_unit, self.position, self.label, self.facts = of_unit, position, label, facts
        self.size = np.bincount(of_unit[of_unit >= 0], minlength=len(label))

    @classmethod
    def of(cls, place: np.ndarray, label: np.ndarray, side: float | None, session: str) -> _Sites:
        placed = np.isfinite(place).all(axis=1)
        if not placed.any():
            raise InputError(
                file=session,
                field="units/x, y",
                found=f"no position for any of {len(place)} units",
                expected="positions x and y in mm, which waves need",
                fix="Mend the positions in the file, or leave waves out for this session",
            )
        # A nanometre: positions are written with rounding errors, never that close on purpose.
        grid = place[placed] / side if side else np.round(place[placed], 6)
        grid = np.floor(grid - grid.min(axis=0) + 1e-6) if side else grid
        _, first, site = np.unique(grid, axis=0, return_index=True, return_inverse=True)
        # In the order of the units, not of the places.
        order = np.argsort(first)
        first, site = first[order], np.argsort(order)[site.ravel()]
        of_unit = np.full(len(place), -1)
        of_unit[placed] = site
        size = np.bincount(site)
        position = np.stack(
            [np.bincount(site, weights=place[placed, axis]) / size for axis in (0, 1)], axis=1
        )
        pooled = f"units within squares of {side:g} mm" if side else "units at one position"
        facts = {
            "sites": f"{pooled} are summed and named after the first",
            "units_without_position": int((~placed).sum()),
        }
        return cls(of_unit, position, label[placed][first], facts)

    def spiking(self, recording: xr.DataTree) -> np.ndarray:
        """Sites with at least one spike, bool (site,)."""
        rate = recording["units"].dataset["rate"].values
        placed = self.of_unit >= 0
        total = np.bincount(
            self.of_unit[placed], weights=rate[placed] > 0, minlength=len(self.label)
        )
        return total > 0

    def summed(self, counts: np.ndarray) -> np.ndarray:
        """Counts (bin, unit) summed per site, float32 (bin, site)."""
        out = np.zeros((len(counts), len(self.label)), np.float32)
        for unit in np.flatnonzero(self.of_unit >= 0):
            out[:, self.of_unit[unit]] += counts[:, unit]
        return out


def default_width(rate: float) -> float:
    """Bin width (s) in which a site of ``rate`` (Hz) fires 0.1 times, rounded to 1, 2 or 5."""
    wanted = float(np.clip(1 / (BINS_PER_SPIKE * max(rate, 1e-9)), *BIN_WIDTHS))
    power = 10.0 ** np.floor(np.log10(wanted) + 1e-9)
    step = min((1, 2, 5, 10), key=lambda s: abs(np.log(wanted / (s * power))))
    return float(round(step * power, 9))


def _from_times(
    recording: xr.DataTree, sites: _Sites, bin_width: float | None
) -> tuple[da.Array, np.ndarray, float]:
    group = recording["spike_times"].dataset
    time, unit = group["time"].values, group["unit"].values
    site = sites.of_unit[unit]
    order = np.argsort(time, kind="stable")
    order = order[site[order] >= 0]
    time, site = time[order], site[order]
    start, stop, windows = _span(recording, time)
    if bin_width is None:
        inside = (time >= start) & (time < stop)
        per_site = np.bincount(site[inside], minlength=len(sites.label)) / (stop - start)
        bin_width = default_width(float(np.median(per_site[per_site > 0])))
    bins = int((stop - start) / bin_width + 1e-6)
    if bins < 2:
        raise InputError(
            file=_name(recording),
            field="bin_width",
            found=f"{bin_width:g} s for {stop - start:.4g} s of spikes",
            expected="at least two bins",
            fix="Use narrower bins",
        )
    edges = start + bin_width * np.arange(bins + 1)
    ends = np.searchsorted(time, edges)
    observed = _observed(edges, windows)
    step = max(1, _CHUNK_BYTES // (4 * len(sites.label)))
    blocks = []
    for first in range(0, bins, step):
        last = min(first + step, bins)
        own = slice(ends[first], ends[last])
        rows = np.searchsorted(ends, np.arange(own.start, own.stop), side="right") - 1 - first
        block = dask.delayed(_histogram)(
            rows, site[own], observed[first:last], len(sites.label), pure=True
        )
        shape = (last - first, len(sites.label))
        blocks.append(da.from_delayed(block, shape, np.float32))
    return da.concatenate(blocks), edges[:-1] + bin_width / 2, bin_width


def _histogram(rows: np.ndarray, site: np.ndarray, observed: np.ndarray, sites: int) -> np.ndarray:
    """Counts, float32 (bin, site); NaN in bins that were not observed."""
    flat = np.bincount(rows * sites + site, minlength=len(observed) * sites)
    counts = flat.reshape(len(observed), sites).astype(np.float32)
    counts[~observed] = np.nan
    return counts


def _span(recording: xr.DataTree, time: np.ndarray) -> tuple[float, float, np.ndarray | None]:
    """First and last time, s, and when units were observed (interval, 2), if known."""
    stated = recording["spike_times"].attrs.get("observed")
    if stated is not None and len(stated):
        known = np.asarray(stated, dtype=float).reshape(-1, 2)
        return float(known.min()), float(known.max()), known
    if "spikes" in recording.children and recording["spikes"].attrs.get("contiguous"):
        group = recording["spikes"].dataset
        starts = group["trial_start"].values.astype(float)
        stops = starts + group.sizes["time"] * float(group.attrs["bin_width"])
        return float(starts.min()), float(stops.max()), np.stack([starts, stops], axis=1)
    return float(time[0]), float(time[-1]), None


def _observed(edges: np.ndarray, windows: np.ndarray | None) -> np.ndarray:
    """Bins that lie in windows, up to a hundredth of a bin, bool (bin,)."""
    if windows is None:
        return np.ones(len(edges) - 1, dtype=bool)
    width = edges[1] - edges[0]
    windows = windows[np.argsort(windows[:, 0])]
    apart = windows[1:, 0] - windows[:-1, 1] > 0.01 * width
    first = np.concatenate([[windows[0, 0]], windows[1:][apart, 0]])
    last = np.concatenate([windows[:-1][apart, 1], [windows[-1, 1]]])
    run = np.clip(np.searchsorted(first, edges[:-1] + 0.01 * width, side="right") - 1, 0, None)
    return edges[1:] - 0.01 * width <= last[run]


def _from_counts(
    recording: xr.DataTree, sites: _Sites, bin_width: float | None
) -> tuple[np.ndarray, np.ndarray, float]:
    group = require(recording, "spikes", "waves")
    if not group.attrs.get("contiguous"):
        raise InputError(
            file=_name(recording),
            field="spikes",
            found="counts of trials, without spike times",
            expected="spike times, or counts of abutting windows",
            fix="Cut the recording by `windows` in the layout, or leave waves out",
        )
    width = float(group.attrs["bin_width"])
    factor = max(1, round((bin_width or width) / width))
    if bin_width is not None and abs(factor * width - bin_width) > 1e-6 * bin_width:
        raise InputError(
            file=_name(recording),
            field="bin_width",
            found=f"{bin_width:g} s",
            expected=f"a whole multiple of the recording's bins of {width:g} s",
            fix="Mend `bin_width` in the waves parameters",
        )
    starts = group["trial_start"].values.astype(float)
    counts = group["counts"].values
    row = np.rint((starts - starts.min()) / width).astype(int)
    total = int(row.max()) + counts.shape[1]
    long = np.full((total, len(sites.label)), np.nan, np.float32)
    for begin, trial in zip(row, counts, strict=True):
        long[begin : begin + len(trial)] = sites.summed(trial)
    whole = total // factor
    merged = long[: whole * factor].reshape(whole, factor, -1).sum(axis=1)
    time = starts.min() + width * factor * (np.arange(whole) + 0.5)
    return merged, time, width * factor
