"""LFP and ECoG streamed from an NWB file: microvolt, decimated after a low-pass, in time chunks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dask.array as da
import numpy as np
import pynwb
import xarray as xr
from scipy import signal

from driftwave.ingest.decimation import decimated
from driftwave.ingest.electrodes import check_positions, marked_good, positions_mm
from driftwave.ingest.file import NwbFile
from driftwave.ingest.intervals import within
from driftwave.ingest.limits import check_factor
from driftwave.ingest.quality import signal_faults
from driftwave.ingest.series import SampleRange, length, sample_range
from driftwave.ingest.tables import column, matching, table_frame
from driftwave.ingest.uneven import EvenClock, even_clock
from driftwave.joblog import note
from driftwave.layout import FieldLayout
from driftwave.memory import check_size

_READ_BYTES = 32_000_000
# Pass band to 0.4 and stop band from 0.5 of the rate that remains, 60 dB down.
_PASS, _STOP, _ATTENUATION = 0.4, 0.5, 60.0


def low_pass(factor: int) -> np.ndarray:
    """Symmetric low-pass (tap,) for decimation by ``factor``; half its length is a multiple of it.

    Kaiser's design (Oppenheim and Schafer, Discrete-Time Signal Processing, eq. 7.75 and 7.76),
    normalised to gain 1 at 0 Hz. Symmetry makes it zero-phase, its finite length exact at the
    seams between chunks.
    """
    if factor == 1:
        return np.ones(1)
    taps, beta = signal.kaiserord(_ATTENUATION, 2 * (_STOP - _PASS) / factor)
    half = factor * int(np.ceil(taps / 2 / factor))
    design = signal.firwin(2 * half + 1, (_PASS + _STOP) / factor, window=("kaiser", beta))
    return design / design.sum()


@dataclass
class FieldSource:
    """An ElectricalSeries as a lazy (time, electrode) array of float32 microvolt.

    Any slice of it is computed from the samples it needs, at most 32 MB of them at a time.

    Attributes
    ----------
    file : NwbFile
    series : pynwb.ecephys.ElectricalSeries
    path : str
        Of the series.
    samples : SampleRange
        Those used; of the even clock, if there is one.
    factor : int
        One sample of so many is kept, after a low-pass.
    chosen : ndarray of int (electrode,)
        Columns of the series.
    clock : EvenClock, optional
        The even clock that uneven samples are interpolated to.
    invalid : ndarray (interval, 2), optional
        Times, s, in which samples are missing, NaN.
    """

    file: NwbFile
    series: pynwb.ecephys.ElectricalSeries
    path: str
    samples: SampleRange
    factor: int
    chosen: np.ndarray
    clock: EvenClock | None = None
    invalid: np.ndarray | None = None

    dtype = np.dtype(np.float32)
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(time, electrode)."""
        inputs = self.samples.stop - self.samples.first
        return -(-inputs // self.factor), len(self.chosen)

    @property
    def rate(self) -> float:
        """Hz."""
        return self.samples.rate / self.factor

    @cached_property
    def taps(self) -> np.ndarray:
        """Low-pass applied before decimation."""
        return low_pass(self.factor)

    @cached_property
    def scale(self) -> tuple[np.ndarray, float]:
        """Gain per electrode and offset that turn stored numbers into microvolt."""
        gain = np.full(self.shape[1], float(self.series.conversion or 1.0))
        if self.series.channel_conversion is not None:
            per_channel = self.file.read(
                self.series.channel_conversion, slice(None), field=self.path
            ).astype(float)
            gain = gain * per_channel[self.chosen]
        return (1e6 * gain).astype(np.float32), 1e6 * float(self.series.offset or 0.0)

    @property
    def rows_at_once(self) -> int:
        """Stored samples that make 32 MB of float32."""
        columns = _columns(self.series)
        return max(1, _READ_BYTES // (4 * columns))

    def stored(self, start: int, stop: int) -> np.ndarray:
        """Samples ``start`` to ``stop`` of the used range at the stored rate, microvolt."""
        if self.clock is None:
            first = self.samples.first
            found = self._read(first + start, first + stop)
        else:
            found = self.clock.interpolated(self._read, start, stop)
        gain, offset = self.scale
        found *= gain
        found += np.float32(offset)
        if self.invalid is not None and len(self.invalid):
            time = self.samples.time + np.arange(start, stop) / self.samples.rate
            found[within(self.invalid, time)] = np.nan
        return found

    def _read(self, start: int, stop: int) -> np.ndarray:
        """Stored numbers of the electrodes used, float32, a copy."""
        rows = slice(start, stop)
        if len(self.chosen) == _columns(self.series):
            raw = self.file.read(self.series.data, rows, field=self.path)
        else:
            # Neighbouring columns up to the last one used; HDF5 picks single ones slowly.
            low, high = int(self.chosen.min()), int(self.chosen.max()) + 1
            raw = self.file.read(self.series.data, (rows, slice(low, high)), field=self.path)
            raw = raw[:, self.chosen - low]
        return raw.reshape(len(raw), -1).astype(np.float32)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        start, stop, step = rows.indices(self.shape[0])
        out = np.empty((max(0, stop - start), self.shape[1]), dtype=np.float32)
        at_once = max(1, self.rows_at_once // self.factor)
        for begin in range(start, stop, at_once):
            end = min(stop, begin + at_once)
            out[begin - start : end - start] = self._block(begin, end)
        return out[::step, columns]

    def _block(self, start: int, stop: int) -> np.ndarray:
        if self.factor == 1:
            return self.stored(start, stop)
        half = len(self.taps) // 2
        inputs = self.samples.stop - self.samples.first
        low, high = start * self.factor - half, (stop - 1) * self.factor + half + 1
        block = self.stored(max(low, 0), min(high, inputs))
        # Beyond the ends the signal goes on as its own point reflection, without a step.
        around = (max(0, -low), max(0, high - inputs))
        if any(around):
            block = np.pad(block, (around, (0, 0)), mode="reflect", reflect_type="odd")
        return decimated(block, self.taps, self.factor, stop - start)


def field_source(
    file: NwbFile, layout: FieldLayout, invalid: np.ndarray | None = None
) -> FieldSource:
    """Find the layout's ElectricalSeries and check that it can be streamed.

    Parameters
    ----------
    file : NwbFile
    layout : FieldLayout
    invalid : ndarray (interval, 2), optional
        Times, s, whose samples are to be missing: sorted, disjoint.

    Raises
    ------
    InputError
        Missing, not an ElectricalSeries, stored as electrode x time, irregular time stamps, no
        electrode that `where` selects, or no samples between start and stop.
    """
    series = file.series(layout.series, "field.series")
    if not isinstance(series, pynwb.ecephys.ElectricalSeries):
        raise file.fault(
            f"field.series ({layout.series})",
            f"a {type(series).__name__}",
            "an ElectricalSeries",
            "Name another series in the layout",
        )
    electrodes = len(series.electrodes.data)
    shape = tuple(series.data.shape)
    if shape != (length(series), electrodes) and not (len(shape) == 1 and electrodes == 1):
        turned = len(shape) == 2 and shape[0] == electrodes
        raise file.fault(
            f"field.series ({layout.series})",
            f"data of shape {shape} for {electrodes} electrodes",
            "time x electrode",
            "Write the series again, transposed" if turned else "Mend the file",
        )
    channels = series.channel_conversion
    if channels is not None and len(channels) != electrodes:
        raise file.fault(
            f"field.series ({layout.series})",
            f"channel_conversion of {len(channels)} channels for {electrodes} electrodes",
            "one for each",
            "Mend the file",
        )
    clock = None
    if layout.uneven == "interpolate" and series.timestamps is not None:
        clock = even_clock(file, series, layout.series, layout.start, layout.stop)
        samples = clock.samples
    else:
        samples = sample_range(
            file,
            series,
            layout.series,
            start=layout.start,
            stop=layout.stop,
            fix="Use the part before or after it by `field.start` and `field.stop`, or set "
            "`field.uneven: interpolate`, with `field.max_missing` for the gaps",
        )
    ratio = 1.0 if layout.rate is None else samples.rate / layout.rate
    check_factor(file, "field.rate", ratio, samples.stop - samples.first)
    factor = max(1, round(ratio))
    frame, _ = table_frame(file, series.electrodes.table)
    frame = frame.iloc[file.read(series.electrodes.data, slice(None), field=layout.series)]
    chosen = np.flatnonzero(matching(file, frame, layout.where, "field.where", "electrodes"))
    return FieldSource(file, series, layout.series, samples, factor, chosen, clock, invalid)


def _columns(series: pynwb.ecephys.ElectricalSeries) -> int:
    return int(series.data.shape[1]) if len(series.data.shape) == 2 else 1


def field_group(file: NwbFile, layout: FieldLayout, source: FieldSource) -> xr.Dataset:
    """The recording's ``field`` group, its signal dask-backed and not yet read.

    The stored samples are read once, in pieces, to find electrodes that are flat or not finite.

    Raises
    ------
    InputError
        Missing electrode columns, positions missing or shared, no good electrode.
    """
    frame, _ = table_frame(file, source.series.electrodes.table)
    rows = file.read(source.series.electrodes.data, slice(None), field=layout.series)
    rows = rows[source.chosen]
    frame = frame.iloc[rows].reset_index(drop=True)
    ids = frame["id"].to_numpy()
    good = marked_good(file, layout, frame)
    coords: dict[str, Any] = {
        "electrode": ids,
        "time": (
            "time",
            source.samples.time + np.arange(source.shape[0]) / source.rate,
            {"units": "s"},
        ),
    }
    if layout.positions is not None:
        positions = positions_mm(file, frame, layout.positions, "field.positions")
        group = frame["group_name"].to_numpy() if "group_name" in frame else None
        check_positions(file, ids, positions, good, unit=layout.positions.unit, group=group)
        coords |= {axis: ("electrode", mm, {"units": "mm"}) for axis, mm in positions.items()}
    broken, flat = signal_faults(source, layout.max_missing)
    good = good & ~broken & ~flat
    if not good.any():
        raise file.fault(
            f"field.series ({layout.series})",
            f"{int(broken.sum())} electrodes with samples that are not finite, {int(flat.sum())} "
            f"flat, of {len(ids)}",
            "at least one good electrode",
            "Use another part of the recording by `field.start` and `field.stop`, or bear missing "
            "samples by `field.max_missing`" + _invalid_words(source),
        )
    coords["good"] = ("electrode", good)
    if layout.region is not None:
        region = column(file, frame, layout.region, "field.region", "electrodes")
        coords["region"] = ("electrode", region.to_numpy().astype(str))
    if "group_name" in frame:
        coords["group"] = ("electrode", frame["group_name"].to_numpy().astype(str))
    chunk = min(source.shape[0], max(1, round(layout.chunk * source.rate)))
    check_size(
        (chunk, source.shape[1]),
        2 * 4,
        file=file.path,
        field="field.chunk",
        what=f"chunks of {chunk} samples of {source.shape[1]} electrodes",
        fix=f"Shorten `field.chunk` (it is {layout.chunk:g} s)",
    )
    # The source cannot be hashed; without a name dask would try, reading it as an object.
    lfp = da.from_array(source, chunks=(chunk, source.shape[1]), name=False, lock=True)
    return xr.Dataset(
        {"lfp": (("time", "electrode"), lfp, {"units": "microvolt"})},
        coords=coords,
        attrs={
            "sampling_rate": source.rate,
            "stored_rate": source.samples.rate,
            "series": layout.series,
            **_missing_facts(source),
            "electrodes_not_finite": ids[broken].tolist(),
            "electrodes_flat": ids[flat].tolist(),
        },
    )


def _invalid_seconds(source: FieldSource) -> float:
    """How much of the samples' time invalid_times cover, s."""
    if source.invalid is None or not len(source.invalid):
        return 0.0
    begin = source.samples.time
    end = begin + (source.samples.stop - source.samples.first) / source.samples.rate
    return float(np.diff(np.clip(source.invalid, begin, end), axis=1).sum())


def _invalid_words(source: FieldSource) -> str:
    seconds = _invalid_seconds(source)
    words = f" ({seconds:.4g} s of it are invalid_times; or set `invalid_times: ignore`)"
    return words if seconds else ""


def _missing_facts(source: FieldSource) -> dict[str, Any]:
    """What was altered of the clock and the samples, for the attributes; said, too."""
    found: dict[str, Any] = {}
    if seconds := _invalid_seconds(source):
        found["invalid_seconds"] = seconds
        note(f"{seconds:.4g} s of {source.path} lie in invalid_times: missing (NaN)")
    if source.clock is not None:
        found |= source.clock.facts()
        note(f"uneven time stamps of {source.path}: interpolated to {source.samples.rate:.6g} Hz")
    return found
