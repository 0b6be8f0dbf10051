"""The benchmark's seven sets, as files in their layout: scores and arrays are those of its code."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from conftest import ROOT
from driftwave.cli import main
from driftwave.config import load_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.scores.benchmark import METRICS as LABELS
from driftwave.scores.benchmark import evaluate
from driftwave.scores.prediction_file import target
from driftwave.scores.table import score_model
from driftwave.store import write_tree
from nwb_builder import Builder, poisson_units

TRIALS, SECONDS = 60, 150.0
HELDOUT = [False, True, False, False, True, False]
REACHES = {"co_bps", "fp_bps", "vel_r2", "psth_r2"}
METRICS = {
    "mc_maze": REACHES,
    "mc_maze_large": REACHES,
    "mc_maze_medium": REACHES,
    "mc_maze_small": REACHES,
    "mc_rtt": {"co_bps", "fp_bps", "vel_r2"},
    "area2_bump": REACHES,
    "dmfc_rsg": {"co_bps", "fp_bps", "tp_corr", "psth_r2"},
}
# Pei, Ye et al. 2021: event, window of seen bins (ms), lag of the behaviour (ms), standard
# deviation of the PSTHs' Gaussian (ms), bins of 5 and of 20 ms, columns that make a condition.
MAZE = ("trial_type", "trial_version")
TABLE = {
    "mc_maze": ("move_onset_time", (-250, 450), 100, 70, (140, 35), MAZE),
    "mc_maze_large": ("move_onset_time", (-250, 450), 120, 50, (140, 35), MAZE),
    "mc_maze_medium": ("move_onset_time", (-250, 450), 120, 50, (140, 35), MAZE),
    "mc_maze_small": ("move_onset_time", (-250, 450), 120, 50, (140, 35), MAZE),
    "mc_rtt": ("start_time", (0, 600), 140, None, (120, 30), ()),
    "area2_bump": (
        "move_onset_time",
        (-100, 500),
        -20,
        40,
        (120, 30),
        ("cond_dir", "ctr_hold_bump"),
    ),
    "dmfc_rsg": ("go_time", (-1500, 0), None, 70, (300, 75), ("is_eye", "theta", "is_short", "ts")),
}
# The name under which the benchmark reports a set, and what it puts before its metrics.
REPORTED = {
    "mc_maze_large": ("mc_maze_scaling", "[500] "),
    "mc_maze_medium": ("mc_maze_scaling", "[250] "),
    "mc_maze_small": ("mc_maze_scaling", "[100] "),
}
WORDS = np.where(np.arange(TRIALS) % 4 == 1, "val", "train").astype("<U5")
WORDS[::13] = "none"  # left out of everything


def builder(start: np.ndarray, stop: np.ndarray, **columns: np.ndarray) -> Builder:
    return (
        Builder()
        .units(
            poisson_units(6, SECONDS, 12.0),
            heldout=HELDOUT,
            obs_intervals=[np.array([[0.0, SECONDS]])] * 6,
        )
        .trials(start, stop, split=list(WORDS), **{k: list(v) for k, v in columns.items()})
    )


def movement(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (int(SECONDS * 1000), 2))
    window = np.hanning(301)
    return np.stack([np.convolve(axis, window / window.sum(), "same") for axis in noise.T], 1)


def made(name: str, path: Path) -> Path:
    """A small file in the layout of one set; events fall on any millisecond."""
    rng = np.random.default_rng(5)
    number = np.arange(TRIALS)
    start = 1.0 + 2.4 * number + rng.integers(0, 200, TRIALS) / 1000
    if name == "mc_rtt":
        start = 1.0 + 0.6 * number  # trials abut, so forward bins lie in the next trial
        file = builder(start, start + 0.6)
        file.series("behavior", "finger_vel", movement(1), "mm/s", rate=1000.0, starting_time=0.0)
    elif name.startswith("mc_maze"):
        file = builder(
            start,
            start + 1.9,
            move_onset_time=start + 0.6,
            trial_type=number % 3,
            trial_version=number // 3 % 2,
        )
        file.series("behavior", "hand_vel", movement(3), "mm/s", rate=1000.0, starting_time=0.0)
    elif name == "area2_bump":
        file = builder(
            start,
            start + 1.6,
            move_onset_time=start + 0.4,
            cond_dir=(number % 4) * 90.0,
            ctr_hold_bump=number % 8 < 3,
        )
        file.series("behavior", "hand_vel", movement(2), "cm/s", rate=1000.0, starting_time=0.0)
    else:
        interval = rng.integers(500, 1100, TRIALS) / 1000
        file = builder(
            start,
            start + 2.3,
            set_time=start + 1.9 - interval,
            go_time=start + 1.9,
            is_eye=number % 2,
            theta=(number // 2 % 2) * 180.0,
            is_short=np.zeros(TRIALS, dtype=int),
            ts=np.full(TRIALS, 800.0),
            tp=interval * 1000,
            is_outlier=(number % 15 == 0).astype(int),
        )
    return file.write(path)


def ingested(name: str, path: Path, width: float) -> xr.DataTree:
    layout = load_layout(f"nlb_{name}", ROOT / "config" / "layouts")
    with open_nwb(path) as file:
        return read_recording(file, layout.model_copy(update={"bin_width": width}), session=name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return {name: made(name, folder / f"{name}.nwb") for name in METRICS}


@pytest.mark.parametrize("name", METRICS)
def test_a_layout_is_the_benchmarks_table(name: str) -> None:
    event, window, lag, sd, bins, condition = TABLE[name]
    layout = load_layout(f"nlb_{name}", ROOT / "config" / "layouts")
    assert layout.trials is not None
    assert layout.scores is not None
    assert layout.spikes is not None
    assert layout.trials.align == event
    assert layout.trials.on_grid
    assert tuple(layout.trials.condition) == condition
    assert layout.forward == 0.2
    whole = (window[0] / 1000, window[1] / 1000 + layout.forward)
    assert layout.trials.window == pytest.approx(whole)
    for width, seen in zip((0.005, 0.02), bins, strict=True):
        assert round((whole[1] - whole[0] - layout.forward) / width) == seen
    assert [round(1000 * series.lag) for series in layout.behavior] == ([lag] if lag else [])
    assert {series.at for series in layout.behavior} <= {"start"}
    assert (layout.scores.psth and round(1000 * layout.scores.psth.sd)) == sd
    assert layout.spikes.held_out == "heldout"
    assert layout.scores.name == name
    assert layout.split.words == {"val": "test", "test": "unused"}
    assert layout.bin_width == 0.005


def test_the_table_is_the_one_in_the_benchmarks_code() -> None:
    pytest.importorskip("nlb_tools", reason="its parameters are the oracle")
    known = importlib.import_module("nlb_tools.make_tensors").PARAMS
    assert set(known) == set(TABLE)
    for name, (event, window, lag, sd, _, condition) in TABLE.items():
        theirs = known[name]
        assert theirs["make_params"]["align_field"] == event
        assert theirs["make_params"]["align_range"] == window
        assert theirs.get("lag") == lag
        assert theirs["fp_len"] == 200
        psth = theirs.get("psth_params", {})
        assert psth.get("kern_sd") == sd
        assert tuple(psth.get("cond_fields", ())) == condition


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("width", [0.005, 0.02])
def test_every_score_of_a_set_is_that_of_the_benchmarks_code(
    files: dict[str, Path], tmp_path: Path, name: str, width: float
) -> None:
    pytest.importorskip("nlb_tools", reason="its evaluation is the oracle")
    recording = ingested(name, files[name], width)
    bins = TABLE[name][4][width == 0.02]
    assert recording["spikes"].sizes["time"] == bins + round(0.2 / width)
    assert recording["spikes"].attrs["forward_bins"] == round(0.2 / width)
    split = recording["trials/split"].values
    np.testing.assert_array_equal(split == "test", WORDS == "val")
    np.testing.assert_array_equal(split == "unused", WORDS == "none")
    rng = np.random.default_rng(0)
    rate = rng.gamma(9.0, 1.3, recording["spikes/counts"].shape).astype(np.float32)
    latents = xr.Dataset({"rate": (("trial", "time", "unit"), rate)}, attrs={"model": "noise"})
    table = score_model(recording, latents, seed=0).set_index("metric")
    assert set(table.index) == METRICS[name]
    assert (table["value"].drop("tp_corr", errors="ignore") < 0.05).all()  # rates know nothing
    stores = tmp_path / "recording.zarr", tmp_path / "latents.zarr"
    for tree, path in zip((recording, latents), stores, strict=True):
        write_tree(tree, path)
    paths = str(tmp_path / "t.h5"), str(tmp_path / "p.h5")
    main(["benchmark", "export", str(stores[0]), "--out", paths[0]])
    main(["benchmark", "export", *map(str, stores), "--out", paths[1]])
    group, prefix = REPORTED.get(name, (name, ""))
    ending = "_20" if width == 0.02 else ""
    (found,) = importlib.import_module("nlb_tools.evaluation").evaluate(*paths)
    theirs = found[f"{group}{ending}_split"]
    assert set(theirs) == {prefix + LABELS[metric][0] for metric in METRICS[name]}
    ours = evaluate(*paths).set_index("metric")
    assert set(ours["dataset"]) == {name + ending}
    for metric, row in table.iterrows():
        value = float(theirs[prefix + LABELS[metric][0]])
        assert ours.loc[metric, "value"] == pytest.approx(value, abs=1e-9), metric
        # Behaviour, PSTHs and their smoothing are of single precision in the file.
        close = 1e-9 if metric.endswith("_bps") else 1e-6
        assert row["value"] == pytest.approx(value, abs=close), metric


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("width", [5, 20])
@pytest.mark.filterwarnings("ignore")
def test_targets_are_those_of_the_benchmarks_reader(
    files: dict[str, Path], name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nlb_tools", reason="its reader is the oracle")
    interface = importlib.import_module("nlb_tools.nwb_interface")
    tensors = importlib.import_module("nlb_tools.make_tensors")
    plain = np.nan_to_num
    # It writes into arrays that pandas has made read-only since version 3.
    monkeypatch.setattr(np, "nan_to_num", lambda values, copy=True: plain(values))  # noqa: ARG005
    dataset = interface.NWBDataset(str(files[name]))
    dataset.resample(width)
    # Its PSTHs mix neighbouring bins where the window does not begin with a whole one.
    psth = name != "mc_rtt" and TABLE[name][1][0] % width == 0
    (goal,) = tensors.make_eval_target_tensors(
        dataset,
        name,
        "train",
        "val",
        update_params={"jitter": None},  # as in its test phase
        save_file=False,
        include_psth=psth,
    ).values()
    (found,) = target(ingested(name, files[name], width / 1000)).values()
    assert set(goal) == (set(found) if psth else {k for k in found if "cond" not in k} - {"psth"})
    for key in ("heldout", "heldin_forward", "heldout_forward"):
        np.testing.assert_array_equal(found[f"eval_spikes_{key}"], goal[f"eval_spikes_{key}"])
    if name == "dmfc_rsg":
        np.testing.assert_array_equal(found["eval_behavior"][:, -1], goal["eval_behavior"][:, -1])
    else:
        spread = np.nanstd(goal["eval_behavior"])
        np.testing.assert_allclose(
            found["eval_behavior"],
            goal["eval_behavior"],
            atol=(0.005 if width == 5 else 0.05) * spread,
        )
    if name == "area2_bump":
        np.testing.assert_array_equal(found["eval_decode_mask"], goal["eval_decode_mask"])
    if "psth" in goal:
        np.testing.assert_allclose(found["psth"], goal["psth"], atol=1e-4)
        assert [list(one) for one in found["eval_cond_idx"]] == [
            list(one) for one in goal["eval_cond_idx"]
        ]
