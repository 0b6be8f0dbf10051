"""Scores that a layout asks for: velocity, PSTHs, produced intervals; and their h5 files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV

from conftest import ROOT, make_recording
from driftwave.cli import main
from driftwave.config import load_layout
from driftwave.errors import InputError
from driftwave.figures import scores as figure
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.ingest.simulate import mc_maze
from driftwave.scores.benchmark import evaluate
from driftwave.scores.page import comparison_page, number
from driftwave.scores.prediction_file import group_name, prediction, target, write_h5
from driftwave.scores.produced_interval import interval_correlation, interval_sums, speeds
from driftwave.scores.psth import psth_of, psth_r2, psth_sums
from driftwave.scores.settings import scored_bins
from driftwave.scores.table import compare_models, open_scores, score_model, write_table
from driftwave.scores.velocity import velocity_r2, velocity_sums
from driftwave.store import write_tree

SCORES: dict[str, Any] = {
    "velocity": {"features": ["hand_x", "hand_y"]},
    "psth": {"sd": 0.03},
}


def told(scores: dict[str, Any], **options: Any) -> xr.DataTree:
    """A recording whose layout asks for scores."""
    recording = make_recording(**options)
    recording.attrs["layout_settings"] = json.dumps({"name": "told", "scores": scores})
    return recording


def latents_of(recording: xr.DataTree, rate: np.ndarray) -> xr.Dataset:
    dims = ("trial", "time", "unit")
    return xr.Dataset(
        {"rate": (dims, rate.astype(np.float32), {"units": "Hz"})},
        attrs={"session": recording.attrs["session"], "model": "toy"},
    )


def guess_of(recording: xr.DataTree, noise: float = 0.2) -> np.ndarray:
    truth = recording["truth/rate"].values
    return truth * np.exp(np.random.default_rng(0).normal(0, noise, truth.shape))


def reaching(seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    rates = rng.gamma(2.0, 0.3, (50, 12, 7))
    behavior = rates @ rng.normal(0, 1, (7, 2)) + rng.normal(0, 0.5, (50, 12, 2))
    return rates[:30], behavior[:30], rates[30:], behavior[30:]


def test_velocity_is_read_out_as_by_a_grid_search() -> None:
    train_rates, train_behavior, rates, behavior = reaching()
    search = GridSearchCV(Ridge(), {"alpha": np.logspace(-4, 0, 9)})
    search.fit(train_rates.reshape(-1, 7), train_behavior.reshape(-1, 2))
    expected = search.score(rates.reshape(-1, 7), behavior.reshape(-1, 2))
    found = velocity_r2(train_rates, train_behavior, rates, behavior)
    assert found == pytest.approx(expected, abs=1e-11)
    sums = velocity_sums(train_rates, train_behavior, rates, behavior)
    assert sums.value() == pytest.approx(expected, abs=1e-11)


def test_a_linear_hand_is_read_out_exactly_and_a_shuffled_one_is_not() -> None:
    train_rates, _, rates, _ = reaching()
    weights = np.random.default_rng(1).normal(0, 1, (7, 2))
    sums = velocity_sums(train_rates, train_rates @ weights + 3, rates, rates @ weights + 3)
    assert sums.value() > 1 - 1e-8
    # Independent draws in the hand's place: the error doubles, R2 is about 1 - 2.
    assert sums.shuffled() == pytest.approx(-1, abs=0.15)


def test_the_shuffle_of_groups_stays_within_them() -> None:
    train_rates, train_behavior, rates, behavior = reaching(2)
    groups = [np.arange(n) % 4 == 0 for n in (30, 20)]
    groups = [np.stack([own, ~own], 1) for own in groups]
    sums = velocity_sums(train_rates, train_behavior, rates, behavior, *groups)
    scores = []
    for group in range(2):
        members, train = groups[1][:, group], groups[0][:, group]
        own = behavior[members]
        dealt = [
            velocity_r2(
                train_rates[train], train_behavior[train], np.roll(rates[members], shift, 0), own
            )
            for shift in range(1, members.sum())
        ]
        scores.append(np.mean(dealt))
    assert sums.shuffled() == pytest.approx(np.mean(scores), abs=1e-10)


def test_too_little_behaviour_is_told() -> None:
    train_rates, train_behavior, rates, behavior = reaching()
    with pytest.raises(ValueError, match="too little behaviour"):
        velocity_r2(train_rates, np.full_like(train_behavior, np.nan), rates, behavior)


def test_a_psth_of_counts_is_their_smoothed_mean() -> None:
    recording = told(SCORES, trials=90)
    psth = psth_of(recording, sd=1e-4)  # no smoothing
    counts = recording["spikes/counts"].values[:, :25]
    used = np.isin(recording["trials/split"].values, ["train", "valid", "test"])
    condition = recording["trials/condition"].values
    expected = [counts[used & (condition == c)].mean(0) for c in range(6)]
    np.testing.assert_allclose(psth.mean, expected, atol=1e-12)
    wide = psth_of(recording, sd=0.05).mean
    assert np.abs(np.diff(wide, axis=1)).mean() < 0.3 * np.abs(np.diff(psth.mean, axis=1)).mean()
    np.testing.assert_allclose(wide.mean(), psth.mean.mean(), rtol=0.02)
    test = np.flatnonzero(recording["trials/split"].values == "test")
    for code, places in enumerate(psth.test):
        np.testing.assert_array_equal(test[places], test[condition[test] == code])


def test_a_known_psth_score() -> None:
    psth = np.arange(12.0).reshape(2, 3, 2)
    rates = np.stack([psth[0] + 1, psth[0] - 1, psth[1] + 2, psth[1]])
    conditions = [np.array([0, 1]), np.array([2, 3])]
    # Condition means are exact in the first condition and off by one in the second.
    per_unit = 1 - 3 / ((psth[..., 0] - psth[..., 0].mean()) ** 2).sum()
    assert psth_r2(psth, rates, conditions) == pytest.approx(per_unit)
    assert psth_sums(psth, rates, conditions).value() == pytest.approx(per_unit)
    with pytest.raises(ValueError, match="no condition has a trial"):
        psth_r2(psth, rates, [np.array([], dtype=int)] * 2)
    early = np.stack([np.roll(one, -1, axis=0) for one in psth])  # a bin too early
    psth[:, 0] = np.nan
    each = [np.array([0]), np.array([1])]
    assert psth_r2(psth, early, each, np.array([1, 1])) == 1.0
    with pytest.raises(ValueError, match="NaN or infinite values in bins of the PSTH"):
        psth_r2(psth, early, each, np.array([2, 2]))


def test_speed_is_the_mean_step_of_scored_bins() -> None:
    rates = np.array([[[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [3.0, 5.0]]])
    scored = np.array([[True, True, True, True]])
    assert speeds(rates, scored)[0] == pytest.approx((5 + 0 + 1) / 3)
    assert speeds(rates, np.array([[False, True, True, True]]))[0] == pytest.approx(0.5)
    assert np.isnan(speeds(rates, np.array([[False, False, False, True]]))[0])


def test_the_correlation_is_the_mean_over_conditions() -> None:
    rng = np.random.default_rng(0)
    speed, interval = rng.normal(0, 1, 40), rng.normal(0, 1, 40)
    labels = (np.arange(40) % 3).astype(float)[:, None]
    labels[5] = np.nan
    expected = [
        pearsonr(speed[labels[:, 0] == c], interval[labels[:, 0] == c])[0] for c in range(3)
    ]
    assert interval_correlation(speed, interval, labels) == pytest.approx(np.mean(expected))
    sums = interval_sums(speed, interval, labels)
    assert sums.value() == pytest.approx(np.mean(expected), abs=1e-12)
    # Dealt within conditions, each trial gets every other speed once.
    sizes = [(labels[:, 0] == c).sum() for c in range(3)]
    dealt = [-r / (n - 1) for r, n in zip(expected, sizes, strict=True)]
    assert sums.shuffled() == pytest.approx(np.mean(dealt), abs=1e-12)
    assert np.isnan(interval_correlation(np.ones(40), interval, labels))


def row(table: pd.DataFrame, metric: str) -> pd.Series:
    return table.set_index("metric").loc[metric]


def test_the_table_has_the_rows_the_layout_asks_for() -> None:
    recording = told(SCORES, trials=120)
    guess = guess_of(recording)
    table = score_model(recording, latents_of(recording, guess), seed=0)
    split, width = recording["trials/split"].values, 0.02
    fitted, test = split != "test", split == "test"
    hand, rates = recording["behavior/value"].values[:, :25], guess[:, :25] * width
    search = GridSearchCV(Ridge(), {"alpha": np.logspace(-4, 0, 9)})
    search.fit(rates[fitted].reshape(-1, 12), hand[fitted].reshape(-1, 2))
    expected = search.score(rates[test].reshape(-1, 12), hand[test].reshape(-1, 2))
    velocity = row(table, "vel_r2")
    assert velocity["value"] == pytest.approx(expected, abs=1e-5)
    assert velocity["ceiling"] > velocity["value"]
    psth = psth_of(recording, 0.03)
    means = np.stack([rates[test][places].mean(0) for places in psth.test])
    expected = r2_score(psth.mean.reshape(-1, 12), means.reshape(-1, 12))
    assert row(table, "psth_r2")["value"] == pytest.approx(expected, abs=1e-5)
    assert row(table, "psth_r2")["ceiling"] > 0.8
    for name in ("vel_r2", "psth_r2"):
        one = row(table, name)
        assert one["ci_low"] < one["value"] < one["ci_high"]
        assert one["null_shuffled"] < 0.1
        assert one["unit"] == "R2"


def timing(trials: int = 160) -> xr.DataTree:
    """A timing task: dynamics run at a speed that sets the interval; scored from set to go."""
    scores = {
        "start": "set_time",
        "psth": {"sd": 0.03, "where": "is_outlier == 0"},
        "produced_interval": {"column": "tp", "by": ["side"], "where": "is_outlier == 0"},
    }
    recording = told(scores, trials=trials)
    rng = np.random.default_rng(1)
    bins = rng.integers(10, 24, trials)
    start = recording["spikes/trial_start"].values
    trials_group = (
        recording["trials"]
        .to_dataset()
        .assign(
            tp=("trial", bins * 20.0),
            set_time=("trial", start + (25 - bins) * 0.02),
            side=("trial", np.arange(trials) % 2),
            is_outlier=("trial", (np.arange(trials) % 20 == 0).astype(int)),
        )
    )
    recording["trials"] = xr.DataTree(trials_group)
    phase = np.clip((np.arange(30) - (25 - bins[:, None])) / bins[:, None], 0, None)
    state = np.stack([np.sin(2 * phase), np.cos(2 * phase)], -1)
    rate = 20 * np.exp(state @ rng.normal(0, 0.5, (2, 12)))
    recording["truth/rate"][:] = rate
    recording["spikes/counts"][:] = rng.poisson(rate * 0.02)
    return recording


def test_bins_before_the_start_are_not_scored() -> None:
    recording = timing()
    bins = scored_bins(recording)
    tp = recording["trials/tp"].values
    np.testing.assert_array_equal(bins.sum(1), np.rint(tp / 20).astype(int))
    assert bins[:, -1].all()
    guess = guess_of(recording)
    table = score_model(recording, latents_of(recording, guess), seed=0)
    wild = guess.copy()
    wild[:, :25][~bins] = 500.0
    other = score_model(recording, latents_of(recording, wild), seed=0)
    for name in ("co_bps", "psth_r2", "tp_corr", "fp_bps"):
        assert row(other, name)["value"] == row(table, name)["value"]
    correlation = row(table, "tp_corr")
    assert correlation["ceiling"] < -0.8
    assert correlation["ci_low"] < correlation["value"] < correlation["ci_high"]
    assert correlation["unit"] == "r"
    assert abs(correlation["null_shuffled"]) < 0.1


@pytest.mark.parametrize("make", [lambda: told(SCORES, trials=120), timing])
def test_the_files_give_the_tables_scores(tmp_path: Path, make: Any) -> None:
    recording = make()
    latents = latents_of(recording, guess_of(recording))
    write_tree(recording, tmp_path / "recording.zarr")
    write_tree(latents, tmp_path / "latents.zarr")
    paths = [str(tmp_path / name) for name in ("recording.zarr", "latents.zarr", "p.h5", "t.h5")]
    main(["benchmark", "export", paths[0], paths[1], "--out", paths[2]])
    main(["benchmark", "export", paths[0], "--out", paths[3]])
    found = evaluate(paths[3], paths[2]).set_index("metric")
    table = score_model(recording, latents, seed=0).set_index("metric")
    shared = [name for name in found.index if name in table.index]
    assert {"co_bps", "fp_bps", "psth_r2"} < set(shared)
    for name in shared:  # the files hold single precision
        assert found.loc[name, "value"] == pytest.approx(table.loc[name, "value"], abs=1e-5), name
    assert set(found["dataset"]) == {"synthetic_20"}


def test_exported_files_score_as_in_the_benchmark(tmp_path: Path) -> None:
    pytest.importorskip("nlb_tools", reason="its evaluation is the oracle")
    oracle = importlib.import_module("nlb_tools.evaluation").evaluate
    for name, recording in {"mc_maze": told(SCORES, trials=120), "dmfc_rsg": timing()}.items():
        settings = json.loads(recording.attrs["layout_settings"])
        settings["scores"]["name"] = name
        recording.attrs["layout_settings"] = json.dumps(settings)
        paths = tmp_path / f"{name}_t.h5", tmp_path / f"{name}_p.h5"
        write_h5(paths[0], target(recording))
        write_h5(paths[1], prediction(recording, latents_of(recording, guess_of(recording))))
        ours = evaluate(*paths).set_index("benchmark_name")["value"]
        theirs = oracle(str(paths[0]), str(paths[1]))[0][f"{name}_20_split"]
        assert set(ours.index) == set(theirs)
        for metric, value in theirs.items():
            assert ours[metric] == pytest.approx(float(value), abs=1e-9), metric


def test_a_prediction_file_holds_what_it_says(tmp_path: Path) -> None:
    recording = told(SCORES, trials=60)
    rate = guess_of(recording)
    write_h5(tmp_path / "p.h5", prediction(recording, latents_of(recording, rate)))
    split, hidden = recording["trials/split"].values, recording["units/held_out"].values
    with h5py.File(tmp_path / "p.h5") as file:
        group = file["synthetic_20"]
        expected = {
            "train_rates_heldin": rate[split != "test"][:, :25][..., ~hidden],
            "train_rates_heldout": rate[split != "test"][:, :25][..., hidden],
            "eval_rates_heldin": rate[split == "test"][:, :25][..., ~hidden],
            "eval_rates_heldout": rate[split == "test"][:, :25][..., hidden],
            "eval_rates_heldin_forward": rate[split == "test"][:, 25:][..., ~hidden],
            "eval_rates_heldout_forward": rate[split == "test"][:, 25:][..., hidden],
        }
        assert set(group) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(group[name][()], values * 0.02, rtol=1e-6)


def test_the_groups_name_follows_the_bin_width() -> None:
    recording = told({"name": "mc_maze"})
    assert group_name(recording) == "mc_maze_20"
    recording["spikes"].attrs["bin_width"] = 0.005
    assert group_name(recording) == "mc_maze"


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"velocity": {"features": ["foot"]}}, r"scores\.velocity\.features: found \['foot'\]"),
        ({"velocity": {"features": ["hand_x"], "by": "x"}}, "no trials column 'x'"),
        ({"start": "set_time"}, r"scores\.start: found no trials column 'set_time'"),
        ({"psth": {"sd": 0.1, "where": "split =="}}, "which fails"),
        ({"psth": {"sd": 0.1, "where": "condition"}}, "not true or false for each row"),
        ({"psth": {"sd": 0.1, "where": "condition > 99"}}, "no trial to average"),
    ],
)
def test_what_the_recording_lacks_is_told(scores: dict[str, Any], message: str) -> None:
    recording = told(scores)
    with pytest.raises(InputError, match=message):
        score_model(recording, latents_of(recording, guess_of(recording)), seed=0)


def test_nothing_to_export_is_told() -> None:
    recording = told({}, held_out=0)
    with pytest.raises(InputError, match="no held-out unit"):
        target(recording)
    with pytest.raises(InputError, match="no held-out unit"):
        prediction(recording, latents_of(recording, guess_of(recording)))


SMALL = mc_maze.Params(train=30, val=12, held_in=8, held_out=4, mazes=2, truth="none")


@pytest.fixture(scope="module")
def maze_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maze") / "small.nwb"
    mc_maze.simulate(path, SMALL, seed=1)
    return path


def ingested(path: Path, width: float) -> xr.DataTree:
    layout = load_layout("nlb_mc_maze", ROOT / "config" / "layouts")
    with open_nwb(path) as file:
        return read_recording(
            file, layout.model_copy(update={"bin_width": width}), session="session"
        )


def benchmark_tensors(path: Path, width: int, monkeypatch: pytest.MonkeyPatch, psth: bool) -> tuple:
    """The benchmark's own arrays of a file, train input and evaluation target."""
    interface = importlib.import_module("nlb_tools.nwb_interface")
    tensors = importlib.import_module("nlb_tools.make_tensors")
    plain = np.nan_to_num
    # It writes into arrays that pandas has made read-only since version 3.
    monkeypatch.setattr(np, "nan_to_num", lambda values, copy=True: plain(values))  # noqa: ARG005
    dataset = interface.NWBDataset(str(path))
    dataset.resample(width)
    train = tensors.make_train_input_tensors(
        dataset, "mc_maze", "train", save_file=False, include_forward_pred=True
    )
    goal = tensors.make_eval_target_tensors(
        dataset, "mc_maze", "train", "val", save_file=False, include_psth=psth
    )
    return train, goal


@pytest.mark.slow
@pytest.mark.parametrize("width", [5, 20])
@pytest.mark.filterwarnings("ignore")
def test_arrays_of_a_file_are_those_of_the_benchmarks_reader(
    maze_file: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nlb_tools", reason="its reader is the oracle")
    train, goals = benchmark_tensors(maze_file, width, monkeypatch, psth=width == 5)
    recording = ingested(maze_file, width / 1000)
    targets = target(recording)
    assert list(targets) == list(goals)
    (found,), (goal,) = targets.values(), goals.values()
    for name in ("heldout", "heldin_forward", "heldout_forward"):
        np.testing.assert_array_equal(found[f"eval_spikes_{name}"], goal[f"eval_spikes_{name}"])
    counts = recording["spikes/counts"].values[recording["trials/split"].values != "test"]
    hidden, seen = recording["units/held_out"].values, 700 // width
    np.testing.assert_array_equal(counts[:, :seen][..., ~hidden], train["train_spikes_heldin"])
    np.testing.assert_array_equal(
        counts[:, seen:][..., hidden], train["train_spikes_heldout_forward"]
    )
    for name in ("train_behavior", "eval_behavior"):  # another low-pass before resampling
        np.testing.assert_allclose(
            found[name], goal[name], atol=(0.003 if width == 5 else 0.025) * np.std(goal[name])
        )
    if width == 5:  # its window is no whole number of 20 ms bins, which it then mixes up
        np.testing.assert_allclose(found["psth"], goal["psth"], atol=1e-4)
        for name in ("train_cond_idx", "eval_cond_idx"):
            assert [list(one) for one in found[name]] == [list(one) for one in goal[name]]


def test_splits_and_held_out_units_are_the_files(maze_file: Path) -> None:
    with h5py.File(maze_file) as file:
        words = file["intervals/trials/split"].asstr()[()]
        hidden = file["units/heldout"][()]
    recording = ingested(maze_file, 0.02)
    split = recording["trials/split"].values
    np.testing.assert_array_equal(split == "test", words == "val")
    assert (split == "valid").sum() == 3  # a tenth of the training trials
    np.testing.assert_array_equal(recording["units/held_out"].values, hidden)
    assert recording["spikes"].sizes["time"] == 45
    assert recording["spikes"].attrs["forward_bins"] == 10
    offset = recording["spikes/trial_start"].values / 0.02
    np.testing.assert_allclose(offset, np.rint(offset), atol=1e-6)
    late = recording["spikes/trial_start"].values - recording["trials/move_onset_time"].values
    assert ((late > -0.25 - 1e-9) & (late < -0.23)).all()


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "layouts").glob("nlb_*.yaml")))
@pytest.mark.parametrize("width", [0.005, 0.02])
def test_layouts_have_the_benchmarks_numbers(path: Path, width: float) -> None:
    """Bins of the trial and forward, lag and smoothing as in the benchmark's own parameters."""
    pytest.importorskip("nlb_tools", reason="its parameters are the oracle")
    parameters = importlib.import_module("nlb_tools.make_tensors").PARAMS
    layout = load_layout(str(path))
    assert layout.trials is not None
    assert layout.scores is not None
    own = parameters[str(layout.scores.name)]
    assert layout.name == path.stem == f"nlb_{layout.scores.name}"
    start, stop = (edge / 1000 for edge in own["make_params"]["align_range"])
    assert layout.trials.align == own["make_params"]["align_field"]
    assert layout.trials.window == (start, pytest.approx(stop + own["fp_len"] / 1000))
    assert layout.forward == own["fp_len"] / 1000
    bins = round((layout.trials.window[1] - start - layout.forward) / width, 6)
    assert bins == round((stop - start) / width)
    if own["behavior_source"] == "data":
        assert layout.behavior[0].series.endswith(own["behavior_field"])
        assert layout.behavior[0].lag == own["lag"] / 1000
    if "psth_params" in own:
        assert layout.trials.condition == own["psth_params"]["cond_fields"]
        assert layout.scores.psth is not None
        assert layout.scores.psth.sd == own["psth_params"]["kern_sd"] / 1000
    else:
        assert layout.scores.psth is None


def test_every_set_of_the_benchmark_has_a_layout() -> None:
    found = {path.stem for path in (ROOT / "config" / "layouts").glob("nlb_*.yaml")}
    maze = ["mc_maze", "mc_maze_large", "mc_maze_medium", "mc_maze_small"]
    assert found == {f"nlb_{name}" for name in [*maze, "mc_rtt", "area2_bump", "dmfc_rsg"]}


def test_the_figure_and_the_page_show_the_rows(tmp_path: Path) -> None:
    recording = timing()
    paths, results = [], {}
    for name, noise in (("good", 0.05), ("bad", 0.6)):
        latents = latents_of(recording, guess_of(recording, noise)).assign_attrs(model=name)
        latents["latent"] = (("trial", "time", "factor"), np.log(latents["rate"].values))
        paths.append(tmp_path / f"{name}.tsv")
        write_table(score_model(recording, latents, seed=0), paths[-1])
        results[name] = open_scores(paths[-1])
    titles = [axis.get_title() for axis in figure.draw(None, results).axes if axis.axison]
    assert {"PSTHs", "produced interval", "few-shot, k=2", "few-shot, k=6"} <= set(titles)
    table = compare_models(paths, {})
    best = table[table["metric"] == "tp_corr"].sort_values("value")["model"].iloc[0]
    assert best == "good"
    page = comparison_page(table)
    values = table[(table["metric"] == "tp_corr") & (table["model"] == "good")]["value"]
    assert f'<td class="best">{number(values.iloc[0])}' in page  # more negative is better
