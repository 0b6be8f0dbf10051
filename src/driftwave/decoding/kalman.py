"""Kalman filter decoding: behaviour as a linear dynamical state that the activity observes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from pydantic import Field, field_validator

from driftwave.readouts.activity import Activity, Context, Predictor, Scaling, Setting, masked
from driftwave.readouts.driver import decode
from driftwave.readouts.params import Params as SharedParams
from driftwave.readouts.statespace import Filter, Observed, fit_state_space

PAPER = "Wu et al. 2006 Neural Comput 18:80 (10.1162/089976606774841585)"
DECODES = "continuous"
QUICK = {"shuffles": 1, "components": (5,), "lags": (0,), "halves": 1}


class Params(SharedParams):
    """Parameters of the decoder."""

    components: tuple[int, ...] = Field(
        (10, 20, 40),
        min_length=1,
        description="Principal components of the activity tried as the observation.",
    )
    lags: tuple[int, ...] = Field(
        (0, 1, 2),
        min_length=1,
        description="Bins tried by which the activity leads the behaviour it observes.",
    )
    derivatives: int = Field(
        1,
        ge=0,
        le=2,
        description="Derivatives of the decoded behaviour that join the state: 1 its velocity, "
        "2 its acceleration too.",
    )
    smoother: bool = Field(
        False, description="Whether later activity is used too (Rauch-Tung-Striebel smoother)."
    )

    @field_validator("components")
    @classmethod
    def _some(cls, components: tuple[int, ...]) -> tuple[int, ...]:
        if min(components) < 1:
            raise ValueError("components must be at least 1")
        return tuple(sorted(set(components)))

    @field_validator("lags")
    @classmethod
    def _not_ahead(cls, lags: tuple[int, ...]) -> tuple[int, ...]:
        if min(lags) < 0:
            raise ValueError("lags must not be negative")
        return tuple(sorted(set(lags)))


@dataclass(frozen=True)
class Fitted:
    """A state-space model with what turns features into its observations."""

    model: Observed
    scaling: Scaling
    axes: np.ndarray
    lag: int
    smoother: bool
    targets: int

    def observations(self, activity: Activity) -> np.ndarray:
        """Principal components (trial, time, component) of the activity ``lag`` bins ago."""
        return self.scaling(late(activity, self.lag)) @ self.axes

    def predict(self, activity: Activity, trials: np.ndarray) -> np.ndarray:
        """Filtered (or smoothed) behaviour, each stretch by itself from the training states on."""
        decoded = np.empty((len(trials), activity.mask.shape[1], self.targets))
        observed = self.observations(activity)
        filtered = Filter(self.model, smoother=self.smoother)
        for some in activity.sequences(trials):
            seen = observed[trials[some]].reshape(-1, self.axes.shape[1])
            state = filtered(seen)
            decoded[some] = state[:, : self.targets].reshape(len(some), -1, self.targets)
        decoded = decoded + self.model.centre[: self.targets]
        return masked(activity, trials, decoded[activity.mask[trials]])


def late(activity: Activity, lag: int) -> np.ndarray:
    """Features ``lag`` bins earlier in the same run; the run's first ones where there are none."""
    features = activity.features
    if not lag:
        return features
    bins = activity.mask.shape[1]
    first = np.searchsorted(activity.runs, activity.runs) * bins
    own = np.arange(features.shape[0] * bins).reshape(-1, bins)
    rows = np.maximum(own - lag, first[:, None])
    return features.reshape(-1, features.shape[-1])[rows]


@dataclass(frozen=True)
class Kalman:
    """The decoder; see :class:`driftwave.readouts.activity.Decoder`."""

    params: Params
    targets: int
    bins: int
    past: int = 0
    future: int = 0
    joint: bool = True
    costly: bool = False

    def candidates(self) -> Sequence[Setting]:
        """Numbers of components and lags (no lags of what has one value per trial)."""
        lags = self.params.lags if self.bins > 1 else (0,)
        return [
            {"components": components, "lag": lag}
            for lag in lags
            for components in self.params.components
        ]

    def fit(
        self,
        activity: Activity,
        trials: np.ndarray,
        targets: np.ndarray,
        settings: Sequence[Setting],
        rng: np.random.Generator,
    ) -> list[Predictor]:
        """Least squares for dynamics and observation, on the components of the training bins."""
        del rng
        found: dict[int, Predictor] = {}
        sequences = activity.sequences(trials)
        for lag in dict.fromkeys(setting["lag"] for setting in settings):
            rows = late(activity, lag)[trials].reshape(-1, activity.features.shape[-1])
            scaling = Scaling.of(rows)
            scaled = scaling(rows)
            axes = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1]
            for number, setting in enumerate(settings):
                if setting["lag"] == lag:
                    kept = axes[:, : setting["components"]]
                    seen = (scaled @ kept).reshape(len(trials), -1, kept.shape[1])
                    model = fit_state_space(targets, seen, sequences, self.derivatives)
                    smoother = self.params.smoother
                    found[number] = Fitted(model, scaling, kept, lag, smoother, self.targets)
        return [found[number] for number in range(len(settings))]

    @property
    def derivatives(self) -> int:
        """Derivatives in the state: none of what has one value per trial."""
        return 0 if self.bins == 1 else self.params.derivatives


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Decode behaviour with a Kalman filter on principal components of the activity.

    The state holds the decoded behaviour and its derivatives by time, x_t = A x_{t-1} + w_t, and
    the components z_t = C x_t + q_t observe it; A, C and the covariances of w and q are least
    squares on training bins (Wu et al. 2006, equations 3.1 to 3.6). What is constant within a
    trial has no dynamics: a filter of one step, which is a linear Gaussian decoder.

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
        As of :func:`driftwave.readouts.driver.decode`.

    Raises
    ------
    InputError
        Nothing to decode, too few trials, latents of other trials.
    """

    def make(context: Context) -> Kalman:
        return Kalman(params, len(context.targets), context.bins)

    return decode(recording, latents, params, make, seed=seed)
