"""How often fitted oscillators are taken for travelling waves where nothing travels, and where.

    python benchmarks/oscillators_travelling.py [--sets 40] [--out oscillators_travelling.tsv]
    python benchmarks/oscillators_travelling.py --coverage 200

Fields of 100 electrodes (10 x 10, 0.4 mm), 250 Hz, 60 s: 1/f noise whose electrodes share 50 to
90 % over 1 to 2 mm without lags, alone and with zero-lag band noise, with bursts of standing maps,
with one or two standing oscillations; and with a plane wave of a given ratio of its amplitude to
the noise's from 8 to 16 Hz. The background ``factors`` assumes independent noise: it is also given
fields whose 1/f noise is each electrode's own (from shared 1/f noise it takes its oscillator to the
lower edge of the band, counted under ``at bound``). One oscillator is fitted and its loading judged
as the waves stage does: a wave is claimed if the log Bayes factor exceeds 0 (prior odds of one), or
ln 20; an oscillator too broad to be judged counts as no claim. One line per fit is appended to the
file, so that an interrupted run goes on where it stopped.

``--coverage`` prints how often the 95 % intervals of planted loadings hold the truth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.signal import lfilter
from scipy.stats import beta

from driftwave.inference.oscillator_field_fit import fit_field as fit
from driftwave.models.oscillators import Params
from driftwave.waves.electrodes import place
from driftwave.waves.loading_intervals import LoadingErrors, wave_intervals
from driftwave.waves.loadings import analyse_loadings
from driftwave.waves.patterns import patterns_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from waves_cases import grid, in_band, noise, phase_of, recording_of

RATE, SECONDS, BAND = 250.0, 60.0, (8.0, 16.0)
SAMPLES = round(RATE * SECONDS)
POSITION = grid(10, 10)
SURROGATES = 19
NOISE, POWER = ("noise", "band", "bursts", "standing"), ("wave 0.5", "wave 1", "wave 2")
OWN = ", own 1/f"
PAIRS = [(case, "whitened") for case in (*NOISE, *POWER)]
PAIRS += [(case + OWN, "factors") for case in (*NOISE[1:], *POWER)]
PAIRS += [(case, "factors") for case in NOISE]
COLUMNS = ["case", "background", "seed", "frequency", "bandwidth", "log_bayes_factor", "p"]
COLUMNS += ["direction_error", "at_bound", "cpu"]


def smooth(length: float, shared: float = 1.0) -> np.ndarray:
    """Cholesky factor of a covariance between electrodes."""
    square = ((POSITION[:, None] - POSITION[None]) ** 2).sum(-1)
    covariance = shared * np.exp(-square / length**2 / 2) + (1 - shared) * np.eye(len(square))
    return np.linalg.cholesky(covariance + 1e-6 * np.eye(len(square)))


def oscillation(rng: np.random.Generator, frequency: float, width: float, many: int) -> np.ndarray:
    """Complex oscillations (many, time) with a peak of the full width given, Hz."""
    pole = np.exp((-np.pi * width + 2j * np.pi * frequency) / RATE)
    steps = rng.normal(size=(2, many, SAMPLES))
    return lfilter([1], [1, -pole], steps[0] + 1j * steps[1], axis=-1)


def bursts(rng: np.random.Generator, frequency: float) -> np.ndarray:
    """Each of half a second to two, with a standing map of its own."""
    field, start = np.zeros((len(POSITION), SAMPLES)), 0
    while start < SAMPLES:
        stop = min(start + round(rng.uniform(0.5, 2) * RATE), SAMPLES)
        turn = 2 * np.pi * (frequency * np.arange(stop - start) / RATE + rng.random())
        course = np.cos(turn) * np.hanning(stop - start + 2)[1:-1]
        field[:, start:stop] = np.outer(smooth(1.5) @ rng.normal(size=len(POSITION)), course)
        start = stop + round(rng.exponential(1) * RATE)
    return field


def planted(case: str, seed: int) -> tuple[np.ndarray, float]:
    """A field (time, electrode) in microvolt, and its wave's direction (degrees)."""
    rng = np.random.default_rng([seed, *case.encode()])
    length, shared = rng.uniform(1, 2), rng.uniform(0.5, 0.9)
    own = case.endswith(OWN)
    field = noise(rng, POSITION, SAMPLES, RATE, length=length, shared=0.0 if own else shared)
    field /= in_band(field, RATE, BAND)
    frequency, width = rng.uniform(9, 15), rng.uniform(0.7, 2.5)
    direction, electrodes = rng.uniform(-180, 180), len(POSITION)
    kind, _, ratio = case.removesuffix(OWN).partition(" ")
    signal = np.zeros(field.shape)
    if kind == "band":
        signal = smooth(length, shared) @ oscillation(rng, frequency, width, electrodes).real
    elif kind == "bursts":
        signal = bursts(rng, frequency)
    elif kind == "standing":
        maps = smooth(1.5) @ rng.normal(size=(electrodes, 1 + seed % 2))
        signal = maps @ oscillation(rng, frequency, width, 1 + seed % 2).real
    elif kind == "wave":
        speed = rng.uniform(100, 400)
        phase = phase_of("planar", POSITION, frequency=frequency, speed=speed, direction=direction)
        signal = (np.exp(1j * phase)[:, None] * oscillation(rng, frequency, width, 1)).real
    if kind != "noise":
        field += float(ratio or 1) * signal / in_band(signal, RATE, BAND)
    return 50 * field.T, direction


def judged(case: str, background: str, seed: int) -> list[object]:
    """One line of the table."""
    lfp, direction = planted(case, seed)
    recording = recording_of(lfp, POSITION, RATE)
    began = time.process_time()
    params = Params(oscillators=1, background=background)
    latents = fit(recording, params, seed=0).infer(recording)
    latents = latents.drop_vars(["latent", "latent_sd"]).assign_attrs(model="oscillators")
    found: xr.Dataset = analyse_loadings(
        recording,
        recording["field"].to_dataset(),
        latents,
        width=2.0,
        surrogates=SURROGATES,
        chunk=60.0,
        seed=seed,
    ).isel(oscillator=0)
    vector = float(found["wavevector_x"]) + 1j * float(found["wavevector_y"])
    error = np.degrees(np.angle(vector * np.exp(-1j * np.radians(direction))))
    frequency, width = float(latents["frequency"][0]), float(latents["bandwidth"][0])
    bound = frequency < 1.02 * params.band[0] or width > 0.98 * params.max_bandwidth
    return [
        *(case, background, seed, round(frequency, 3), round(width, 3)),
        *(round(float(found["log_bayes_factor"]), 3), round(float(found["p"]), 3)),
        *(round(float(error), 2), int(bound), round(time.process_time() - began, 2)),
    ]


def share(hits: np.ndarray) -> str:
    """k/n and the 95 % interval of Clopper and Pearson, in per cent."""
    k, n = int(hits.sum()), len(hits)
    low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return f"{k}/{n} ({100 * low:.0f}-{100 * high:.0f} %)"


def report(table: pd.DataFrame) -> str:
    """Rates of claims by case and background, and over all cases without a wave."""
    table = table.assign(wave=table["case"].str.startswith("wave"))
    rows = []
    groups = list(table.groupby(["case", "background"], sort=False))
    groups += [
        (("all without a wave", name), part)
        for name, part in table[~table["wave"]].groupby("background")
    ]
    for (case, background), part in groups:
        bayes = part["log_bayes_factor"].to_numpy()
        row = {"case": case, "background": background, "judged": int(np.isfinite(bayes).sum())}
        row["log BF > 0"] = share(bayes > 0)
        row["log BF > ln 20"] = share(bayes > np.log(20))
        row["p <= .05"] = share(part["p"].to_numpy() <= 0.05)
        row["both"] = share((bayes > 0) & (part["p"].to_numpy() <= 0.05))
        row["median log BF"] = round(float(np.nanmedian(bayes)), 1)
        row["at bound"] = int(part["at_bound"].sum())
        if part["wave"].any():
            row["direction error"] = round(float(part["direction_error"].abs().median()), 1)
        row["cpu s"] = round(float(part["cpu"].mean()), 1)
        rows.append(row)
    return pd.DataFrame(rows).to_string(index=False)


def loading_case(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
    """A loading without errors, its amplitude smooth, and its true parameters."""
    amplitude = 20 * np.exp(0.2 * smooth(2.0) @ rng.normal(size=len(POSITION)))
    centre = tuple(rng.uniform(1.2, 2.4, 2))
    speed, direction = rng.uniform(100, 300), rng.uniform(-180, 180)
    sort = kind.split("_")[0]
    phase = phase_of(sort, POSITION, frequency=12, speed=speed, direction=direction, centre=centre)
    truth = {"direction": direction, "speed": speed, "wavelength": speed / 12}
    if sort != "planar":
        truth = {"centre_x": centre[0], "centre_y": centre[1]}
        truth |= {"speed": speed} if sort == "radial" else {}
    return amplitude * np.exp(1j * phase), truth


def covered(kind: str, draws: int, relative: float = 0.3) -> dict[str, np.ndarray]:
    """Whether each interval of ``draws`` planted loadings holds the truth."""
    rng = np.random.default_rng(1)
    patterns = patterns_of(place(POSITION))
    family, factor = patterns[kind], smooth(1.0, 0.8)
    held: dict[str, list[bool]] = {}
    for _ in range(draws):
        loading, truth = loading_case(kind, rng)
        size = np.full(len(POSITION), relative * 20)
        errors = LoadingErrors(size, size, factor, 0.05)
        seen = loading + errors.draw(1, rng)[0]
        fitted = family.fit(patterns.position, (np.abs(seen) * seen)[None, :, None])[0][0]
        frequency = 12 + 0.05 * rng.normal()
        found = wave_intervals(
            family, fitted, patterns.position, seen, frequency, errors, rng=rng, draws=400
        )
        for name, value in truth.items():
            low, high = found[name]
            if name == "direction":
                inside = (value - low) % 360 <= (high - low) % 360
            else:
                at = patterns.centroid["xy".index(name[-1])] if name.startswith("centre") else 0
                inside = low <= value - at <= high
            held.setdefault(name, []).append(bool(inside))
    return {name: np.array(hits) for name, hits in held.items()}


def print_coverage(draws: int, line: Callable[[str], None] = print) -> None:
    """Coverage of the 95 % intervals by pattern and size of errors."""
    for kind in ("planar", "radial_out", "rotating_ccw"):
        for relative in (0.1, 0.3):
            for name, hits in covered(kind, draws, relative).items():
                line(f"{kind:13} error {relative:.1f} of amplitude  {name:10} {share(hits)}")


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=40)
    parser.add_argument("--cases", nargs="+", default=[case for case, _ in PAIRS])
    parser.add_argument("--backgrounds", nargs="+", default=["whitened", "factors"])
    parser.add_argument("--coverage", type=int, default=0, help="planted loadings per pattern")
    parser.add_argument("--out", type=Path, default=Path("oscillators_travelling.tsv"))
    options = parser.parse_args()
    if options.coverage:
        print_coverage(options.coverage)
        return
    if not options.out.exists():
        options.out.write_text("\t".join(COLUMNS) + "\n", encoding="utf-8")
    done = pd.read_csv(options.out, sep="\t")
    seen = set(zip(done["case"], done["background"], done["seed"], strict=True))
    wanted = [(c, b) for c, b in PAIRS if c in options.cases and b in options.backgrounds]
    for seed in range(options.sets):
        for case, background in wanted:
            if (case, background, seed) in seen:
                continue
            row = judged(case, background, seed)
            with options.out.open("a", encoding="utf-8") as file:
                file.write("\t".join(map(str, row)) + "\n")
    print(report(pd.read_csv(options.out, sep="\t")))


if __name__ == "__main__":
    main()
