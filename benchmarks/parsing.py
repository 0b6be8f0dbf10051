"""What planning costs: parse of the Snakefile, plan, dry run of everything, by number of sessions.

.venv/bin/python benchmarks/parsing.py [--out docs/img/parsing.png] [--upto 10000]

Six models on each session, files in a temporary folder, CPU seconds of one thread.
- one job: `snakemake TARGET --dry-run` for one output of the last session, which is what every
  cluster job does again, less an empty Snakefile in the same run (interpreter, imports, one rule).
- of it the plan: reading and checking the configuration, table, layouts and files, in-process.
- all targets: the whole plan, from which Snakemake builds its graph.
- everything: `snakemake --dry-run` of all jobs, less the empty Snakefile.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("smoothing", "factor_analysis", "langevinflow", "gpfa", "ndt", "lfads")
LAYOUT = {
    "name": "spiking",
    "description": "spikes and a hand",
    "spikes": {},
    "windows": {"length": 1.0},
    "behavior": [{"name": "hand", "series": "processing/behavior/hand"}],
}
PLAN = """
import json, sys, time, yaml
from driftwave.preflight import checked_plan
content = yaml.safe_load(open("config/config.yaml"))
began = time.process_time()
plan = checked_plan(content)
planned = time.process_time() - began
plan.targets()
print(json.dumps([planned, time.process_time() - began, sum(1 for _ in plan.all_jobs())]))
"""


def project(folder: Path, sessions: int) -> Path:
    """A folder with a configuration of so many sessions, each with a file of its own."""
    (folder / "config").mkdir(parents=True)
    (folder / "nwb").mkdir()
    (folder / "spiking.yaml").write_text(yaml.safe_dump(LAYOUT))
    names = [f"s{number:05d}" for number in range(sessions)]
    for name in names:
        (folder / "nwb" / f"{name}.nwb").touch()
    rows = [f"{name}\t{name}.nwb\tspiking" for name in names]
    (folder / "sessions.tsv").write_text("\n".join(["session\tnwb\tlayout", *rows]) + "\n")
    config = {
        "data_root": "nwb",
        "sessions": "sessions.tsv",
        "layouts": ".",
        "models": {name: {} for name in MODELS},
    }
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def cpu(arguments: list[str], folder: Path) -> float:
    """CPU seconds of a command and its children."""
    environment = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, "--dry-run", "--quiet", "all"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if answer.returncode:
        raise RuntimeError(answer.stdout + answer.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def planned(folder: Path) -> list[float]:
    """CPU seconds of the plan and of its targets, and the number of jobs."""
    command = [sys.executable, "-c", PLAN]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


def measure(sessions: int, repeats: int, largest_graph: int) -> dict[str, float]:
    """Medians for so many sessions."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = project(Path(temporary) / "project", sessions)
        empty = folder / "empty.smk"
        empty.write_text("rule nothing:\n    output: 'nothing.txt'\n    shell: 'true'\n")
        snakefile = ["--snakefile", str(ROOT / "Snakefile")]
        target = [f"results/s{sessions - 1:05d}/recording.zarr", *snakefile]
        base = [cpu(["nothing.txt", "--snakefile", str(empty)], folder) for _ in range(repeats)]
        one = [cpu(target, folder) for _ in range(repeats)]
        plans = [planned(folder) for _ in range(repeats)]
        start = statistics.median(base)
        found = {
            "sessions": sessions,
            "jobs": plans[0][2],
            "start": start,
            "one job": statistics.median(one) - start,
            "plan": statistics.median(p[0] for p in plans),
            "all targets": statistics.median(p[1] for p in plans),
        }
        if sessions <= largest_graph:
            found["everything"] = cpu(snakefile, folder) - start
        return found


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """CPU seconds over the number of sessions, both logarithmic."""
    from matplotlib.figure import Figure

    kinds = {
        "everything": ("dry run of all jobs", "#0072B2", "o"),
        "all targets": ("whole plan", "#E69F00", "s"),
        "one job": ("parse, as each job does it", "#000000", "^"),
        "plan": ("of it: check names and files", "#009E73", "D"),
    }
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for kind, (label, colour, marker) in kinds.items():
        known = [row for row in rows if kind in row]
        axes.loglog(
            [row["sessions"] for row in known],
            [row[kind] for row in known],
            color=colour,
            marker=marker,
            label=label,
        )
    axes.axhline(0.5, color="0.5", linestyle=":", linewidth=1)
    axes.annotate("0.5 s", (rows[0]["sessions"], 0.5), (0, 3), textcoords="offset points")
    axes.set_xlabel("sessions (six models each)")
    axes.set_ylabel("CPU time (s)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    figure.savefig(path, dpi=200)


def main() -> None:
    """Measure, print a table, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--upto", type=int, default=10_000)
    parser.add_argument("--largest-graph", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = []
    began = time.time()
    for sessions in (10, 100, 1_000, 10_000):
        if sessions <= options.upto:
            rows.append(measure(sessions, options.repeats, options.largest_graph))
            print("  ".join(f"{k} {v:.2f}" if v % 1 else f"{k} {v:g}" for k, v in rows[-1].items()))
    print(f"{time.time() - began:.0f} s in all")
    if options.out:
        draw(rows, options.out)


if __name__ == "__main__":
    main()
