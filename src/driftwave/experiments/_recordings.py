"""Planted fields as recordings."""

from __future__ import annotations

import numpy as np
import xarray as xr


def field_recording(
    lfp: np.ndarray,
    position: np.ndarray,
    rate: float,
    session: str,
    *,
    good: np.ndarray | None = None,
) -> xr.DataTree:
    """A recording with nothing but a field.

    Parameters
    ----------
    lfp : ndarray (time, electrode)
        Microvolt.
    position : ndarray (electrode, 2)
        mm.
    rate : float
        Sampling rate, Hz.
    session : str
    good : ndarray of bool (electrode,), optional
        Default all.
    """
    count = len(position)
    field = xr.Dataset(
        {
            "lfp": (
                ("time", "electrode"),
                lfp.astype(np.float32, copy=False),
                {"units": "microvolt"},
            )
        },
        coords={
            "time": ("time", np.arange(len(lfp)) / rate, {"units": "s"}),
            "electrode": np.arange(count),
            "x": ("electrode", position[:, 0], {"units": "mm"}),
            "y": ("electrode", position[:, 1], {"units": "mm"}),
            "good": ("electrode", np.ones(count, bool) if good is None else good),
        },
        attrs={"sampling_rate": rate},
    )
    attrs = {"source_file": "simulated", "source_sha256": "", "layout": "", "schema_version": 1}
    root = xr.Dataset(attrs={"session": session} | attrs)
    return xr.DataTree.from_dict({"/": root, "field": field})
