"""Vector autoregression of the field: every electrode from all of them, some samples back.

A baseline of models of the field. Order and ridge are chosen by the one-step likelihood of the
validation stretch. Hidden electrodes are filled by the linear minimum mean-square interpolator of
the fitted process over a window around each sample, forecasts follow by iterating the model. Its
oscillations are the slowest-decaying eigenmodes of the autoregression (Neumaier & Schneider 2001,
ACM Trans Math Softw 27:27). The test stretch is never read by the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse.linalg import LinearOperator, eigs

from driftwave.inference.field import FieldSource, field_source
from driftwave.inference.field_prediction import test_predictions
from driftwave.inference.field_training import (
    Electrodes,
    Scale,
    TrainingData,
    load_arrays,
    oscillations_dataset,
    save_arrays,
    standard_blocks,
    training_data,
    turned,
)
from driftwave.inference.vector_autoregression import (
    Autoregression,
    fit_autoregressions,
    forecast,
    interpolate,
    lagged_covariances,
    surprise,
)
from driftwave.progress import Progress

PAPER = "Lütkepohl 2005, New Introduction to Multiple Time Series Analysis"
OBSERVES = "field"
GIVES_WAVES = "loadings"
QUICK = {"orders": [1, 2, 4], "ridges": [0.01, 0.1], "window": 4}
MOST_REGRESSORS = 1600
MOST_IN_WINDOW = 3000


class Params(BaseModel):
    """Settings of the vector autoregression."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    orders: tuple[int, ...] = Field(
        (1, 2, 4, 8, 16, 32),
        min_length=1,
        description="Candidate orders, samples; those with more than 1600 regressors or fewer "
        "than two training samples to each are left out.",
    )
    ridges: tuple[float, ...] = Field(
        (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0),
        min_length=1,
        description="Candidate ridge penalties, in units of an electrode's variance.",
    )
    window: int = Field(
        32,
        ge=1,
        description="Hidden electrodes are filled from at most so many samples to either side.",
    )
    modes: int = Field(6, ge=1, description="Number of eigenmodes given as latents.")
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
class Modes:
    """Oscillating eigenmodes, ascending in frequency.

    Attributes
    ----------
    value : ndarray (mode,)
        Complex eigenvalue of the companion matrix, of positive argument.
    loading : ndarray (mode, electrode)
        Complex, microvolt, of latents whose parts have unit variance over the training stretch.
    reader : ndarray (mode, order * electrode)
        Complex; times the last samples (latest first, standardised) gives the latent.
    """

    value: np.ndarray
    loading: np.ndarray
    reader: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A fitted autoregression.

    Attributes
    ----------
    model : Autoregression
        Of the standardised good electrodes.
    modes : Modes
    scale : Scale
    electrodes : Electrodes
    candidates : ndarray (candidate, 2)
        Order and ridge.
    costs : ndarray (candidate,)
        Minus the validation stretch's log-likelihood, nats per sample and electrode.
    facts : dict
        Requested rate and highest frequency (Hz), window (samples).
    """

    model: Autoregression
    modes: Modes
    scale: Scale
    electrodes: Electrodes
    candidates: np.ndarray
    costs: np.ndarray
    facts: dict[str, Any]

    def fill(self, data: np.ndarray) -> np.ndarray:
        """Every electrode given all that is recorded; recorded samples as they are.

        Parameters
        ----------
        data : ndarray (time, electrode)
            Microvolt; NaN where hidden or missing.
        """
        standard = self.scale.standardise(data)
        return self.scale.restore(interpolate(self.model, standard, self.facts["window"]))

    def forecast(self, data: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        """Expectation of each sample (step, time, electrode) given those ``step`` before it."""
        return self.scale.restore(forecast(self.model, self.scale.standardise(data), steps))

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Eigenmodes of the whole recording and predictions of its test stretch."""
        source = field_source(
            recording, self.facts["rate"], "field_var", passband=self.facts["highest"]
        )
        self.electrodes.check(source)
        dataset = oscillations_dataset(
            source,
            self.scale,
            frequency=np.angle(self.modes.value) * source.rate / (2 * np.pi),
            damping=np.abs(self.modes.value),
            loading=self.modes.loading,
            latent=self._latent(source),
            labels=[f"osc{k}_{part}" for k in range(len(self.modes.value)) for part in _PARTS],
        )
        dataset = dataset.merge(test_predictions(source, self))
        dataset["valid_cost"] = ("candidate", self.costs, {"units": "nats per sample and channel"})
        return dataset.assign_coords(
            candidate_order=("candidate", self.candidates[:, 0].astype(int), {"units": "samples"}),
            candidate_ridge=("candidate", self.candidates[:, 1], {"units": "1"}),
        ).assign_attrs(order=self.model.order, sampling_rate=source.rate)

    def _latent(self, source: FieldSource) -> np.ndarray:
        order, count = self.model.order, len(self.modes.value)
        reader = self.modes.reader.reshape(count, order, -1).astype(np.complex64)
        latent = np.empty((source.samples, count, 2), dtype=np.float32)
        start = 0
        for block in standard_blocks(source, self.scale, order - 1):
            part = _read(reader, block)
            latent[start : start + len(part)] = np.stack([part.real, part.imag], -1)
            start += len(part)
        return latent.reshape(source.samples, -1)

    def save(self, folder: Path) -> None:
        """Write ``field_var.npz`` and ``field_var.json`` into a folder."""
        arrays = {f"model_{k}": v for k, v in vars(self.model).items()}
        arrays |= {f"modes_{k}": v for k, v in vars(self.modes).items()}
        arrays |= {f"scale_{k}": v for k, v in vars(self.scale).items()}
        arrays |= {"label": self.electrodes.label, "good": self.electrodes.good}
        arrays |= {"candidates": self.candidates, "costs": self.costs}
        save_arrays(folder, "field_var", arrays, self.facts)

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        arrays, facts = load_arrays(folder, "field_var")

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        return cls(
            model=Autoregression(**part("model_")),
            modes=Modes(**part("modes_")),
            scale=Scale(**part("scale_")),
            electrodes=Electrodes(arrays["label"], arrays["good"], facts["sampling_rate"]),
            candidates=arrays["candidates"],
            costs=arrays["costs"],
            facts=facts,
        )


_PARTS = ("re", "im")


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,  # noqa: ARG001
    device: str = "cpu",  # noqa: ARG001
    progress: str | None = None,
    checkpoint: Path | None = None,  # noqa: ARG001
) -> Fit:
    """Fit autoregressions to the training stretch and keep the one that validates best.

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
    source = field_source(recording, params.rate, "field_var", passband=params.highest)
    data = training_data(source, params.max_duration)
    size = data.train.shape[1]
    most = max(1, min(MOST_REGRESSORS, len(data.train) // 2) // size)
    orders = sorted({order for order in params.orders if order <= most} or {min(params.orders)})
    covariances = lagged_covariances(data.train, orders[-1])
    candidates, costs = [], []
    best: Autoregression | None = None
    with Progress(len(orders), progress) as bar:
        for order in orders:
            models = fit_autoregressions(covariances, order, params.ridges)
            for ridge, model in zip(params.ridges, models, strict=True):
                candidates.append((order, ridge))
                costs.append(surprise(model, data.valid))
                if costs[-1] <= min(costs):
                    best = model
            bar.step(valid=min(costs))
    assert best is not None
    facts = {
        "rate": params.rate,
        "sampling_rate": source.rate,
        "highest": params.highest,
        "window": min(params.window, max(1, (MOST_IN_WINDOW // size - 1) // 2)),
    }
    return Fit(
        model=best,
        modes=_modes(best, data, params),
        scale=data.scale,
        electrodes=Electrodes.of(source),
        candidates=np.array(candidates),
        costs=np.array(costs),
        facts=facts,
    )


def _modes(model: Autoregression, data: TrainingData, params: Params) -> Modes:
    """The slowest-decaying oscillating eigenmodes of the companion matrix."""
    size, order = len(model.coefficients), model.order
    values, right, left = _eigenmodes(model, 4 * params.modes)
    turning = np.flatnonzero(values.imag > 1e-6)
    chosen = turning[np.argsort(-np.abs(values[turning]), kind="stable")][: params.modes]
    chosen = chosen[np.argsort(np.angle(values[chosen]), kind="stable")]
    reader, pattern = left[chosen], right[:size, chosen].T
    block = np.nan_to_num(data.train)
    course = _read(reader.reshape(len(chosen), order, size).astype(np.complex64), block)
    spread = np.sqrt(np.mean(np.abs(course) ** 2, 0) / 2)
    # A mode and its conjugate together are a real signal: hence the 2.
    loading = 2 * pattern * spread[:, None] * data.scale.deviation
    phase = turned(loading)
    return Modes(values[chosen], loading * phase[:, None], reader / (spread * phase)[:, None])


def _eigenmodes(model: Autoregression, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest eigenvalues of the companion matrix, right eigenvectors, and left ones dual to them.

    Returns
    -------
    values (mode,), right (order * electrode, mode), left (mode, order * electrode)
    """
    size, wide = len(model.coefficients), model.coefficients.shape[1]
    companion = np.eye(wide, k=-size)
    companion[:size] = model.coefficients
    if wide <= max(400, count + 2):
        values, right = np.linalg.eig(companion)
        return values, right, np.linalg.inv(right)
    start = np.ones(wide)
    operator = LinearOperator(companion.shape, matvec=lambda x: companion @ x, dtype=float)
    values, right = eigs(operator, count, which="LM", v0=start)
    blocks = model.coefficients.reshape(size, model.order, size)
    # A left eigenvector (u_1, u_2, ...) obeys u_1 A_k + u_{k+1} = lambda u_k with u_{p+1} = 0, and
    # u_1 is the left null vector of I - sum_k A_k lambda^-k.
    left = np.empty((count, wide), dtype=complex)
    for k, value in enumerate(values):
        powers = value ** -np.arange(1.0, model.order + 1)
        singular = np.eye(size) - np.einsum("ikj,k->ij", blocks, powers)
        first = np.linalg.svd(singular)[0][:, -1].conj()
        parts = [first]
        for lag in range(model.order - 1):
            parts.append(value * parts[-1] - first @ blocks[:, lag])
        row = np.concatenate(parts)
        left[k] = row / (row @ right[:, k])
    return values, right, left


def _read(reader: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Complex latents (time, mode) of a block that begins ``order - 1`` samples early."""
    order = reader.shape[1]
    samples = len(block) - order + 1
    found = np.zeros((samples, len(reader)), dtype=np.complex64)
    for lag in range(order):
        found += block[order - 1 - lag : order - 1 - lag + samples] @ reader[:, lag].T
    return found
