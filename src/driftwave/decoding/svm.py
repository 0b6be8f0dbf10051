"""Linear support vector machine, one class against the rest, its penalty chosen in the fold."""

from __future__ import annotations

import xarray as xr
from pydantic import Field

from driftwave.readouts.classifiers import Estimator, linear_svm
from driftwave.readouts.discrete import PenalisedParams, classify_recording

DECODES = "discrete"
PAPER = "Fan et al. 2008 JMLR 9:1871 (LIBLINEAR); Cortes & Vapnik 1995 Mach Learn 20:273"
QUICK = {"shuffles": 19, "halves": 1, "inverse_penalties": (0.01, 0.1)}


class Params(PenalisedParams):
    """Parameters of the decoder."""

    inverse_penalties: tuple[float, ...] = Field(
        (0.001, 0.01, 0.1, 1.0),
        min_length=1,
        description="Inverse penalties C tried, on features of unit mean variance.",
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Tell each trial's class; see :func:`driftwave.readouts.discrete.classify_recording`."""
    classifier = Estimator(linear_svm, params.inverse_penalties)
    return classify_recording(recording, latents, params, classifier, seed=seed)
