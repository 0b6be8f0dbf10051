"""Sources and sinks of radial waves: divergence of the phase gradient, one fit per cycle."""

from __future__ import annotations

from functools import partial

import xarray as xr

from driftwave.frame_fits.cycle_events import analyse_cycles
from driftwave.frame_fits.params import CycleParams
from driftwave.phase.signal import wave_signal
from driftwave.wave_events.arrays import per_array

PAPER = "Muller et al. 2014, Nat Commun 5:3675; Davis et al. 2020"
QUICK = {"surrogates": 9}


class Params(CycleParams):
    """Parameters of the search for sources."""


def analyse(
    recording: xr.DataTree,
    latents: xr.Dataset | None,  # noqa: ARG001
    params: Params,
    *,
    seed: int,
) -> xr.Dataset:
    """Find points that waves leave (expanding) or run into (contracting).

    In each cycle the extremum of the divergence of the smoothed -grad phi is the candidate, and
    Mardia's circular-linear correlation of phase with distance from it, positive for expanding
    waves, says how well it explains the phases. Cycles that a plane explains better do not count.

    Parameters
    ----------
    recording : DataTree
        With LFP, imaging or spikes whose electrodes have positions.
    latents : Dataset or None
        Not used: models' latents are the phase gradient's.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        As :func:`driftwave.frame_fits.cycle_events.analyse_cycles` says.

    Raises
    ------
    InputError
        No signal, unusable electrodes, a sampling rate or length that does not suit the band.
    """
    dataset = wave_signal(recording, params.signal)
    session = str(recording.attrs.get("session", "recording"))
    one = partial(
        analyse_cycles, recording, kind="radial", detector="source_points", params=params, seed=seed
    )
    return per_array(dataset, session, one)
