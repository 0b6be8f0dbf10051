"""Coverage of the intervals of waves in loadings, on fits of simulated arrays.

Each data set is that of benchmarks/oscillators.py (96 channels, four planar oscillators, three slow
factors), one minute long. Says how often the 95 % intervals of direction and speed hold the truth,
and how large the errors are in the intervals' own units.

    python benchmarks/oscillators_wave_coverage.py [--sets 16] [--seconds 60]
"""

from __future__ import annotations

import argparse

import numpy as np

from driftwave.inference.oscillator_field_fit import fit_field
from driftwave.latent_waves.loadings import analyse_loadings
from driftwave.models.oscillators import Params
from oscillators import DIRECTION, SPEED, as_recording, simulate


def deviations(seconds: float, seed: int) -> np.ndarray:
    """Error over standard error (of 95 % intervals / 3.92) of speed and direction: (wave, 2)."""
    recording = as_recording(simulate(seconds, seed))
    field = recording["field"].to_dataset()
    fitted = fit_field(recording, Params(background="factors", oscillators=4), seed=0)
    latents = fitted.infer(recording).assign_coords(x=field["x"], y=field["y"])
    table = analyse_loadings(
        recording, field, latents, width=2.0, surrogates=1, chunk=60.0, seed=seed
    )

    def size(name: str) -> np.ndarray:
        return (table[f"{name}_high"].values - table[f"{name}_low"].values) / 3.92

    turned = (table["direction"].values - DIRECTION + 180) % 360 - 180
    by_direction = turned / (size("direction") % (360 / 3.92))
    return np.stack([(table["speed"].values - SPEED) / size("speed"), by_direction], axis=1)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    z = np.concatenate([deviations(options.seconds, seed) for seed in range(options.sets)])
    print(f"{options.sets} data sets of {options.seconds:g} s, 4 waves each")
    for name, column in zip(("speed", "direction"), z.T, strict=True):
        print(f"{name:10s} coverage {np.mean(np.abs(column) < 1.96):.3f}, SD {column.std():.2f}")


if __name__ == "__main__":
    main()
