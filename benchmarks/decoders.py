"""Continuous decoders on real recordings: scores beside null and ceiling, with CPU seconds.

    python benchmarks/decoders.py RECORDINGS [--sessions m1_reach head_direction]
        [--decoders ridge wiener kalman kernel gru] [--features counts] [--shuffles 1000] [--peer]

RECORDINGS is the folder of the NWB files. Every unit and bin is decoded, folds are over all splits
(as in the sanity figures of the recordings); the score of the test split is from train and valid.
``--peer`` times scikit-learn's StandardScaler and GridSearchCV of Ridge, the same penalties nested
in the same blocks, on one outer fold, and says what all folds and shuffles would take.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from driftwave import registry
from driftwave.compute import Clock, dask_threads
from driftwave.config import load_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.readouts.features import abutting_runs, features_of, history_index
from driftwave.readouts.folds import block_folds
from driftwave.readouts.table import decoding_table
from driftwave.readouts.targets import behaviour_targets

LAYOUTS = Path(__file__).resolve().parents[1] / "config" / "layouts"
WHERE = {"head_direction": "location == 'adn'"}
COLUMNS = ["decoder", "target", "metric", "score_cv", "score_test", "null_mean", "null_high",
           "ceiling", "p", "q"]  # fmt: skip


def whole_recording(folder: Path, name: str) -> xr.DataTree:
    """A session with every unit and bin."""
    layout = load_layout(name, LAYOUTS)
    assert layout.spikes is not None
    spikes = layout.spikes.model_copy(
        update={"held_out": 0.0, "where": WHERE.get(name), "min_rate": 0.0}
    )
    layout = layout.model_copy(update={"spikes": spikes, "forward": 0.0})
    with open_nwb(folder / f"{name}.nwb") as file:
        return read_recording(file, layout, session=name)


def peer_seconds(recording: xr.DataTree, features: str, shuffles: int) -> tuple[float, float]:
    """CPU seconds of one outer fold by scikit-learn, and of five folds and all shuffles."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values = features_of(
        recording, None, smoothing=0.05, units="all", rate_transform="log", needed_by="peer"
    )[features]
    trials, bins, units = values.shape
    index, complete = history_index(abutting_runs(recording), bins, 10)
    target = np.stack([target.values for target in behaviour_targets(recording)], axis=-1)
    used = complete & np.isfinite(target).all(axis=-1)
    x = values.reshape(-1, units)[index[used]].reshape(int(used.sum()), -1)
    group = np.broadcast_to(block_folds(trials, 5)[:, None], used.shape)[used]
    grid = {"ridge__alpha": [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]}
    search = GridSearchCV(make_pipeline(StandardScaler(), Ridge()), grid, cv=GroupKFold(4))
    clock = Clock.start()
    search.fit(x[group > 0], target[used][group > 0], groups=group[group > 0])
    search.predict(x[group == 0])
    seconds = clock.cpu_seconds
    return seconds, 5 * seconds * (1 + shuffles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--sessions", nargs="+", default=["m1_reach", "head_direction"])
    parser.add_argument(
        "--decoders", nargs="+", default=["ridge", "wiener", "kalman", "kernel", "gru"]
    )
    parser.add_argument("--features", default="counts")
    parser.add_argument("--shuffles", type=int, default=1000)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    for session in options.sessions:
        recording = whole_recording(options.recordings, session)
        stores, seconds = {}, {}
        for name in options.decoders:
            module = registry.load("decoding", name)
            params = module.Params(
                shuffles=options.shuffles, features=(options.features,), validate_on="all"
            )
            clock = Clock.start()
            with dask_threads(1):
                stores[name, "recording"] = module.analyse(recording, None, params, seed=0)
            seconds[name] = round(clock.cpu_seconds, 1)
            print(session, name, f"{seconds[name]} CPU-s", flush=True)
        table = decoding_table(stores)[COLUMNS]
        print(session, options.features, dict(recording["spikes"].sizes))
        with pd.option_context("display.width", 200, "display.max_columns", 20):
            print(table.round(3).to_string(index=False))
        print("CPU seconds:", seconds)
        if options.peer:
            one, everything = peer_seconds(recording, options.features, options.shuffles)
            print(f"scikit-learn: {one:.1f} CPU-s for one fold, {everything:.0f} for the whole")


if __name__ == "__main__":
    main()
