"""Measures of every frame and fields at every electrode as labelled arrays."""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.phase.frames import FieldReader
from driftwave.phase.passes import Frames

UNITS = {"direction": "degree", "speed": "mm/s", "frequency": "Hz"}
FIELD_UNITS = {
    "phase": "rad",
    "gradient_x": "rad/mm",
    "gradient_y": "rad/mm",
    "divergence": "rad/mm^2",
    "curl": "rad/mm^2",
    "charge": "turns",
}
# Measures of frames whose names the table of events uses for its own.
PREFIXED = ("direction", "speed", "frequency", "interpolated", "aliased")


def dense_table(reader: FieldReader, frames: Frames) -> xr.Dataset:
    """Everything along ``time``: measures of frames, dense fields (lazy, on disk), gaps.

    ``reader`` is that of all electrodes.
    """
    table = xr.Dataset(
        {
            f"frame_{name}" if name in PREFIXED else name: (
                "time",
                value,
                {"units": UNITS.get(name, "1")},
            )
            for name, value in frames.dense.items()
        },
        coords={
            "time": ("time", reader.lfp["time"].values[:: reader.every], {"units": "s"}),
            **electrode_coords(reader),
        },
    )
    table["gap"] = ("time", reader.gaps)
    for name, spool in frames.fields.items():
        dims = ("time", "cell" if name == "charge" else "electrode")
        # The table of events has a charge of its own.
        label = "cell_charge" if name == "charge" else name
        table[label] = (dims, spool.array(), {"units": FIELD_UNITS[name]})
    if "charge" in frames.fields:
        x, y = frames.cells.T
        table = table.assign_coords(
            cell_x=("cell", x, {"units": "mm"}), cell_y=("cell", y, {"units": "mm"})
        )
    return table


def electrode_coords(reader: FieldReader) -> dict[str, tuple | np.ndarray]:
    """Labels and positions of a reader's electrodes."""
    electrodes = reader.electrodes
    labels = reader.lfp["electrode"].values if "electrode" in reader.lfp.coords else None
    x, y = electrodes.position.T
    return {
        "electrode": electrodes.index if labels is None else labels[electrodes.index],
        "x": ("electrode", x, {"units": "mm"}),
        "y": ("electrode", y, {"units": "mm"}),
    }
