"""Vote of the nearest trials, their number chosen inside the training fold."""

from __future__ import annotations

import xarray as xr
from pydantic import Field, field_validator

from driftwave.readouts.classifiers import NearestNeighbours
from driftwave.readouts.discrete import DiscreteParams, classify_recording

DECODES = "discrete"
PAPER = "Cover & Hart 1967 IEEE Trans Inf Theory 13:21"
QUICK = {"shuffles": 19, "halves": 1}


class Params(DiscreteParams):
    """Parameters of the decoder."""

    neighbours: tuple[int, ...] = Field(
        (15, 9, 5, 3, 1), min_length=1, description="Numbers of neighbours tried."
    )

    @field_validator("neighbours")
    @classmethod
    def _positive(cls, neighbours: tuple[int, ...]) -> tuple[int, ...]:
        if min(neighbours) < 1:
            raise ValueError("neighbours must be at least 1")
        return tuple(sorted(set(neighbours), reverse=True))


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Tell each trial's class; see :func:`driftwave.readouts.discrete.classify_recording`."""
    classifier = NearestNeighbours(params.neighbours)
    return classify_recording(recording, latents, params, classifier, seed=seed)
