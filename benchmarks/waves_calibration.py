"""How often the waves stage finds waves where there are none, and where there are.

    python benchmarks/waves_calibration.py [--table waves_calibration.tsv] [--out waves_calibration]

The experiment `wave_calibration` at full size: 200 data sets of each kind of noise, 50 of each kind
of wave. One line per data set is appended to the table, so that an interrupted run goes on where it
stopped; the figure goes to <out>.png and <out>.svg.
"""

from __future__ import annotations

import argparse

from driftwave.compute import dask_threads
from driftwave.experiments.wave_calibration import Params, draw, run
from driftwave.figures.style import save_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", default="waves_calibration.tsv")
    parser.add_argument("--out", default="waves_calibration")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with dask_threads(options.threads):
        result = run(Params(resume=options.table), seed=0)
    print(result["rejected"].to_pandas().round(3).to_string())
    print(result["null_rejected"].to_pandas().round(3).to_string())
    save_figure(draw(result), options.out)


if __name__ == "__main__":
    main()
