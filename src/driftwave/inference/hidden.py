"""A fitted model is used only on recordings that hide what it was fitted to predict."""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.inference.data import SpikeArrays


def check_same_view(
    recording: xr.DataTree, arrays: SpikeArrays, held_in: np.ndarray, seen_bins: int, bins: int
) -> None:
    """Check that held-in units, seen bins and trial length are those of the fit.

    Raises
    ------
    InputError
        If they differ.
    """
    here = (arrays.held_in.tolist(), arrays.seen_bins, arrays.counts.shape[1])
    if here != (held_in.tolist(), seen_bins, bins):
        raise InputError(
            file=recording.attrs["session"],
            field="spikes",
            found=f"{int(arrays.held_in.sum())} of {arrays.held_in.size} units held in, "
            f"{here[1]} of {here[2]} bins seen",
            expected=f"{int(held_in.sum())} of {held_in.size} units (the same ones) and "
            f"{seen_bins} of {bins} bins, as in the fit",
            fix="Infer on the recording the model was fitted to, or fit it again",
        )
