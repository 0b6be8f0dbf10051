"""The recording's field, stretch by stretch: analytic signal, phase, and gaps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.phase.electrodes import MINIMUM, Electrodes, good_electrodes
from driftwave.phase.filters import analytic, extend, settling
from driftwave.phase.generalized_phase import generalized_phase
from driftwave.phase.missing import Missing, find_missing, gap_samples
from driftwave.phase.reference import Reference, ReferenceKind, reference_of
from driftwave.phase.spool import Spool
from driftwave.phase.timescale import stretch_of

# s; generalized phase looks ahead three times the longest reversal, beyond what the filter needs.
GAP_MARGIN = 0.5
ALIASED = 0.75
# What was filled into a gap shows until the filter's response has fallen to this share.
EDGE = 0.01
MOST_GAPS = 0.5
# Electrodes filtered at once: their spectra stay in the cache.
TOGETHER = 16


@dataclass(frozen=True)
class Kept:
    """Signals of a field that was gone over, on disk; each (frame, electrode)."""

    signal: Spool
    phase: Spool
    filled: Spool
    generalized: bool


@dataclass(frozen=True)
class FieldReader:
    """Reads analytic signals of any stretch of a recording's field.

    Attributes
    ----------
    lfp : DataArray (time, electrode)
        Lazy; only what is asked for is read.
    electrodes : Electrodes
    band : (low, high)
        Hz.
    sampling_rate : float
        Of the field, Hz.
    every : int
        Samples per frame.
    stride : int
        Frames per detection frame.
    session : str
    missing : Missing
        Samples of ``electrodes`` that are not finite; filled by straight lines for the filter.
    dropped : tuple of str
        Electrodes left out, as too many of their samples are missing.
    kept : Kept or None
        What was read before, and need not be filtered again.
    reference : Reference or None
        From the electrodes that are read to ``electrodes``; None reads these as they are.
    """

    lfp: xr.DataArray
    electrodes: Electrodes
    band: tuple[float, float]
    sampling_rate: float
    every: int
    stride: int
    session: str
    missing: Missing = field(default_factory=Missing.none)
    dropped: tuple[str, ...] = ()
    kept: Kept | None = None
    reference: Reference | None = None

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.every

    @property
    def detection_rate(self) -> float:
        """Detection frames per second."""
        return self.rate / self.stride

    @property
    def frames(self) -> int:
        return -(-self.lfp.sizes["time"] // self.every)

    @cached_property
    def margin(self) -> int:
        """Samples read beyond either end of a stretch."""
        ahead = GAP_MARGIN * stretch_of(self.band)
        return settling(self.band, self.sampling_rate) + round(ahead * self.sampling_rate)

    @cached_property
    def gaps(self) -> np.ndarray:
        """Frames (frame,) that must not be used: missing samples and the filter's edge about them.

        What lies between two gaps is one, too, where it is shorter than the edge.
        """
        inside = np.zeros(self.frames, bool)
        edge = settling(self.band, self.sampling_rate, EDGE)
        for start, stop in gap_samples(self.missing.cover(), self.lfp.sizes["time"], edge).tolist():
            inside[-(-start // self.every) : -(-stop // self.every)] = True
        return inside

    @property
    def detection_gaps(self) -> np.ndarray:
        """Detection frames (frame,) with a gap before the next one."""
        return np.logical_or.reduceat(self.gaps, np.arange(0, self.frames, self.stride))

    def signal(self, start: int, stop: int, *, guard: int = 0) -> np.ndarray:
        """Analytic signal complex64 (electrode, frame) of frames ``start`` to ``stop``.

        ``guard`` further frames at either end come from the recording where it has them. Frames in
        gaps are finite, but made of what was filled in.
        """
        if self.kept is not None:
            low, high = max(0, start - guard), min(stop + guard, self.frames)
            return np.ascontiguousarray(self.kept.signal.read(low, high).T)
        total = self.lfp.sizes["time"]
        first = max(0, start - guard) * self.every
        last = min((min(stop, self.frames) - 1 + guard) * self.every + 1, total)
        low, high = max(0, first - self.margin), min(total, last + self.margin)
        block = self.lfp[low:high].values
        count = -(-(last - first) // self.every)
        electrodes = self.electrodes if self.reference is None else self.reference.source
        found = np.empty((len(electrodes), count), np.complex64)
        for one in range(0, len(electrodes), TOGETHER):
            few = slice(one, one + TOGETHER)
            samples = block[:, electrodes.index[few]].T.astype(float)
            if len(self.missing):
                columns = np.arange(len(electrodes))[few]
                self.missing.of(columns).fill(samples, low)
            missing = (self.margin - (first - low), self.margin - (high - last))
            samples = extend(samples, *missing) if any(missing) else samples
            found[few] = analytic(
                samples,
                rate=self.sampling_rate,
                band=self.band,
                before=self.margin,
                after=self.margin,
                every=self.every,
            )
        return found if self.reference is None else self.reference(found)

    def phase_of(self, signal: np.ndarray, *, generalized: bool) -> tuple[np.ndarray, np.ndarray]:
        """Phase float32 (rad) and interpolated samples (bool) of a signal (electrode, frame)."""
        phase = np.empty(signal.shape, np.float32)
        filled = np.zeros(signal.shape, bool)
        if not generalized:
            return np.angle(signal).astype(np.float32, copy=False), filled
        # A constant, so that a stretch's phase does not depend on what else it holds.
        advance = 2 * np.pi * float(np.sqrt(np.prod(self.band))) / self.rate
        for one in range(0, len(signal), TOGETHER):
            few = slice(one, one + TOGETHER)
            phase[few], filled[few] = generalized_phase(signal[few], advance=advance)
        return phase, filled

    def guarded(self, start: int, stop: int) -> tuple[np.ndarray, slice]:
        """Signal with what generalized phase needs on either side, and where the stretch lies."""
        guard = round(GAP_MARGIN * stretch_of(self.band) * self.rate)
        skip = start - max(0, start - guard)
        signal = self.signal(start, stop, guard=guard)
        return signal, slice(skip, skip + min(stop, self.frames) - start)

    def stretch(
        self, start: int, stop: int, *, generalized: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Analytic signal, phase (rad) and interpolated samples (bool), (electrode, frame) each."""
        kept = self.kept
        if kept is not None and kept.generalized == generalized:
            parts = (kept.signal, kept.phase, kept.filled)
            signal, phase, filled = (
                np.ascontiguousarray(part.read(start, min(stop, self.frames)).T) for part in parts
            )
            return signal, phase, filled
        signal, inside = self.guarded(start, stop)
        phase, filled = self.phase_of(signal, generalized=generalized)
        return signal[:, inside], phase[:, inside], filled[:, inside]


def open_field(
    recording: xr.DataTree,
    dataset: xr.Dataset,
    *,
    band: tuple[float, float],
    frame_rate: float | None,
    max_missing: float = 0.2,
    reference: ReferenceKind = "none",
) -> FieldReader:
    """Check a recording's field against the band, look for missing samples, prepare to read it.

    Parameters
    ----------
    recording : DataTree
    dataset : Dataset
        With ``lfp`` (time, electrode) and the electrodes' positions.
    band : (low, high)
        Hz.
    frame_rate : float or None
        Frames per second; None takes six times the band's upper edge.
    max_missing : float
        An electrode is dropped if this share of its samples is missing, of those that most
        electrodes have; missing samples of others make gaps for all.
    reference : str
        What is subtracted from every electrode: see :func:`driftwave.phase.reference.reference_of`.

    Raises
    ------
    InputError
        Unusable electrodes (see :func:`good_electrodes`), a sampling rate too low for the band, a
        recording too short for the filter, too much of it missing.
    """
    session = str(recording.attrs.get("session", "recording"))
    electrodes = good_electrodes(dataset, session)
    rate = float(dataset.attrs["sampling_rate"])
    if rate < 2.5 * band[1]:
        raise InputError(
            file=session,
            field="field/sampling_rate",
            found=f"{rate:g} Hz",
            expected=f"at least 2.5 times the upper edge of the band, {band[1]:g} Hz",
            fix="Lower `band` in the waves parameters, or raise `field.rate` in the layout",
        )
    # The longest segment of the null's cross-spectrum, or what the filter needs.
    shortest = max(2.0 * stretch_of(band), 3 / band[0])
    length = dataset.sizes["time"] / rate
    if length < shortest:
        raise InputError(
            file=session,
            field="field/lfp",
            found=f"{length:.2f} s",
            expected=f"at least {shortest:.1f} s, which a band from {band[0]:g} Hz needs",
            fix="Use a longer stretch of the recording, or raise the lower edge of `band`",
        )
    wanted = frame_rate or 6 * band[1]
    every = max(1, int(rate / wanted + 1e-6))
    # One-sided spectra up to the band's edge fit into twice the edge without aliasing.
    stride = max(1, int(rate / every / (2 * band[1]) + 1e-6))
    # What the signal is and how spikes were binned stays known.
    lfp = dataset["lfp"].transpose("time", "electrode").assign_attrs(dataset.attrs)
    electrodes, missing, dropped = _present(dataset, lfp, electrodes, session, max_missing)
    reader = FieldReader(
        lfp, electrodes, band, rate, every, stride, session, missing, tuple(dropped)
    )
    if reader.gaps.mean() > MOST_GAPS:
        raise InputError(
            file=session,
            field="field/lfp",
            found=f"{100 * reader.gaps.mean():.0f} % of the recording within gaps (samples that "
            "are not finite on some electrode, and the filter's edge about them)",
            expected=f"at most {100 * MOST_GAPS:.0f} %",
            fix="List the electrodes with missing samples under `field.bad_electrodes`, lower "
            "`max_missing`, or narrow `field.start` and `field.stop` in the layout",
        )
    return reader if reference == "none" else _referenced(reader, reference)


def _referenced(reader: FieldReader, kind: ReferenceKind) -> FieldReader:
    found = reference_of(reader.electrodes, kind)
    if len(found.kept) < MINIMUM:
        raise InputError(
            file=reader.session,
            field="field/x, y",
            found=f"{len(found.kept)} electrodes with neighbours around them",
            expected=f"at least {MINIMUM} for the reference {kind}",
            fix="Set `reference` to common_average or none",
        )
    return replace(reader, electrodes=found.electrodes, reference=found)


def _present(
    dataset: xr.Dataset,
    lfp: xr.DataArray,
    electrodes: Electrodes,
    session: str,
    max_missing: float,
) -> tuple[Electrodes, Missing, list[str]]:
    """The electrodes that have enough samples, what they miss, and the labels of the others."""
    missing = find_missing(lfp, electrodes.index)
    if not len(missing):
        return electrodes, missing, []
    enough = missing.shares(len(electrodes), lfp.sizes["time"]) <= max_missing
    # One that is never finite has no value to fill its gaps with.
    present = np.ones(len(electrodes), bool)
    whole = (missing.start == 0) & (missing.stop == lfp.sizes["time"])
    present[missing.electrode[whole]] = False
    enough &= present
    labels = lfp["electrode"].values if "electrode" in lfp.coords else np.arange(lfp.shape[1])
    dropped = [str(label) for label in labels[electrodes.index[~enough]]]
    if dropped:
        good = np.zeros(dataset.sizes["electrode"], bool)
        good[electrodes.index[enough]] = True
        what = f"{session} (without electrodes {', '.join(dropped[:5])}, which miss samples)"
        electrodes = good_electrodes(dataset.assign_coords(good=("electrode", good)), what)
    return electrodes, missing.of(np.flatnonzero(enough)), dropped
