"""Kernel ridge decoding, the posterior mean of a Gaussian process, with its predictive spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field, field_validator
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from driftwave.readouts.activity import Activity, Context, Predictor, Scaling, Setting, masked
from driftwave.readouts.driver import decode
from driftwave.readouts.params import Params as SharedParams

PAPER = "Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, chapters 2 and 8"
DECODES = "continuous"
QUICK = {"shuffles": 1, "landmarks": 40, "widths_tried": (1.0,), "noises": (0.1,), "halves": 1}
JITTER = 1e-6


class Params(SharedParams):
    """Parameters of the decoder."""

    kernel: Literal["rbf", "matern"] = Field(
        "rbf", description="Squared exponential, or Matern with smoothness 3/2."
    )
    past: int = Field(
        4, ge=0, description="Past bins read besides the current one; at most a quarter of a trial."
    )
    components: int = Field(
        20, ge=1, description="Principal components of the (lagged) activity the kernel sees."
    )
    widths_tried: tuple[float, ...] = Field(
        (0.5, 1.0, 2.0),
        min_length=1,
        description="Length scales tried, as multiples of the median distance of training bins.",
    )
    noises: tuple[float, ...] = Field(
        (0.03, 0.1, 0.3, 1.0),
        min_length=1,
        description="Noise variances tried, relative to the prior variance of the signal.",
    )
    landmarks: int = Field(
        500,
        ge=2,
        description="Training bins that span the solution (Nystroem); all of them if fewer.",
    )

    @field_validator("widths_tried", "noises")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if min(values) <= 0:
            raise ValueError("length scales and noise variances must be positive")
        return tuple(sorted(set(values)))


def correlation(kind: str, first: np.ndarray, second: np.ndarray, width: float) -> np.ndarray:
    """Prior correlation (row of first, row of second) of the decoded signal."""
    from sklearn.metrics.pairwise import euclidean_distances

    squared = euclidean_distances(first, second, squared=True) / width**2
    if kind == "rbf":
        return np.exp(-0.5 * squared)
    distance = np.sqrt(3 * squared)
    return (1 + distance) * np.exp(-distance)


@dataclass(frozen=True)
class Reading:
    """Lagged activity on its principal components, both learnt from training bins."""

    scaling: Scaling
    axes: np.ndarray
    past: int

    @classmethod
    def of(cls, activity: Activity, trials: np.ndarray, past: int, components: int) -> Reading:
        """From the used bins of the training trials."""
        rows = activity.rows(trials, past)
        scaling = Scaling.of(rows)
        scaled = scaling(rows)
        axes = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1][:, :components]
        return cls(scaling, axes, past)

    def __call__(self, activity: Activity, trials: np.ndarray) -> np.ndarray:
        return self.scaling(activity.rows(trials, self.past)) @ self.axes


@dataclass(frozen=True)
class Fitted:
    """A Gaussian process on landmarks (deterministic training conditional).

    With K_mn the kernel of landmarks and training bins, s the noise variance and
    A = K_mn K_nm + s K_mm, the mean is k_m A^-1 K_mn y and the variance, in units of the prior's,
    1 - k_m K_mm^-1 k_m' + s k_m A^-1 k_m' + s (Rasmussen & Williams 2006, equations 8.14, 8.20).
    """

    reading: Reading
    kind: str
    width: float
    noise: float
    landmarks: np.ndarray
    weights: np.ndarray
    factor: np.ndarray
    prior: np.ndarray
    centre: np.ndarray
    amplitude: np.ndarray

    def _against(self, activity: Activity, trials: np.ndarray) -> np.ndarray:
        rows = self.reading(activity, trials)
        return correlation(self.kind, rows, self.landmarks, self.width)

    def predict(self, activity: Activity, trials: np.ndarray) -> np.ndarray:
        """Posterior mean (trial, time, target)."""
        mean = self._against(activity, trials) @ self.weights + self.centre
        return masked(activity, trials, mean)

    def spread(self, activity: Activity, trials: np.ndarray) -> np.ndarray:
        """Standard deviation (trial, time, target) of an observed target, noise included."""
        across = self._against(activity, trials).T
        known = (solve_triangular(self.prior, across, lower=True) ** 2).sum(axis=0)
        left = (solve_triangular(self.factor, across, lower=True) ** 2).sum(axis=0)
        variance = np.maximum(1 - known, 0) + self.noise * left + self.noise
        return masked(activity, trials, np.sqrt(variance)[:, None] * self.amplitude)


@dataclass(frozen=True)
class Kernel:
    """The decoder; see :class:`driftwave.readouts.activity.Decoder`."""

    params: Params
    past: int
    future: int = 0
    joint: bool = False
    costly: bool = True

    def candidates(self) -> Sequence[Setting]:
        """Length scales and noise variances."""
        return [
            {"width": width, "noise": noise}
            for width in self.params.widths_tried
            for noise in self.params.noises
        ]

    def fit(
        self,
        activity: Activity,
        trials: np.ndarray,
        targets: np.ndarray,
        settings: Sequence[Setting],
        rng: np.random.Generator,
    ) -> list[Predictor]:
        """Landmarks are random training bins; one kernel matrix serves all noise variances."""
        reading = Reading.of(activity, trials, self.past, self.params.components)
        rows = reading(activity, trials)
        y = targets[activity.mask[trials]]
        centre = y.mean(axis=0)
        chosen = np.sort(rng.permutation(len(rows))[: self.params.landmarks])
        landmarks = rows[chosen]
        typical = _median_distance(landmarks)
        kernels = {}
        for width in dict.fromkeys(setting["width"] for setting in settings):
            across = correlation(self.params.kernel, rows, landmarks, width * typical)
            own = across[chosen] + JITTER * np.eye(len(chosen))
            kernels[width] = own, across.T @ across, across.T @ (y - centre)
        power = ((y - centre) ** 2).sum(axis=0)
        found: list[Predictor] = []
        for setting in settings:
            own, gram, cross = kernels[setting["width"]]
            noise = setting["noise"]
            total = gram + noise * own
            factor = cho_factor(total, lower=True)
            weights = cho_solve(factor, cross)
            fit = np.maximum(power - (cross * weights).sum(axis=0), 1e-12 * power)
            found.append(
                Fitted(
                    reading,
                    self.params.kernel,
                    setting["width"] * typical,
                    noise,
                    landmarks,
                    weights,
                    np.tril(factor[0]),
                    np.linalg.cholesky(own),
                    centre,
                    # Maximum likelihood of the prior's scale at this ratio of noise to signal.
                    np.sqrt(fit / (noise * len(y))),
                )
            )
        return found


def _median_distance(rows: np.ndarray) -> float:
    from scipy.spatial.distance import pdist

    distance = pdist(rows[:300])
    return float(np.median(distance)) if len(distance) and np.median(distance) > 0 else 1.0


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Decode with a Gaussian process (kernel ridge regression) on lagged activity.

    Activity and its recent past are standardised and reduced to principal components, then
    regressed on by a kernel on ``landmarks`` random training bins. Length scale and noise are
    chosen inside each training fold for every target. Cosine and sine of an angle are decoded
    apart.

    Parameters
    ----------
    recording : DataTree
        With spikes, trials, and behaviour or a numeric stimulus.
    latents : Dataset or None
        None for counts; a model's output; or activations.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        As of :func:`driftwave.readouts.driver.decode`, with ``prediction_sd`` of the test split.
        The noise ceiling is that of a ridge regression.

    Raises
    ------
    InputError
        Nothing to decode, too few trials, latents of other trials.
    """

    def make(context: Context) -> Kernel:
        return Kernel(params, context.history(params.past))

    return decode(recording, latents, params, make, seed=seed)
