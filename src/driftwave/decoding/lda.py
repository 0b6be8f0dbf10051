"""Linear discriminant analysis with a shrunk covariance, refitted for every label shuffle."""

from __future__ import annotations

import xarray as xr
from pydantic import Field

from driftwave.readouts.classifiers import ShrinkageLDA
from driftwave.readouts.discrete import DiscreteParams, classify_recording

DECODES = "discrete"
PAPER = "Ledoit & Wolf 2004 J Multivar Anal 88:365; Fisher 1936 Ann Eugen 7:179"
QUICK = {"shuffles": 19, "halves": 1}


class Params(DiscreteParams):
    """Parameters of the decoder."""

    shrinkage: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Shrinkage of the covariance; by default Ledoit and Wolf's, in each fold.",
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Tell each trial's class; see :func:`driftwave.readouts.discrete.classify_recording`."""
    classifier = ShrinkageLDA(params.shrinkage)
    return classify_recording(recording, latents, params, classifier, seed=seed)
