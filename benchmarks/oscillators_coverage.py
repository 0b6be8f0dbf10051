"""Coverage of the oscillators' 95 % intervals on the model's own data.

Runs the experiment ``oscillator_coverage`` and prints its table: two oscillators seen by eight
electrodes (100 Hz), fitted to the first 70 %. With ``--missing`` a quarter of every electrode is
missing, in stretches of 2 s.

    python benchmarks/oscillators_coverage.py [--seeds 60] [--seconds 90] [--missing]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import xarray as xr

from driftwave.compute import dask_threads
from driftwave.experiments import oscillator_coverage as experiment


def table(result: xr.Dataset) -> str:
    """Coverage and moments of z by kind of parameter and oscillator."""
    lines = [f"{'parameter':<26}{'coverage':>9}{'lowest':>8}{'mean z':>8}{'sd z':>7}{'NaN':>5}"]
    kind, which = result["kind"].values, result["oscillator_of"].values
    for name in experiment.KINDS:
        for oscillator in (1, 2):
            some = result.isel(value=(kind == name) & (which == oscillator))
            z, share = some["z"].values, some["coverage"].values
            lines.append(
                f"{f'{name}, oscillator {oscillator}':<26}{share.mean():9.3f}{share.min():8.3f}"
                f"{np.nanmean(z):8.2f}{np.nanstd(z):7.2f}{int(np.isnan(z).sum()):5d}"
            )
    return "\n".join([*lines, f"{'all':<26}{float(result['coverage'].mean()):9.3f}"])


def main() -> None:
    """Run the experiment and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    params = experiment.Params(
        sets=options.seeds, duration=options.seconds, missing=options.missing
    )
    began = time.process_time()
    with dask_threads(1):
        result = experiment.run(params, seed=options.seed)
    spent = time.process_time() - began
    print(
        f"{params.sets} data sets, {params.electrodes} electrodes, {params.duration:g} s at "
        f"{params.rate:g} Hz{', a quarter missing' if params.missing else ''}\n"
        f"{spent / params.sets:.2f} CPU s a data set\n\n{table(result)}"
    )


if __name__ == "__main__":
    main()
