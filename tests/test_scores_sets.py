"""The benchmark's other sets, as files in their layout: arrays are those of its own reader."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from conftest import ROOT
from driftwave.config import load_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.scores.benchmark import evaluate
from driftwave.scores.prediction_file import prediction, target, write_h5
from driftwave.scores.table import score_model
from nwb_builder import Builder, poisson_units

TRIALS, SECONDS = 60, 150.0
HELDOUT = [False, True, False, False, True, False]
METRICS = {
    "mc_rtt": {"co_bps", "fp_bps", "vel_r2"},
    "area2_bump": {"co_bps", "fp_bps", "vel_r2", "psth_r2"},
    "dmfc_rsg": {"co_bps", "fp_bps", "tp_corr", "psth_r2"},
}


def builder(start: np.ndarray, stop: np.ndarray, **columns: np.ndarray) -> Builder:
    split = np.where(np.arange(TRIALS) % 4 == 1, "val", "train")
    return (
        Builder()
        .units(
            poisson_units(6, SECONDS, 12.0),
            heldout=HELDOUT,
            obs_intervals=[np.array([[0.0, SECONDS]])] * 6,
        )
        .trials(start, stop, split=list(split), **{k: list(v) for k, v in columns.items()})
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
def test_every_score_of_a_set_is_in_the_table_and_the_files(
    files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    recording = ingested(name, files[name], 0.02)
    rng = np.random.default_rng(0)
    rate = rng.gamma(9.0, 1.3, recording["spikes/counts"].shape).astype(np.float32)
    latents = xr.Dataset({"rate": (("trial", "time", "unit"), rate)}, attrs={"model": "noise"})
    table = score_model(recording, latents, seed=0).set_index("metric")
    assert set(table.index) == METRICS[name]
    assert (table["value"].drop("tp_corr", errors="ignore") < 0.05).all()  # rates know nothing
    write_h5(tmp_path / "t.h5", target(recording))
    write_h5(tmp_path / "p.h5", prediction(recording, latents))
    found = evaluate(tmp_path / "t.h5", tmp_path / "p.h5").set_index("metric")
    assert set(found.index) == METRICS[name]
    assert set(found["dataset"]) == {f"{name}_20"}
    for metric, row in table.iterrows():
        assert found.loc[metric, "value"] == pytest.approx(row["value"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.filterwarnings("ignore")
def test_targets_are_those_of_the_benchmarks_reader(
    files: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nlb_tools", reason="its reader is the oracle")
    interface = importlib.import_module("nlb_tools.nwb_interface")
    tensors = importlib.import_module("nlb_tools.make_tensors")
    plain = np.nan_to_num
    # It writes into arrays that pandas has made read-only since version 3.
    monkeypatch.setattr(np, "nan_to_num", lambda values, copy=True: plain(values))  # noqa: ARG005
    dataset = interface.NWBDataset(str(files[name]))
    dataset.resample(5)
    (goal,) = tensors.make_eval_target_tensors(
        dataset,
        name,
        "train",
        "val",
        update_params={"jitter": None},  # as in its test phase
        save_file=False,
        include_psth=name != "mc_rtt",
    ).values()
    (found,) = target(ingested(name, files[name], 0.005)).values()
    assert set(goal) == set(found)
    for key in ("heldout", "heldin_forward", "heldout_forward"):
        np.testing.assert_array_equal(found[f"eval_spikes_{key}"], goal[f"eval_spikes_{key}"])
    if name == "dmfc_rsg":
        np.testing.assert_array_equal(found["eval_behavior"][:, -1], goal["eval_behavior"][:, -1])
    else:
        spread = np.nanstd(goal["eval_behavior"])
        np.testing.assert_allclose(
            found["eval_behavior"], goal["eval_behavior"], atol=0.005 * spread
        )
    if name == "area2_bump":
        np.testing.assert_array_equal(found["eval_decode_mask"], goal["eval_decode_mask"])
    if "psth" in goal:
        np.testing.assert_allclose(found["psth"], goal["psth"], atol=1e-4)
        assert [list(one) for one in found["eval_cond_idx"]] == [
            list(one) for one in goal["eval_cond_idx"]
        ]
