"""Multinomial logistic regression, its penalty chosen inside the training fold."""

from __future__ import annotations

import xarray as xr
from pydantic import Field

from driftwave.readouts.classifiers import Estimator, logistic_regression
from driftwave.readouts.discrete import PenalisedParams, classify_recording

DECODES = "discrete"
PAPER = "Cox 1966; Pedregosa et al. 2011 JMLR 12:2825 (scikit-learn)"
QUICK = {"shuffles": 19, "halves": 1, "inverse_penalties": (0.1, 1.0)}


class Params(PenalisedParams):
    """Parameters of the decoder."""

    inverse_penalties: tuple[float, ...] = Field(
        (0.01, 0.1, 1.0, 10.0),
        min_length=1,
        description="Inverse penalties C tried, on features of unit mean variance.",
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Tell each trial's class; see :func:`driftwave.readouts.discrete.classify_recording`."""
    classifier = Estimator(logistic_regression, params.inverse_penalties)
    return classify_recording(recording, latents, params, classifier, seed=seed)
