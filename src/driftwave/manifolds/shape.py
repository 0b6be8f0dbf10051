"""Dimension, tangling, tubularity and trajectories, each beside its null."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.geometry.activity import activities, session_of
from driftwave.geometry.shape_measures import Settings, Shape, measure_shape
from driftwave.geometry.shape_store import shape_dataset
from driftwave.readouts.targets import behaviour_targets

PAPER = (
    "Stringer et al. 2019, 10.1038/s41586-019-1346-5; Facco et al. 2017, "
    "10.1038/s41598-017-11873-y; Russo et al. 2018, 10.1016/j.neuron.2018.01.004"
)
QUICK = {"surrogates": 2, "shuffles": 3, "most_points": 100, "splits": 1, "signal_components": 5}


class Params(BaseModel):
    """Parameters of the analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    components: int = Field(8, ge=2, description="Principal components of tangling and bundles.")
    signal_components: int = Field(30, ge=2, description="Cross-validated components looked at.")
    splits: int = Field(2, ge=1, description="Random halves of the repeats.")
    surrogates: int = Field(100, ge=2, description="Surrogates of the dimensions' nulls.")
    shuffles: int = Field(200, ge=3, description="Shuffles of every other null.")
    most_points: int = Field(1000, ge=50, description="Bins or states drawn if there are more.")
    gap: float = Field(
        1.0, ge=0, description="Time (s) between points of TwoNN in abutting windows."
    )
    resample: Literal["units", "trials"] = Field(
        "units", description="What is left out in groups for the standard errors."
    )
    smoothing: float = Field(
        0.05, ge=0, description="Standard deviation (s) of the Gaussian that smooths the counts."
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Geometry of smoothed counts (``latents`` None) or of a model's output or activations.

    Standard errors are of a delete-a-group jackknife over units or trials (``resample``): no
    replicate serves as a sample of a test. What a session does not have is NaN and left out of
    the nulls: without conditions of at least two repeats, signal dimension, distances and
    speed; without such conditions of trials, tangling and tubularity as well.

    Parameters
    ----------
    recording : DataTree
        With spikes and trials.
    latents : Dataset or None
        ``rate (trial, time, unit)`` in Hz, ``latent (trial, time, latent)``, or activations.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``value``, ``standard_error``, ``p_value`` (features_from, measure) in the units that the
        coordinate ``unit_of_measure`` names, with ``null (features_from, measure, shuffle)``; and
        by component, scale, condition and time what they are made of.

    Raises
    ------
    InputError
        No spikes; latents that cannot be used; fewer than two dims that vary or two trials.
    """
    session = session_of(recording)
    settings = Settings(**params.model_dump(exclude={"smoothing"}))
    behaviour = _behaviour(recording, session.used)
    shapes: dict[str, Shape] = {}
    constant = []
    for activity in activities(
        recording, latents, session, smoothing=params.smoothing, standardise=False
    ):
        rng = generator(seed, "shape", activity.name)
        shapes[activity.name] = measure_shape(activity, session, behaviour, settings, rng)
        constant.append(f"{activity.name}: {activity.constant}")
    attrs: dict[str, Any] = {
        "constant_dims": ", ".join(constant),
        "resampled": params.resample,
        "params": params.model_dump_json(),
        "seed": seed,
    }
    return shape_dataset(shapes, session, settings, attrs)


def _behaviour(recording: xr.DataTree, used: np.ndarray) -> np.ndarray:
    """Behaviour (trial, time, target) of the trials used; an angle is its cosine and sine."""
    targets = behaviour_targets(recording)
    if not targets:
        return np.zeros((int(used.sum()), 0, 0))
    return np.stack([target.values[used] for target in targets], axis=-1)
