"""Fit linear stochastic oscillators to spike counts, or to counts and field at once.

The model, and what is assumed of trials, is told in
:mod:`driftwave.inference.oscillator_counts_model`. EM starts at spectral peaks of what the units
(and electrodes) share and stops when units that are left out of inference are predicted no better;
the number of oscillators may be chosen the same way, on validation trials.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.inference.data import spike_arrays
from driftwave.inference.field_bins import FieldBins, field_in_bins
from driftwave.inference.oscillator_counts_em import Observed
from driftwave.inference.oscillator_counts_fit import NAME, CountsFit
from driftwave.inference.oscillator_counts_model import CountsModel
from driftwave.inference.oscillator_counts_start import (
    first_guess,
    frequencies_resolved,
    shared_spectrum,
    starting_frequencies,
)
from driftwave.inference.oscillator_counts_training import (
    CHECK_EVERY,
    Judged,
    Run,
    Schedule,
    run_em,
)
from driftwave.inference.oscillator_model import Bounds
from driftwave.inference.poisson_training import fit_key
from driftwave.inference.selection import leave_units_out, some_trials
from driftwave.progress import Progress

FOLDS = 5
SELECTION_BINS = 15_000  # candidates are compared on random training trials of so many bins


@dataclass(frozen=True)
class CountsSettings:
    """Settings of a fit to spike counts.

    Attributes
    ----------
    oscillators : int, "select" or None
        Their number; chosen by validation likelihood from 1 to ``max_oscillators``; or one per
        spectral peak, at most ``max_oscillators``.
    max_oscillators, slow_factors : int
    band : tuple of float
        Frequencies an oscillator may have, Hz.
    peak_prominence : float
        dB by which a spectral peak stands out.
    max_bandwidth : float
        Largest full width at half maximum of an oscillator's spectral peak, Hz.
    iterations, patience : int
        EM iterations at most, and so many without a lower validation cost.
    observations : "spikes" or "both"
    """

    oscillators: int | Literal["select"] | None = None
    max_oscillators: int = 6
    slow_factors: int = 3
    band: tuple[float, float] = (3.0, 45.0)
    peak_prominence: float = 1.0
    max_bandwidth: float = 12.0
    iterations: int = 100
    patience: int = 20
    observations: Literal["spikes", "both"] = "spikes"


def fit_counts(
    recording: xr.DataTree,
    settings: CountsSettings,
    *,
    seed: int,
    progress: str | None = None,
    checkpoint: Path | None = None,
) -> CountsFit:
    """Fit to the training trials; validation trials stop EM and choose.

    Parameters
    ----------
    recording : DataTree
        With ``spikes``; for ``observations="both"`` with ``field`` too.
    settings : CountsSettings
    seed : int
        Of the groups of units left out, and of the trials that candidates are compared on.
    progress : str, optional
        Label of the progress bar.
    checkpoint : Path, optional
        Folder; an interrupted fit goes on from there and ends with the same numbers.

    Raises
    ------
    InputError
        No spikes, or no field where it is asked for; a band that bins or trials cannot carry; no
        spectral peak where the number is left to them; fewer channels than oscillators.
    """
    return _Task(recording, settings, seed, checkpoint).run(progress)


class _Task:
    """One fit."""

    def __init__(
        self, recording: xr.DataTree, settings: CountsSettings, seed: int, checkpoint: Path | None
    ) -> None:
        self.settings, self.seed, self.checkpoint = settings, seed, checkpoint
        self.session = str(recording.attrs["session"])
        self.arrays = spike_arrays(recording, NAME)
        self._check_band()
        self.field: FieldBins | None = None
        if settings.observations == "both":
            self.field = field_in_bins(recording, NAME, highest=settings.band[1])
        self.train = np.flatnonzero(self.arrays.train)
        low, high = (2 * np.pi * edge * self.arrays.bin_width for edge in settings.band)
        least = float(np.exp(-np.pi * settings.max_bandwidth * self.arrays.bin_width))
        self.bounds = Bounds((low, high), least)
        views = leave_units_out(self.arrays.held_in, FOLDS, seed, NAME)
        visible = None if self.field is None else self.field.visible[..., self.field.good]
        self.judged = Judged(self.arrays, visible, views)
        self.shared = shared_spectrum(
            self._observed(self.train),
            self.arrays.bin_width,
            settings.band,
            None if self.field is None else self.field.gain,
        )
        self._check_resolution()

    def run(self, progress: str | None) -> CountsFit:
        options = self._options()
        frequencies, peaks = starting_frequencies(
            self.shared, self.settings.band, self.settings.peak_prominence, max(options)
        )
        schedule = Schedule(self.settings.iterations, self.settings.patience)
        key = self._key() if self.checkpoint else ""
        whole = len(options) == 1
        few = self.train if whole else some_trials(self.arrays, SELECTION_BINS, self.seed, NAME)
        tried: dict[int, Run] = {}
        with Progress(schedule.looks * (len(options) + 1), progress) as bar:

            def em(count: int, trials: np.ndarray, name: str) -> Run:
                path = self.checkpoint / f"{name}.npz" if self.checkpoint else None
                observed = self._observed(trials)
                start = self._start(observed, frequencies[:count])
                return run_em(
                    start, observed, self.judged, self.bounds, schedule, bar,
                    checkpoint=path, key=key,
                )  # fmt: skip

            for count in options:
                tried[count] = em(count, few, f"oscillators_{count}")
                if tried[count].cost > min(other.cost for other in tried.values()):
                    break
            best = min(tried, key=lambda count: tried[count].cost)
            run = tried[best] if few.size == self.train.size else em(best, self.train, "whole")
        return self._finish(run, tried, min(peaks, best))

    def _observed(self, trials: np.ndarray) -> Observed:
        field = None if self.field is None else self.field.values[trials][..., self.field.good]
        return Observed(self.arrays.counts[trials], field)

    def _start(self, observed: Observed, frequencies: np.ndarray) -> CountsModel:
        return first_guess(
            observed,
            self.shared,
            frequencies,
            slow=self.settings.slow_factors,
            band=self.settings.band,
            bin_width=self.arrays.bin_width,
            bounds=self.bounds,
        )

    def _options(self) -> list[int]:
        """Numbers of oscillators to try."""
        wanted, most = self.settings.oscillators, self.settings.max_oscillators
        if wanted is None:
            peaks, _ = starting_frequencies(
                self.shared, self.settings.band, self.settings.peak_prominence, None
            )
            if not len(peaks):
                raise self._no_peak()
            wanted = min(len(peaks), most)
        options: Iterable[int] = range(1, most + 1) if wanted == "select" else [wanted]
        active = (self.arrays.counts[self.arrays.train].any((0, 1)) & self.arrays.held_in).sum()
        channels = int(active) + (0 if self.field is None else int(self.field.good.sum()))
        if wanted == "select":
            options = [count for count in options if count <= channels]
        elif wanted > channels:
            kind = "held-in units with spikes"
            raise InputError(
                file=self.session,
                field="units",
                found=f"{channels} {kind}{'' if self.field is None else ' and good electrodes'}",
                expected=f"at least as many as oscillators ({wanted})",
                fix="Lower `oscillators`, or keep more units in the layout",
            )
        return list(options)

    def _no_peak(self) -> InputError:
        low, high = self.settings.band
        return InputError(
            file=self.session,
            field="spikes/counts",
            found=f"no spectral peak shared by the units from {low:g} to {high:g} Hz",
            expected=f"one that stands {self.settings.peak_prominence:g} dB above the background",
            fix="Set `oscillators` to a number or to `select`, widen `band`, or lower "
            "`peak_prominence`",
        )

    def _check_band(self) -> None:
        nyquist = 0.5 / self.arrays.bin_width
        if self.settings.band[1] < nyquist:
            return
        raise InputError(
            file=self.session,
            field="spikes/bin_width",
            found=f"bins of {self.arrays.bin_width:g} s, whose Nyquist frequency is {nyquist:g} Hz",
            expected=f"bins that carry {self.settings.band[1]:g} Hz, the upper edge of the band",
            fix="Lower the upper edge of `band`, or set a smaller `bin_width` in the layout",
        )

    def _check_resolution(self) -> None:
        found = frequencies_resolved(self.shared, self.settings.band)
        if found >= 3:
            return
        bins, (low, high) = self.arrays.counts.shape[1], self.settings.band
        raise InputError(
            file=self.session,
            field="spikes/time",
            found=f"trials of {bins * self.arrays.bin_width:g} s, whose spectrum has {found} "
            f"frequencies from {low:g} to {high:g} Hz",
            expected="at least 3",
            fix="Widen `band`, or lengthen the trials in the layout",
        )

    def _key(self) -> str:
        field = hashlib.sha256()
        if self.field is not None:
            used = self.arrays.train | self.arrays.valid
            field.update(np.ascontiguousarray(self.field.values[used]).tobytes())
        settings = json.dumps(asdict(self.settings))
        return fit_key(self.arrays, settings, self.seed, field.hexdigest())

    def _finish(self, run: Run, tried: dict[int, Run], peaks: int) -> CountsFit:
        counts, field = self.arrays.counts[self.arrays.train], self.field
        model, width = run.best.in_standard_gauge(), self.arrays.bin_width
        frequency = model.angle / (2 * np.pi * width)
        looks = np.arange(1, len(run.train_loss) + 1)
        none = np.zeros(0)
        labels = none if field is None else field.electrode
        return CountsFit(
            model=model,
            held_in=self.arrays.held_in,
            seen_bins=self.arrays.seen_bins,
            bins=counts.shape[1],
            bin_width=width,
            lowest=np.full(counts.shape[2], np.log(0.5 / counts[..., 0].size)),
            highest=np.log(counts.max((0, 1)) + 1.0),
            edge=self.settings.band[1],
            good=none.astype(bool) if field is None else field.good,
            electrode=labels if labels.dtype.kind in "iufU" else labels.astype(str),
            field_offset=none if field is None else field.offset,
            field_scale=none if field is None else field.scale,
            gain=none if field is None else field.gain(frequency),
            epoch=np.minimum(CHECK_EVERY * looks, self.settings.iterations),
            train_loss=np.array(run.train_loss),
            valid_loss=np.array(run.valid_loss),
            candidates=np.array(list(tried)),
            costs=np.array([found.cost for found in tried.values()]),
            peaks=peaks,
        )
