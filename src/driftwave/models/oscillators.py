"""Linear stochastic oscillators: exact Kalman/RTS inference and EM on a field of electrodes.

Each oscillator is a damped rotation z with one complex loading c per electrode, and gives the field
Re(c z); the argument of c over the electrodes is the travelling wave. Slow AR(1) factors carry what
electrodes share below the band. With ``background: factors`` noise is white and independent between
electrodes, as in the paper. With ``whitened`` the 1/f background is first flattened by a zero-phase
filter and the noise has a full covariance between electrodes: only this can tell waves from a
background with spatial correlations of its own, at the price of frequencies up to 1.5 % too high
where the background is steep and the peak broad (the filter tilts the peak).

Bad electrodes (coordinate ``good`` false) are left out of the fit and keep NaN loadings; NaN on
good ones counts as missing. The first 70 % of the recording is fitted (or its training trials); the
next 15 % (or the validation trials) stops the iterations and chooses the number of oscillators; the
rest is never read by the fit. Parameter-expanded EM is followed by a quasi-Newton ascent of the
exact marginal likelihood, which standard errors go with. Everything is deterministic; the seed has
no influence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from driftwave.errors import InputError
from driftwave.inference import oscillator_inference as inference
from driftwave.inference.field import FieldSource, field_source
from driftwave.inference.oscillator_data import (
    Prepared,
    choose_stretches,
    fingerprint,
    prepare,
)
from driftwave.inference.oscillator_errors import StandardErrors
from driftwave.inference.oscillator_gradient import finish
from driftwave.inference.oscillator_likelihood import Observations
from driftwave.inference.oscillator_model import Bounds, Oscillators, refuse_unstable
from driftwave.inference.oscillator_results import (
    figures_of_fit,
    loadings_dataset,
    spread,
    summarise,
)
from driftwave.inference.oscillator_selection import (
    checkpoint_name,
    refuse_few_channels,
    select,
    starting_frequencies,
)
from driftwave.inference.oscillator_start import first_guess
from driftwave.inference.oscillator_training import Schedule, Trained, run_em
from driftwave.inference.whitening import Whitening

PAPER = "Matsuda & Komaki 2017, Neural Computation 29:332"
OBSERVES = "field"
GIVES_CURVES = True
GIVES_WAVES = "loadings"

Frequency = Annotated[float, Field(gt=0)]


class Params(BaseModel):
    """Settings of the oscillator model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    oscillators: Annotated[int, Field(ge=1)] | Literal["select"] | None = Field(
        None,
        description="Number of oscillators; empty for one per spectral peak found; `select` to add "
        "them one at a time and keep the number with the best held-out likelihood.",
    )
    max_oscillators: int = Field(
        6, ge=1, description="At most so many oscillators where their number is not given."
    )
    per_peak: int = Field(
        1,
        ge=1,
        description="Oscillators started at each peak, with the strongest patterns there; several "
        "where waves of one frequency go different ways.",
    )
    background: Literal["whitened", "factors"] = Field(
        "whitened",
        description="1/f background: flattened by a filter, noise correlated between electrodes; "
        "or left to the slow factors, noise independent.",
    )
    slow_factors: int = Field(
        3,
        ge=0,
        description="Number of slow AR(1) factors for what electrodes share below the band.",
    )
    rate: float = Field(
        250.0, gt=0, description="The field is low-passed and decimated to about this rate, Hz."
    )
    band: tuple[Frequency, Frequency] = Field(
        (3.0, 45.0), description="Frequencies an oscillator may have, Hz."
    )
    peak_prominence: float = Field(
        1.0,
        gt=0,
        description="A spectral peak stands out from the flattened mean spectrum by this much, dB.",
    )
    max_bandwidth: float = Field(
        12.0, gt=0, description="An oscillator's spectral peak is at most this wide (FWHM), Hz."
    )
    iterations: int = Field(300, ge=1, description="At most so many EM iterations.")
    tolerance: float = Field(
        1e-8,
        ge=0,
        description="EM stops once an iteration gains less than this, nats per sample and channel.",
    )
    patience: int = Field(
        30, ge=1, description="EM stops after so many iterations without a better validation loss."
    )
    gradient_steps: int = Field(
        60, ge=0, description="At most so many quasi-Newton steps on the exact likelihood after EM."
    )
    stretches: Literal["recording", "trials"] = Field(
        "recording",
        description="What is fitted: the first 70 % of the recording, the next 15 % validating; "
        "or its training trials, the validation trials validating.",
    )
    max_duration: float = Field(
        600.0, gt=0, description="Only this much of the start of the recording is used, s."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Params:
        if self.band[1] <= self.band[0]:
            raise ValueError("band must end above its start")
        return self


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes
    ----------
    model : Oscillators
        Of the whitened good electrodes, microvolt.
    errors : StandardErrors
        Of ``model``.
    taps : ndarray (tap,)
        Of the whitening filter.
    offset : ndarray (channel,)
        Mean of each good electrode over the fitted stretch, microvolt.
    electrode : ndarray (electrode,)
        Labels of all electrodes of the recording.
    good : ndarray of bool (electrode,)
    curves : dict of ndarray (epoch,)
    shares : dict of ndarray (oscillator,) or (slow,)
        Shares of variance.
    candidates : dict of ndarray (candidate,)
        Fits with other numbers of oscillators, where the number was selected.
    facts : dict
        Requested rate, band, log-likelihoods, lengths.
    """

    model: Oscillators
    errors: StandardErrors
    taps: np.ndarray
    offset: np.ndarray
    electrode: np.ndarray
    good: np.ndarray
    curves: dict[str, np.ndarray]
    shares: dict[str, np.ndarray]
    candidates: dict[str, np.ndarray]
    facts: dict[str, Any]

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Smoothed latents of the whole recording, with loadings and what is predicted of the test.

        Raises
        ------
        InputError
            If the recording has other electrodes or another rate.
        """
        from driftwave.inference.field_prediction import test_predictions

        source = field_source(
            recording, self.facts["rate"], "oscillators", passband=self.facts["highest"]
        )
        self._check_same(source)
        mean, deviation = inference.latents_of_field(
            source, self.model, self.whitening, self.offset
        )
        dataset = loadings_dataset(self.model, self.errors, self.whitening, self.good)
        dataset["offset"] = ("electrode", spread(self.offset, self.good), {"units": "microvolt"})
        dims = ("time", "latent")
        dataset["latent"] = (dims, mean.astype(np.float32), {"units": "1"})
        dataset["latent_sd"] = (dims, deviation.astype(np.float32), {"units": "1"})
        dataset = dataset.assign(figures_of_fit(self.shares, self.curves, self.candidates))
        predicted = test_predictions(source, self)
        dataset = dataset.merge(predicted, combine_attrs="no_conflicts")
        field = recording["field"].to_dataset().coords
        names = ("electrode", "x", "y", "z", "group", "region")
        dataset = dataset.assign_coords({name: field[name] for name in names if name in field})
        dataset = dataset.assign_coords(time=("time", source.time(), {"units": "s"}))
        return dataset.assign_attrs(predicted.attrs | self.facts)

    def fill(self, data: np.ndarray) -> np.ndarray:
        """Posterior mean of every good electrode given all that is there, past and future.

        See :func:`driftwave.inference.oscillator_inference.fill`.

        Parameters
        ----------
        data : ndarray (time, electrode)
            Microvolt, at the fit's rate; NaN where hidden or missing.

        Returns
        -------
        ndarray (time, electrode)
            Microvolt.
        """
        return inference.fill(data, self.model, self.whitening, self.offset)

    def forecast(self, data: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        """E[y_{t+h} | y_1..t] of every good electrode at target time t+h.

        See :func:`driftwave.inference.oscillator_inference.forecast`.

        Parameters
        ----------
        data : ndarray (time, electrode)
            Microvolt, at the fit's rate; NaN where missing.
        steps : sequence of int
            h, samples.

        Returns
        -------
        ndarray (step, time, electrode)
            Microvolt; NaN for the first h samples.
        """
        return inference.forecast(data, steps, self.model, self.whitening, self.offset)

    @property
    def whitening(self) -> Whitening:
        """The filter applied before the model."""
        return Whitening(self.taps, self.facts["sampling_rate"])

    def _check_same(self, source: FieldSource) -> None:
        labels = source.lfp["electrode"].values.astype(self.electrode.dtype)
        same = np.array_equal(labels, self.electrode) and np.array_equal(source.good, self.good)
        if same and np.isclose(source.rate, self.facts["sampling_rate"], rtol=1e-3):
            return
        raise InputError(
            file=source.session,
            field="field/electrode",
            found=f"{int(source.good.sum())} good of {len(labels)} electrodes, {source.rate:g} Hz",
            expected=f"the {int(self.good.sum())} good electrodes at "
            f"{self.facts['sampling_rate']:g} Hz that the model was fitted to",
            fix="Fit the model to this recording",
        )

    def save(self, folder: Path) -> None:
        """Write ``oscillators.npz`` and ``oscillators.json`` into a folder."""
        arrays = {f"model_{name}": array for name, array in self.model.arrays().items()}
        arrays |= {f"curve_{name}": array for name, array in self.curves.items()}
        arrays |= {f"share_{name}": array for name, array in self.shares.items()}
        arrays |= {f"table_{name}": array for name, array in self.candidates.items()}
        arrays |= {f"error_{name}": array for name, array in vars(self.errors).items()}
        arrays |= {
            "taps": self.taps,
            "offset": self.offset,
            "electrode": self.electrode,
            "good": self.good,
        }
        np.savez(folder / "oscillators.npz", **arrays)  # type: ignore[arg-type]
        (folder / "oscillators.json").write_text(json.dumps(self.facts, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            If the parameters are no stable process.
        """
        with np.load(folder / "oscillators.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        model = Oscillators(**part("model_"))
        refuse_unstable(model, folder / "oscillators.npz")
        return cls(
            model=model,
            errors=StandardErrors(**part("error_")),
            taps=arrays["taps"],
            offset=arrays["offset"],
            electrode=arrays["electrode"],
            good=arrays["good"],
            curves=part("curve_"),
            shares=part("share_"),
            candidates=part("table_"),
            facts=json.loads((folder / "oscillators.json").read_text()),
        )


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str = "cpu",
    progress: str | None = None,
    checkpoint: Path | None = None,
) -> Fit:
    """Fit oscillators to a recording's field.

    Parameters
    ----------
    recording : DataTree
        With a group ``field``; may be lazy, and longer than memory.
    params : Params
    seed : int
        Recorded only: start and iterations are deterministic.
    device : str
        Not used.
    progress : str, optional
        Label of the progress bar.
    checkpoint : Path, optional
        Folder to resume from.

    Raises
    ------
    InputError
        No field; constant or all-NaN signals on a good electrode; fewer good electrodes than
        oscillators; too short; a band the rate cannot carry; no spectral peak in the band; no
        training or validation trials where trials are asked for.
    """
    del device
    source = field_source(recording, params.rate, "oscillators", passband=params.band[1])
    if isinstance(params.oscillators, int):
        refuse_few_channels(source, params.oscillators)
    whiten = params.background == "whitened"
    stretches = choose_stretches(recording, source, params.stretches, params.max_duration)
    prepared = prepare(source, stretches, band=params.band, whiten=whiten)
    low, high = (2 * np.pi * edge / source.rate for edge in params.band)
    bounds = Bounds((low, high), float(np.exp(-np.pi * params.max_bandwidth / source.rate)))
    observations = Observations(
        prepared.data, prepared.fitted, full=whiten, seen=prepared.seen, fresh=prepared.fresh
    )
    identity = fingerprint(prepared, params.model_dump(), seed)

    def train(start: Oscillators, name: str) -> Trained:
        return run_em(
            observations,
            start,
            bounds,
            Schedule(params.iterations, params.tolerance, params.patience),
            label=progress,
            checkpoint=checkpoint_name(checkpoint, name),
            fingerprint=identity,
        )

    candidates = None
    if params.oscillators == "select":
        trained, candidates = select(
            observations,
            prepared,
            source,
            bounds,
            train,
            most=params.max_oscillators,
            slow=params.slow_factors,
            band=params.band,
        )
    else:
        trained = train(_start(prepared, source, params, bounds), "em")
    finished = finish(observations, trained.model, bounds, params.gradient_steps, label=progress)
    summary = summarise(trained, finished, observations, prepared, source.rate, candidates)
    electrode = source.lfp["electrode"].values
    requested = {
        "sampling_rate": source.rate,
        "rate": params.rate,
        "highest": params.band[1],
        "stretches": params.stretches,
    }
    return Fit(
        model=summary.model,
        errors=summary.errors,
        taps=prepared.whitening.taps,
        offset=prepared.offset,
        electrode=electrode if electrode.dtype.kind in "iuU" else electrode.astype(str),
        good=source.good,
        curves=summary.curves,
        shares=summary.shares,
        candidates=summary.candidates,
        facts=requested | summary.facts,
    )


def _start(prepared: Prepared, source: FieldSource, params: Params, bounds: Bounds) -> Oscillators:
    wanted = params.oscillators if isinstance(params.oscillators, int) else None
    frequencies = starting_frequencies(
        prepared,
        source,
        wanted=wanted,
        most=params.max_oscillators,
        per_peak=params.per_peak,
        band=params.band,
        prominence=params.peak_prominence,
    )
    return first_guess(
        prepared.standard,
        frequencies,
        slow=params.slow_factors,
        full=params.background == "whitened",
        rate=source.rate,
        bounds=bounds,
    )
