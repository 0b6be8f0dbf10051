"""Rotating waves: curl of the phase gradient and circular-circular correlation, one per cycle."""

from __future__ import annotations

from functools import partial

import xarray as xr

from driftwave.frame_fits.cycle_events import analyse_cycles
from driftwave.frame_fits.params import CycleParams
from driftwave.phase.signal import wave_signal
from driftwave.wave_events.arrays import per_array

PAPER = "Muller et al. 2016, eLife 5:e17267; Jammalamadaka & SenGupta 2001"
QUICK = {"surrogates": 9}


class Params(CycleParams):
    """Parameters of the search for rotations."""


def analyse(
    recording: xr.DataTree,
    latents: xr.Dataset | None,  # noqa: ARG001
    params: Params,
    *,
    seed: int,
) -> xr.Dataset:
    """Find points about which waves turn, counter-clockwise (charge +1) or clockwise (-1).

    In each cycle the extremum of the curl of the smoothed unit vectors along -grad phi is the
    candidate, and the circular-circular correlation of phase with the angle about it says how well
    it explains the phases. Cycles that a plane explains better do not count.

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
        analyse_cycles, recording, kind="rotating", detector="rotation", params=params, seed=seed
    )
    return per_array(dataset, session, one)
