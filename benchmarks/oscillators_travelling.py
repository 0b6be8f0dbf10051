"""How often fitted oscillators are taken for travelling waves where nothing travels, and where.

    python benchmarks/oscillators_travelling.py [--sets 40] [--out oscillators_travelling.tsv]
    python benchmarks/oscillators_travelling.py --coverage 200

Runs the experiment ``travelling_calibration`` field by field: one line each is appended to the
file, so that an interrupted run goes on where it stopped. ``at bound`` counts oscillators that the
fit has left at the lower edge of the band or at the largest bandwidth.

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

from driftwave.compute import dask_threads
from driftwave.experiments._chance import binomial_interval
from driftwave.experiments._travelling_fields import Condition, grid
from driftwave.experiments.travelling_calibration import (
    MEASURES,
    RULES,
    Params,
    chosen_conditions,
    claims,
    judged,
)
from driftwave.ingest.simulate._noise import root, spatial_covariance
from driftwave.latent_waves.loading_intervals import LoadingErrors, wave_intervals
from driftwave.models import oscillators
from driftwave.phase.electrodes import place
from driftwave.wave_events.patterns import patterns_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from waves_cases import phase_of

POSITION = grid(10)
KEYS = ["case", "noise", "background"]
COLUMNS = [*KEYS, "number", *MEASURES, "cpu"]


def key_of(condition: Condition) -> tuple[str, str, str]:
    """What names a condition in the file."""
    return condition.label, condition.noise, condition.background


def share(hits: np.ndarray) -> str:
    """k/n and the exact 95 % interval, in per cent."""
    low, high = binomial_interval(hits.sum(), len(hits))
    return f"{int(hits.sum())}/{len(hits)} ({100 * low:.0f}-{100 * high:.0f} %)"


def report(table: pd.DataFrame) -> str:
    """Rates of claims by condition, and over all without a wave."""
    table = table.assign(wave=table["case"].str.startswith("wave"))
    groups = list(table.groupby(KEYS, sort=False))
    still = table[~table["wave"]]
    groups += [
        (("all without a wave", *name), part)
        for name, part in still.groupby(["noise", "background"], sort=False)
    ]
    edge = oscillators.Params()
    rows = []
    for key, part in groups:
        bayes, p = part["log_bayes_factor"].to_numpy(), part["p"].to_numpy()
        row = dict(zip(KEYS, key, strict=True)) | {"judged": int(np.isfinite(bayes).sum())}
        row |= {rule: share(hits) for rule, hits in zip(RULES, claims(bayes, p), strict=True)}
        row |= {"BF > 1": share(bayes > 0), "p <= .05": share(p <= 0.05)}
        row["median log BF"] = round(float(part["log_bayes_factor"].median()), 1)
        at_edge = (part["frequency"] < 1.02 * edge.band[0]) | (
            part["bandwidth"] > 0.98 * edge.max_bandwidth
        )
        row["at bound"] = int(at_edge.sum())
        if part["wave"].any():
            row["direction error"] = round(float(part["direction_error"].abs().median()), 1)
        row["cpu s"] = round(float(part["cpu"].mean()), 1)
        rows.append(row)
    return pd.DataFrame(rows).to_string(index=False)


def loading_case(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
    """A loading without errors, its amplitude smooth, and its true parameters."""
    map_root = root(spatial_covariance(POSITION, 2.0, 1.0, "gaussian"))
    amplitude = 20 * np.exp(0.2 * map_root @ rng.normal(size=len(POSITION)))
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
    family, factor = patterns[kind], root(spatial_covariance(POSITION, 1.0, 0.8, "gaussian"))
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
    parser.add_argument("--kinds", nargs="+", default=Params().kinds)
    parser.add_argument("--backgrounds", nargs="+", default=Params().backgrounds)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--coverage", type=int, default=0, help="planted loadings per pattern")
    parser.add_argument("--out", type=Path, default=Path("oscillators_travelling.tsv"))
    options = parser.parse_args()
    if options.coverage:
        print_coverage(options.coverage)
        return
    params = Params(kinds=tuple(options.kinds), backgrounds=tuple(options.backgrounds))
    if not options.out.exists():
        options.out.write_text("\t".join(COLUMNS) + "\n", encoding="utf-8")
    done = pd.read_csv(options.out, sep="\t")
    seen = set(done[[*KEYS, "number"]].itertuples(index=False, name=None))
    for number in range(options.sets):
        for condition in chosen_conditions(params):
            if (*key_of(condition), number) in seen:
                continue
            began = time.process_time()
            with dask_threads(1):
                found = judged(condition, params, options.seed, number)
            values = [f"{found[name]:.4g}" for name in MEASURES]
            line = [*key_of(condition), number, *values, f"{time.process_time() - began:.2f}"]
            with options.out.open("a", encoding="utf-8") as file:
                file.write("\t".join(map(str, line)) + "\n")
    print(report(pd.read_csv(options.out, sep="\t")))


if __name__ == "__main__":
    main()
