"""Naive Bayes of independent Poisson units, from the counts of a trial."""

from __future__ import annotations

import xarray as xr
from pydantic import Field, field_validator

from driftwave.readouts.classifiers import PoissonBayes
from driftwave.readouts.discrete import DiscreteParams, classify_recording

DECODES = "discrete"
PAPER = "Zhang et al. 1998 J Neurophysiol 79:1017, equations 35 and 36"
QUICK = {"shuffles": 19, "halves": 1}


class Params(DiscreteParams):
    """Parameters of the decoder."""

    prior_trials: tuple[float, ...] = Field(
        (3.0, 1.0, 0.3, 0.1),
        min_length=1,
        description="Trials that each unit's mean rate is worth as a prior of its rate in a "
        "class; the best is chosen inside the training fold.",
    )

    @field_validator("prior_trials")
    @classmethod
    def _positive(cls, prior_trials: tuple[float, ...]) -> tuple[float, ...]:
        if min(prior_trials) <= 0:
            raise ValueError("prior_trials must be positive")
        return tuple(sorted(set(prior_trials), reverse=True))


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Tell each trial's class from its counts, or from the counts that a model's rates predict.

    See :func:`driftwave.readouts.discrete.classify_recording`. A model without rates is refused.
    """
    classifier = PoissonBayes(params.prior_trials)
    return classify_recording(recording, latents, params, classifier, seed=seed)
