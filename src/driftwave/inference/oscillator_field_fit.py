"""Fit linear stochastic oscillators to a recording's field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

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

if TYPE_CHECKING:
    from driftwave.models.oscillators import Params


@dataclass(frozen=True)
class FieldFit:
    """A fitted model of a field.

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
    def load(cls, folder: Path) -> FieldFit:
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


def fit_field(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    progress: str | None = None,
    checkpoint: Path | None = None,
) -> FieldFit:
    """Fit oscillators to a recording's field.

    Parameters
    ----------
    recording : DataTree
        With a group ``field``; may be lazy, and longer than memory.
    params : Params
    seed : int
        Recorded only: start and iterations are deterministic.
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
    return FieldFit(
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
