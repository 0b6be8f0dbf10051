"""Distance between condition averages, against trials whose conditions are shuffled."""

from __future__ import annotations

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.readouts.null import p_value
from driftwave.recording import held_out_units, require, trial_mask

QUICK = {"shuffles": 19}


class Params(BaseModel):
    """Parameters of the analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shuffles: int = Field(199, ge=19, description="Permutations of the trials' conditions.")


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Mean distance of condition averages from their centre, and the same of shuffled trials.

    Parameters
    ----------
    recording : DataTree
        With spikes and trials of several conditions.
    latents : Dataset or None
        A model's ``rate (trial, time, unit)``; None for the recording itself.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``spread``, ``p_value`` () and ``null_spread`` (shuffle).

    Raises
    ------
    InputError
        No spikes, or a single condition.
    """
    spikes = require(recording, "spikes", "mylab_spread")
    used = trial_mask(recording, "train", "valid", "test")
    condition = recording["trials/condition"].values[used]
    if len(set(condition)) < 2:
        raise InputError(
            file=recording.attrs["session"],
            field="trials/condition",
            found="a single condition",
            expected="at least 2",
            fix="Name their columns in `trials.condition` of the layout",
        )
    if latents is None:
        rate = spikes["counts"] / float(spikes.attrs["bin_width"])
    else:
        rate = latents["rate"]
    seen = rate.transpose("trial", "time", "unit").values[used][..., ~held_out_units(recording)]
    by_trial = seen.mean(axis=1)
    rng = generator(seed, "mylab_spread")
    null = [_spread(by_trial, rng.permutation(condition)) for _ in range(params.shuffles)]
    spread = np.array(_spread(by_trial, condition))
    hertz = {"units": "Hz"}
    return xr.Dataset(
        {
            "spread": ((), spread, hertz),
            "null_spread": ("shuffle", np.array(null), hertz),
            "p_value": ((), p_value(spread, np.array(null)), {"units": "1"}),
        },
        attrs={"params": params.model_dump_json(), "seed": seed},
    )


def _spread(rate: np.ndarray, condition: np.ndarray) -> float:
    """Mean distance (Hz) of condition averages of rates (trial, unit) from their mean."""
    averages = np.stack([rate[condition == c].mean(axis=0) for c in np.unique(condition)])
    return float(np.linalg.norm(averages - averages.mean(axis=0), axis=1).mean())
