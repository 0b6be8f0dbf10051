"""How often the waves stage finds waves where there are none, and where there are.

    python benchmarks/waves_calibration.py [--sets 40] [--out benchmarks/waves_calibration.tsv]

96 channels, 250 Hz, 20 s, 8-16 Hz, 19 surrogates, alpha .05: white, 1/f and spatially correlated
noise, amplitude-modulated noise, a common reference, bursts and steady plane waves. One line per
data set is appended to the file, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from driftwave.waves.phase_gradient import Params, analyse

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from waves_cases import grid, in_band, noise, phase_of, recording_of

RATE, SECONDS, BAND = 250.0, 20.0, (8.0, 16.0)
ALPHA = 0.05
# name -> correlation length (mm), shared, exponent, modulated, reference, SNR, duty of a wave
CASES: dict[str, tuple[float, float, float, bool, bool, float, float]] = {
    "white": (0.0, 0.0, 0.0, False, False, 0.0, 0.0),
    "1/f": (0.0, 0.0, 1.0, False, False, 0.0, 0.0),
    "0.6 mm, 50 % shared": (0.6, 0.5, 1.0, False, False, 0.0, 0.0),
    "2 mm, 90 % shared": (2.0, 0.9, 1.0, False, False, 0.0, 0.0),
    "2 mm, 90 % shared, modulated": (2.0, 0.9, 1.0, True, False, 0.0, 0.0),
    "2 mm, 90 % shared, common reference": (2.0, 0.9, 1.0, False, True, 0.0, 0.0),
    "bursts, SNR 1, duty 0.25": (2.0, 0.9, 1.0, False, False, 1.0, 0.25),
    "bursts, SNR 2, duty 0.1": (2.0, 0.9, 1.0, False, False, 2.0, 0.1),
    "steady plane wave, SNR 1": (2.0, 0.9, 1.0, False, False, 1.0, 1.0),
}


def data_set(name: str, seed: int):
    """A recording of one case."""
    length, shared, exponent, modulated, reference, snr, duty = CASES[name]
    rng = np.random.default_rng([seed, *name.encode()])
    position = grid(corners=False)
    time = np.arange(round(SECONDS * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=length, shared=shared, exponent=exponent)
    field /= in_band(field, RATE, BAND)
    if modulated:
        slow = noise(rng, position[:1], len(time), RATE, exponent=2.0)[0]
        field *= np.exp(slow)
    if snr:
        phase = phase_of("planar", position, frequency=12, direction=rng.uniform(-180, 180))
        inside = time % 4 < 4 * duty
        # A carrier whose phase wanders, so that the wave is a band, not a line.
        turns = 2 * np.pi * 12 * time + np.cumsum(rng.normal(0, 0.05, len(time)))
        field += np.sqrt(2) * snr * inside * np.cos(turns + phase[:, None])
    if reference:
        field -= field.mean(axis=0)
    return recording_of(field.T, position, RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("waves_calibration.tsv"))
    options = parser.parse_args()
    columns = ["case", "seed", "planar", "radial", "rotating", "event_q", "event_familywise"]
    if not options.out.exists():
        options.out.write_text("\t".join(columns) + "\n", encoding="utf-8")
    done = pd.read_csv(options.out, sep="\t")
    seen = set(zip(done["case"], done["seed"], strict=True))
    params = Params(band=BAND, phase="narrowband", surrogates=19, bootstrap=20, delay_band=None)
    for seed in range(options.sets):
        for name in CASES:
            if (name, seed) in seen:
                continue
            found = analyse(data_set(name, seed), None, params, seed=seed)
            row = [name, seed, *(found["p_recording"].values <= ALPHA).astype(int)]
            row.append(int((found["q"].values <= ALPHA).any()))
            row.append(int((found["p_familywise"].values <= ALPHA).any()))
            with options.out.open("a", encoding="utf-8") as file:
                file.write("\t".join(map(str, row)) + "\n")
    table = pd.read_csv(options.out, sep="\t").groupby("case", sort=False)
    rates = table[columns[2:]].mean().round(3)
    rates["sets"] = table.size()
    print(rates.to_string())


if __name__ == "__main__":
    main()
