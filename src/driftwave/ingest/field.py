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

from driftwave.ingest.electrodes import check_positions, marked_good, positions_mm
from driftwave.ingest.file import NwbFile
from driftwave.ingest.quality import signal_faults
from driftwave.ingest.series import SampleRange, sample_range
from driftwave.ingest.tables import column, table_frame
from driftwave.layout import FieldLayout

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
    """

    file: NwbFile
    series: pynwb.ecephys.ElectricalSeries
    path: str
    samples: SampleRange
    factor: int

    dtype = np.dtype(np.float32)
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(time, electrode)."""
        inputs = self.samples.stop - self.samples.first
        return -(-inputs // self.factor), int(self.series.data.shape[1])

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
            gain = gain * np.asarray(self.series.channel_conversion[:], dtype=float)
        return (1e6 * gain).astype(np.float32), 1e6 * float(self.series.offset or 0.0)

    @property
    def rows_at_once(self) -> int:
        """Stored samples that make 32 MB of float32."""
        return max(1, _READ_BYTES // (4 * self.shape[1]))

    def stored(self, start: int, stop: int) -> np.ndarray:
        """Samples ``start`` to ``stop`` of the used range at the stored rate, microvolt."""
        first = self.samples.first
        raw = self.file.read(self.series.data, slice(first + start, first + stop), field=self.path)
        gain, offset = self.scale
        return raw.astype(np.float32) * gain + np.float32(offset)

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
        filtered = signal.upfirdn(self.taps.astype(np.float32), block, 1, self.factor, axis=0)
        skip = 2 * half // self.factor
        return filtered[skip : skip + stop - start]


def field_source(file: NwbFile, layout: FieldLayout) -> FieldSource:
    """Find the layout's ElectricalSeries and check that it can be streamed.

    Raises
    ------
    InputError
        Missing, not an ElectricalSeries, stored as electrode x time, irregular time stamps, or
        no samples between start and stop.
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
    if len(shape) != 2 or shape[1] != electrodes:
        turned = len(shape) == 2 and shape[0] == electrodes
        raise file.fault(
            f"field.series ({layout.series})",
            f"data of shape {shape} for {electrodes} electrodes",
            "time x electrode",
            "Write the series again, transposed" if turned else "Mend the file",
        )
    samples = sample_range(
        file,
        series,
        layout.series,
        start=layout.start,
        stop=layout.stop,
        fix="Use the part before or after it by `field.start` and `field.stop`",
    )
    factor = 1 if layout.rate is None else max(1, round(samples.rate / layout.rate))
    return FieldSource(file, series, layout.series, samples, factor)


def field_group(file: NwbFile, layout: FieldLayout, source: FieldSource) -> xr.Dataset:
    """The recording's ``field`` group, its signal dask-backed and not yet read.

    The stored samples are read once, in pieces, to find electrodes that are flat or not finite.

    Raises
    ------
    InputError
        Missing electrode columns, positions missing or shared, no good electrode.
    """
    frame, _ = table_frame(file, source.series.electrodes.table)
    frame = frame.iloc[np.asarray(source.series.electrodes.data[:])].reset_index(drop=True)
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
            "Use another part of the recording by `field.start` and `field.stop`",
        )
    coords["good"] = ("electrode", good)
    if layout.region is not None:
        region = column(file, frame, layout.region, "field.region", "electrodes")
        coords["region"] = ("electrode", region.to_numpy().astype(str))
    if "group_name" in frame:
        coords["group"] = ("electrode", frame["group_name"].to_numpy().astype(str))
    chunk = min(source.shape[0], max(1, round(layout.chunk * source.rate)))
    # The source cannot be hashed; without a name dask would try, reading it as an object.
    lfp = da.from_array(source, chunks=(chunk, source.shape[1]), name=False, lock=True)
    return xr.Dataset(
        {"lfp": (("time", "electrode"), lfp, {"units": "microvolt"})},
        coords=coords,
        attrs={
            "sampling_rate": source.rate,
            "stored_rate": source.samples.rate,
            "series": layout.series,
            "electrodes_not_finite": ids[broken].tolist(),
            "electrodes_flat": ids[flat].tolist(),
        },
    )
