"""Events beside the true waves of a simulated recording."""

from __future__ import annotations

import numpy as np
import xarray as xr


def true_class(kind: str, sign: float) -> str:
    """Class name of a true wave, e.g. radial_in."""
    names = {
        "radial": ("radial_in", "radial_out"),
        "rotating": ("rotating_cw", "rotating_ccw"),
        "spiral": ("spiral_in", "spiral_out"),
    }
    return names[kind][int(sign > 0)] if kind in names else kind


def angle_between(a: float, b: float) -> float:
    """Absolute difference of two directions, degrees."""
    return abs((a - b + 180) % 360 - 180)


def match_truth(truth: xr.Dataset, events: xr.Dataset, level: float) -> xr.Dataset:
    """For each true wave the event that overlaps it most.

    Parameters
    ----------
    truth : Dataset
        ``wave_start``, ``wave_stop`` (s), ``wave_kind``, ``wave_direction`` (deg), ``wave_speed``
        (mm/s), ``wave_sign``, ``wave_centre_x``, ``wave_centre_y`` (mm), each (wave,).
    events : Dataset
        The event table, with ``start``, ``stop``, ``class``, ``direction`` ... (event,).
    level : float
        Events with q up to this are significant.

    Returns
    -------
    Dataset (true_wave,)
        ``match_event`` (-1 for none), ``match_overlap`` (share of the wave's duration), true and
        found class, ``match_significant``, ``match_direction_error`` (deg), ``match_speed_ratio``
        (found over true), ``match_centre_error`` (mm).
    """
    start, stop = truth["wave_start"].values, truth["wave_stop"].values
    count = len(start)
    found = {name: np.full(count, np.nan) for name in ("direction", "speed", "centre", "overlap")}
    event = np.full(count, -1)
    classes = {
        "true": np.array(
            [
                true_class(str(kind), sign)
                for kind, sign in zip(
                    truth["wave_kind"].values, truth["wave_sign"].values, strict=True
                )
            ]
        ).astype("<U16"),
        "found": np.full(count, "none", "<U16"),
    }
    significant = np.zeros(count, bool)
    for wave in range(count if events.sizes["event"] else 0):
        overlap = np.minimum(stop[wave], events["stop"].values)
        overlap = overlap - np.maximum(start[wave], events["start"].values)
        best = int(np.argmax(overlap))
        if overlap[best] <= 0:
            continue
        row = events.isel(event=best)
        event[wave] = best
        significant[wave] = bool(row["q"] <= level)
        classes["found"][wave] = str(row["class"].values)
        found["overlap"][wave] = overlap[best] / (stop[wave] - start[wave])
        found["direction"][wave] = angle_between(
            float(row["direction"]), float(truth["wave_direction"].values[wave])
        )
        found["speed"][wave] = float(row["speed"]) / float(truth["wave_speed"].values[wave])
        found["centre"][wave] = np.hypot(
            float(row["centre_x"]) - float(truth["wave_centre_x"].values[wave]),
            float(row["centre_y"]) - float(truth["wave_centre_y"].values[wave]),
        )
    dim = "true_wave"
    return xr.Dataset(
        {
            "true_start": (dim, start, {"units": "s"}),
            "true_stop": (dim, stop, {"units": "s"}),
            "true_class": (dim, classes["true"]),
            "match_class": (dim, classes["found"]),
            "match_event": (dim, event, {"units": "1"}),
            "match_significant": (dim, significant),
            "match_overlap": (dim, found["overlap"], {"units": "1"}),
            "match_direction_error": (dim, found["direction"], {"units": "degree"}),
            "match_speed_ratio": (dim, found["speed"], {"units": "1"}),
            "match_centre_error": (dim, found["centre"], {"units": "mm"}),
        }
    )
