"""Factor analysis of the field: shared signals at zero lag, each with an autoregression.

A baseline of models of the field. ``x = mean + loading z + noise`` with independent noise per
electrode, every sample for itself; the number of factors is chosen by the likelihood of the
validation stretch. Hidden electrodes are filled by the conditional Gaussian. For forecasts each
factor's posterior mean follows an autoregression of its own, of an order chosen on the validation
stretch. Loadings are real: what this model takes for a wave stands. The test stretch is never read
by the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field
from scipy.linalg import toeplitz

from driftwave.inference.factors import Factors, fit_factors
from driftwave.inference.field import FieldSource, field_source
from driftwave.inference.field_prediction import test_predictions
from driftwave.inference.field_training import (
    Electrodes,
    Scale,
    load_arrays,
    oscillations_dataset,
    save_arrays,
    standard_blocks,
    training_data,
)
from driftwave.inference.vector_autoregression import lagged_covariances
from driftwave.progress import Progress

PAPER = "Everitt 1984, An Introduction to Latent Variable Models"
OBSERVES = "field"
QUICK = {"factors": [1, 2, 4], "orders": [1, 4], "iterations": 200}


class Params(BaseModel):
    """Settings of the factor analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: tuple[int, ...] = Field(
        (1, 2, 3, 4, 6, 8, 11, 16, 24, 32),
        min_length=1,
        description="Candidate numbers of factors; those not below the number of electrodes are "
        "left out.",
    )
    orders: tuple[int, ...] = Field(
        (1, 2, 4, 8, 16, 32, 64),
        min_length=1,
        description="Candidate orders of the factors' autoregressions, samples.",
    )
    iterations: int = Field(2000, ge=1, description="Largest number of EM iterations.")
    rate: float = Field(
        250.0, gt=0, description="The field is low-passed and decimated to about this rate, Hz."
    )
    highest: float = Field(
        45.0, gt=0, description="Highest frequency that the decimated field has to carry, Hz."
    )
    max_duration: float = Field(
        600.0,
        gt=0,
        description="At most so much is read to train and to choose, s, around where the "
        "validation stretch begins.",
    )


@dataclass(frozen=True)
class Fit:
    """A factor analysis of the standardised field.

    Attributes
    ----------
    model : Factors
    coefficients : ndarray (factor, order)
        Autoregression of each factor's posterior mean, of unit variance or less.
    scale : Scale
    electrodes : Electrodes
    candidates : ndarray of int (candidate,)
        Numbers of factors.
    costs : ndarray (candidate,)
        Minus the validation stretch's log-likelihood, nats per sample and electrode.
    facts : dict
        Requested rate and highest frequency (Hz).
    """

    model: Factors
    coefficients: np.ndarray
    scale: Scale
    electrodes: Electrodes
    candidates: np.ndarray
    costs: np.ndarray
    facts: dict[str, Any]

    def fill(self, data: np.ndarray) -> np.ndarray:
        """Every electrode given those recorded in the same sample; recorded samples as they are.

        Parameters
        ----------
        data : ndarray (time, electrode)
            Microvolt; NaN where hidden or missing.
        """
        standard = self.scale.standardise(data)
        expected = infer_factors(self.model, standard) @ self.model.components + self.model.mean
        return self.scale.restore(np.where(np.isfinite(standard), standard, expected))

    def forecast(self, data: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        """Expectation of each sample (step, time, electrode) given those ``step`` before it."""
        course = infer_factors(self.model, self.scale.standardise(data))
        found = np.full((len(steps), *data.shape), np.nan, dtype=np.float32)
        for place, step in enumerate(steps):
            if step < len(data):
                ahead = forecast_factors(self.coefficients, course, step)
                found[place, step:] = ahead[: len(data) - step] @ self.model.components
                found[place, step:] += self.model.mean
        return self.scale.restore(found)

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Factors of the whole recording and predictions of its test stretch."""
        source = field_source(
            recording, self.facts["rate"], "field_factor_analysis", passband=self.facts["highest"]
        )
        self.electrodes.check(source)
        count = len(self.model.components)
        frequency, damping = peak_of(self.coefficients, source.rate)
        dataset = oscillations_dataset(
            source,
            self.scale,
            frequency=frequency,
            damping=damping,
            loading=self.model.components * self.scale.deviation + 0j,
            latent=self._latent(source),
            labels=[f"factor{k}" for k in range(count)],
        )
        deviation = np.broadcast_to(self.model_sd(), dataset["latent"].shape)
        dataset["latent_sd"] = (("time", "latent"), deviation.astype(np.float32), {"units": "1"})
        dataset = dataset.merge(test_predictions(source, self))
        dataset["valid_cost"] = ("candidate", self.costs, {"units": "nats per sample and channel"})
        return dataset.assign_coords(
            candidate_factors=("candidate", self.candidates, {"units": "1"})
        ).assign_attrs(sampling_rate=source.rate)

    def model_sd(self) -> np.ndarray:
        """Posterior standard deviation (factor,) given all electrodes."""
        loading = self.model.components
        precision = np.eye(len(loading)) + loading / self.model.noise @ loading.T
        return np.sqrt(np.diag(np.linalg.inv(precision)))

    def _latent(self, source: FieldSource) -> np.ndarray:
        blocks = standard_blocks(source, self.scale, 0)
        return np.concatenate([infer_factors(self.model, block) for block in blocks])

    def save(self, folder: Path) -> None:
        """Write ``field_factor_analysis.npz`` and ``.json`` into a folder."""
        arrays = {f"model_{k}": v for k, v in vars(self.model).items()}
        arrays |= {f"scale_{k}": v for k, v in vars(self.scale).items()}
        arrays |= {"label": self.electrodes.label, "good": self.electrodes.good}
        arrays |= {name: getattr(self, name) for name in ("coefficients", "candidates", "costs")}
        save_arrays(folder, "field_factor_analysis", arrays, self.facts)

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        arrays, facts = load_arrays(folder, "field_factor_analysis")
        return cls(
            model=Factors(*(arrays[f"model_{name}"] for name in Factors.__dataclass_fields__)),
            coefficients=arrays["coefficients"],
            scale=Scale(arrays["scale_mean"], arrays["scale_deviation"]),
            electrodes=Electrodes(arrays["label"], arrays["good"], facts["sampling_rate"]),
            candidates=arrays["candidates"],
            costs=arrays["costs"],
            facts=facts,
        )


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,  # noqa: ARG001
    device: str = "cpu",  # noqa: ARG001
    progress: str | None = None,
    checkpoint: Path | None = None,  # noqa: ARG001
) -> Fit:
    """Fit factor analyses to the training stretch and keep the one that validates best.

    Parameters
    ----------
    recording : DataTree
        With a group ``field``.
    params : Params
    seed : int
        Not used: the fit is deterministic.
    device, checkpoint
        Not used.
    progress : str, optional
        Label of the progress bar.

    Raises
    ------
    InputError
        No field; constant signals or missing samples throughout; too short.
    """
    source = field_source(recording, params.rate, "field_factor_analysis", passband=params.highest)
    data = training_data(source, params.max_duration)
    size = data.train.shape[1]
    counts = [n for n in sorted(params.factors) if n < size] or [max(1, size - 1)]
    train = lagged_covariances(data.train, 0)[0]
    valid = lagged_covariances(data.valid, 0)[0]
    models, costs = [], []
    with Progress(len(counts), progress) as bar:
        for count in counts:
            models.append(
                fit_factors(
                    np.zeros(size),
                    train,
                    count,
                    samples=int(np.isfinite(data.train).all(1).sum()),
                    iterations=params.iterations,
                )
            )
            costs.append(_cost(models[-1], valid))
            bar.step(valid=min(costs))
    best = models[int(np.argmin(costs))]
    train_course, valid_course = (infer_factors(best, d) for d in (data.train, data.valid))
    return Fit(
        model=best,
        coefficients=choose_autoregressions(train_course, valid_course, params.orders),
        scale=data.scale,
        electrodes=Electrodes.of(source),
        candidates=np.array(counts),
        costs=np.array(costs),
        facts={
            "rate": params.rate,
            "sampling_rate": source.rate,
            "highest": params.highest,
        },
    )


def _cost(model: Factors, covariance: np.ndarray) -> float:
    """Minus the log-likelihood of samples of zero mean and this covariance."""
    own = model.components.T @ model.components + np.diag(model.noise)
    size = len(own)
    energy = np.trace(np.linalg.solve(own, covariance))
    return float((energy + np.linalg.slogdet(own)[1] + size * np.log(2 * np.pi)) / (2 * size))


def infer_factors(model: Factors, data: np.ndarray) -> np.ndarray:
    """Posterior mean (time, factor), float32, from what is recorded (not NaN) in each sample."""
    there = np.isfinite(data)
    found = np.zeros((len(data), len(model.components)), dtype=np.float32)
    patterns, which = np.unique(np.packbits(there, axis=1), axis=0, return_inverse=True)
    for place in range(len(patterns)):
        rows = np.flatnonzero(which.ravel() == place)
        seen = there[rows[0]]
        if seen.any():
            found[rows] = model.infer(data[rows], seen)
    return found


def choose_autoregressions(
    train: np.ndarray, valid: np.ndarray, orders: Sequence[int]
) -> np.ndarray:
    """Autoregression of each factor (factor, order), padded with zeros to the longest.

    Yule-Walker on the training stretch; each factor's order is that of the smallest one-step error
    on the validation stretch.

    Parameters
    ----------
    train, valid : ndarray (time, factor)
    """
    longest = max(1, min(max(orders), len(valid) // 2))
    found = np.zeros((train.shape[1], longest))
    for k, row in enumerate(found):
        covariance = _autocovariance(train[:, k], longest)
        later = _autocovariance(valid[:, k], longest)
        errors = {}
        for order in {min(order, longest) for order in orders}:
            matrix = toeplitz(covariance[:order]) + 1e-6 * covariance[0] * np.eye(order)
            a = np.linalg.solve(matrix, covariance[1 : order + 1])
            past = a @ toeplitz(later[:order]) @ a
            errors[float(later[0] - 2 * a @ later[1 : order + 1] + past), order] = a
        order, a = min(errors)[1], errors[min(errors)]
        row[:order] = a
    return found[:, : max(1, int(np.flatnonzero(found.any(0)).max(initial=0)) + 1)]


def _autocovariance(course: np.ndarray, lags: int) -> np.ndarray:
    course = course.astype(np.float64)
    return np.array([course[lag:] @ course[: len(course) - lag] for lag in range(lags + 1)])


def forecast_factors(coefficients: np.ndarray, course: np.ndarray, step: int) -> np.ndarray:
    """Factors (time, factor) that each sample's past makes expect ``step`` samples later."""
    ahead = coefficients.copy()
    for _ in range(step - 1):
        first = ahead[:, :1]
        ahead = np.concatenate([ahead[:, 1:], np.zeros_like(first)], 1) + first * coefficients
    found = np.zeros_like(course)
    for lag in range(min(ahead.shape[1], len(course))):
        found[lag:] += course[: len(course) - lag] * ahead[:, lag].astype(course.dtype)
    return found


def peak_of(coefficients: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequency (Hz) and modulus of each autoregression's slowest-decaying pole."""
    poles = []
    for a in coefficients:
        roots = np.roots(np.concatenate([[1.0], -a]))
        poles.append(roots[np.argmax(np.abs(roots))] if len(roots) else 0.0)
    found = np.array(poles)
    return np.abs(np.angle(found)) * rate / (2 * np.pi), np.abs(found)
