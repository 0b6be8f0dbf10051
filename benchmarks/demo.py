"""What the demo's results say: score table of the Lorenz session, waves found beside the true ones.

make demo && .venv/bin/python benchmarks/demo.py [results]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from driftwave.store import open_dataset


def scores(folder: Path) -> pd.DataFrame:
    """Scores of each model and, last, of the true rates."""
    table = pd.read_csv(folder / "comparison.tsv", sep="\t")
    table = table[~table["metric"].str.startswith("decode")]
    wide = table.pivot_table(index="model", columns="metric", values="value")
    wide.loc["ceiling"] = table.groupby("metric")["ceiling"].max()
    return wide.round(3)


def waves(store: Path) -> dict[str, object]:
    """How the events of a simulated array compare with its true waves."""
    found = open_dataset(store).load()
    summary: dict[str, object] = {
        "events": found.sizes["event"],
        "significant": int((found["q"].values <= 0.05).sum()),
        "p of the recording": found["p_recording"].values.tolist(),
    }
    true_class = found["true_class"].values
    if found.sizes["event"]:
        right = (found["match_class"].values == true_class).sum()
        summary["right class"] = f"{right}/{len(true_class)}"
    planar = true_class == "planar"
    errors = {
        "planar direction error (deg)": found["match_direction_error"].values[planar],
        "planar speed error (%)": 100 * np.abs(found["match_speed_ratio"].values[planar] - 1),
        "centre error (mm)": found["match_centre_error"].values[~planar],
    }
    for name, error in errors.items():
        if np.isfinite(error).any():
            summary[name] = f"median {np.nanmedian(error):.2f}, largest {np.nanmax(error):.2f}"
    return summary


def main() -> None:
    """Print both tables."""
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    print(scores(results / "lorenz").to_string())
    for session in ("array", "array_null"):
        print(f"\n{session}")
        for name, value in waves(results / session / "waves" / "recording.zarr").items():
            print(f"  {name}: {value}")


if __name__ == "__main__":
    main()
