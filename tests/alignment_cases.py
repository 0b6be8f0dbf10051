"""Sessions with a planted latent trajectory, each with units and loadings of its own."""

from __future__ import annotations

import numpy as np
import xarray as xr

from conftest import make_recording


def trajectory(
    conditions: int, bins: int, *, seed: int, dims: int = 4, width: float = 0.02
) -> np.ndarray:
    """Latents (condition, time, dim): slow random courses of their own in every condition."""
    rng = np.random.default_rng(seed)
    time = np.arange(bins) * width
    frequency = np.array([0.6, 1.1, 1.7, 2.3])[:, None]
    coefficient = rng.normal(size=(2, conditions, dims, len(frequency)))
    angle = 2 * np.pi * frequency * time
    course = coefficient[0] @ np.cos(angle) + coefficient[1] @ np.sin(angle)
    return course.transpose(0, 2, 1) / course.std()


def planted_session(
    latent: np.ndarray,
    *,
    name: str,
    units: int,
    seed: int,
    trials: int = 12,
    width: float = 0.02,
    gain: float = 0.5,
    rate: float = 20.0,
    conditions: list[int] | None = None,
) -> xr.DataTree:
    """Poisson units that read a latent (condition, time, dim) through random loadings."""
    rng = np.random.default_rng(seed)
    kept = list(range(len(latent))) if conditions is None else conditions
    condition = np.tile(kept, trials)
    drive = latent @ rng.normal(0, gain, (latent.shape[-1], units))
    counts = rng.poisson(rate * width * np.exp(drive[condition])).astype(np.uint16)
    return as_recording(counts, condition, name=name, width=width)


def as_recording(
    counts: np.ndarray, condition: np.ndarray, *, name: str, width: float = 0.02
) -> xr.DataTree:
    """A recording of counts (trial, time, unit) with a condition of each trial."""
    trials, bins, units = counts.shape
    base = make_recording(trials=2, bins=2, units=2)
    trial, unit, time = np.arange(trials), np.arange(units), np.arange(bins) * width
    start = trial * (bins * width + 0.5)
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs=base.attrs | {"session": name, "bin_width": width}),
            "spikes": xr.Dataset(
                {
                    "counts": (("trial", "time", "unit"), counts, {"units": "spikes/bin"}),
                    "trial_start": ("trial", start, {"units": "s"}),
                },
                coords={"trial": trial, "time": ("time", time, {"units": "s"}), "unit": unit},
                attrs={"bin_width": width, "forward_bins": 0, "contiguous": False},
            ),
            "units": xr.Dataset(
                {
                    "held_out": ("unit", np.zeros(units, bool)),
                    "rate": ("unit", counts.mean((0, 1)) / width, {"units": "Hz"}),
                },
                coords={"unit": unit},
            ),
            "trials": xr.Dataset(
                {
                    "split": ("trial", np.full(trials, "train", "<U6")),
                    "condition": ("trial", condition),
                    "start": ("trial", start, {"units": "s"}),
                    "stop": ("trial", start + bins * width, {"units": "s"}),
                },
                coords={"trial": trial},
            ),
        }
    )


def group(*, conditions: int = 8, bins: int = 40, trials: int = 12) -> dict[str, xr.DataTree]:
    """Three sessions of one latent and one of another."""
    same = trajectory(conditions, bins, seed=1)
    other = trajectory(conditions, bins, seed=2)
    cases = [("a", 30, same), ("b", 45, same), ("c", 60, same), ("other", 45, other)]
    return {
        name: planted_session(latent, name=name, units=units, seed=k, trials=trials)
        for k, (name, units, latent) in enumerate(cases)
    }
