"""The Lorenz file that other tools were scored on, as a recording."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import xarray as xr

_SPLITS = {"fit": "train", "select": "valid", "test": "test"}


def lorenz29(folder: Path, *, forward: int = 0) -> xr.DataTree:
    """``lorenz29.h5``: 29 units (7 held out), 50 bins of 20 ms, 65 conditions."""
    width = 0.02
    with h5py.File(folder / "lorenz29.h5") as file:

        def joined(name: str) -> np.ndarray:
            return np.concatenate([file[f"{split}_{name}"][()] for split in _SPLITS])

        counts, rates = joined("spikes"), joined("rates")
        state, condition = joined("latents"), joined("cond")
        sizes = [len(file[f"{split}_spikes"]) for split in _SPLITS]
        hidden = np.isin(np.arange(counts.shape[-1]), file["heldout"][()])
    trials, bins, units = counts.shape
    coords = {
        "trial": np.arange(trials),
        "time": ("time", np.arange(bins) * width, {"units": "s"}),
        "unit": np.arange(units),
    }
    dims = ("trial", "time", "unit")
    root = {
        "session": "lorenz29",
        "source_file": "lorenz29.h5",
        "source_sha256": "",
        "layout": "none",
        "bin_width": width,
        "schema_version": 1,
    }
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs=root),
            "spikes": xr.Dataset(
                {
                    "counts": (dims, counts.astype(np.uint16), {"units": "spikes/bin"}),
                    "trial_start": ("trial", np.arange(trials) * bins * width, {"units": "s"}),
                },
                coords,
                {"bin_width": width, "forward_bins": forward, "contiguous": False},
            ),
            "units": xr.Dataset(
                {"held_out": ("unit", hidden), "rate": ("unit", counts.mean((0, 1)) / width)}
            ),
            "trials": xr.Dataset(
                {
                    "split": ("trial", np.repeat(list(_SPLITS.values()), sizes)),
                    "condition": ("trial", condition),
                }
            ),
            "truth": xr.Dataset(
                {
                    "rate": (dims, rates / width, {"units": "Hz"}),
                    "state": (("trial", "time", "state_dim"), state),
                },
                coords,
            ),
        }
    )
