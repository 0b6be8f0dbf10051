"""Scores against the benchmark's own code, brute force and known truth."""

from __future__ import annotations

import importlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.metrics import r2_score

from conftest import make_recording
from driftwave.cli import main
from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.figures import scores as figure
from driftwave.scores.bits_per_spike import bits_per_spike, bps_sums, expected_bits_per_spike
from driftwave.scores.latent_r2 import read_out_state
from driftwave.scores.page import comparison_page, wide_table
from driftwave.scores.r_squared import mean_r2, r2_sums
from driftwave.scores.table import (
    COLUMNS,
    compare_models,
    open_scores,
    read_table,
    score_model,
    write_table,
)
from driftwave.store import open_dataset, write_tree

FLOAT32 = 1e-7  # rates are scored as the benchmark's files hold them, in single precision


@pytest.fixture(scope="module")
def oracle():
    """The benchmark's own bits_per_spike."""
    pytest.importorskip(
        "nlb_tools", reason="the benchmark's code is the oracle: pip install --no-deps nlb_tools"
    )
    return importlib.import_module("nlb_tools.evaluation").bits_per_spike


def draw_case(seed: int, shape: tuple[int, int, int] = (7, 11, 5)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rates = rng.gamma(2.0, 0.2, shape)
    return rates, rng.poisson(rates).astype(float)


def latents_of(recording: xr.DataTree, rate: np.ndarray, **attrs: object) -> xr.Dataset:
    coords = recording["spikes"].to_dataset().coords
    return xr.Dataset(
        {"rate": (("trial", "time", "unit"), rate, {"units": "Hz"})},
        coords={name: coords[name] for name in ("trial", "time", "unit")},
        attrs={"session": "synthetic", "model": "toy", **attrs},
    )


def row(table: pd.DataFrame, metric: str) -> pd.Series:
    found = table[table["metric"] == metric]
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize("seed", range(5))
def test_bits_per_spike_is_the_benchmarks(oracle, seed: int) -> None:
    rates, counts = draw_case(seed)
    assert bits_per_spike(rates, counts) == pytest.approx(oracle(rates, counts), abs=1e-9)


def test_zero_rates_silent_units_and_missing_counts_as_in_the_benchmark(oracle) -> None:
    rates, counts = draw_case(0, (7, 300, 5))
    rates[0, :3] = 0.0
    counts[0, 0, 0] = 2.0  # a spike where the rate is zero
    counts[..., 4] = 0.0
    counts[2, 5:] = np.nan
    rates[2, 5:] = np.nan  # of no consequence where there is no count
    before = rates.copy()
    ours = bits_per_spike(rates, counts)
    np.testing.assert_array_equal(rates, before)
    assert np.isfinite(ours)
    assert ours == pytest.approx(oracle(rates.copy(), counts.copy()), abs=1e-9)


def test_a_hand_computed_score() -> None:
    counts = np.array([[0.0], [0.0], [1.0], [3.0]])
    rates = np.array([[0.5], [0.5], [1.5], [1.5]])
    gain = (0 * 4 + 4 * np.log(1.5)) - (4 * np.log(1.0))  # both rates sum to 4
    assert bits_per_spike(rates, counts) == pytest.approx(gain / 4 / np.log(2), abs=1e-12)


def test_the_units_means_score_zero() -> None:
    _, counts = draw_case(3)
    means = np.broadcast_to(counts.mean((0, 1)), counts.shape)
    assert bits_per_spike(means, counts) == pytest.approx(0.0, abs=1e-12)


def test_no_spike_at_all_has_no_score() -> None:
    assert np.isnan(bits_per_spike(np.ones((2, 3, 1)), np.zeros((2, 3, 1))))


@pytest.mark.parametrize(
    ("bad", "message"),
    [(-0.1, "negative"), (np.nan, "NaN or infinite"), (np.inf, "NaN or infinite")],
)
def test_impossible_rates_are_refused(bad: float, message: str) -> None:
    rates, counts = draw_case(1)
    rates[0, 0, 0] = bad
    with pytest.raises(ValueError, match=message):
        bits_per_spike(rates, counts)


def test_shapes_must_match() -> None:
    rates, counts = draw_case(1)
    with pytest.raises(ValueError, match="shape"):
        bits_per_spike(rates[1:], counts)


def test_expected_score_is_that_of_many_fresh_repeats() -> None:
    rng = np.random.default_rng(0)
    truth = np.exp(rng.normal(-1.0, 0.7, (200, 30, 4)))
    rates = truth * np.exp(rng.normal(0, 0.3, truth.shape))
    fresh = [bits_per_spike(rates, rng.poisson(truth)) for _ in range(200)]
    error = np.std(fresh) / np.sqrt(len(fresh))
    assert expected_bits_per_spike(rates, truth) == pytest.approx(np.mean(fresh), abs=4 * error)
    assert error < 1e-3


def test_no_rates_beat_the_true_ones_on_a_fresh_repeat() -> None:
    rng = np.random.default_rng(1)
    truth = np.exp(rng.normal(-1.0, 0.7, (20, 30, 4)))
    best = expected_bits_per_spike(truth, truth)
    for scale in (0.05, 0.2, 1.0):
        other = truth * np.exp(rng.normal(0, scale, truth.shape))
        assert expected_bits_per_spike(other, truth) < best


def test_r2_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth = rng.gamma(2.0, 5.0, (6, 9, 4)) + 1e3  # an offset must not cost digits
    guess = truth + rng.normal(0, 2.0, truth.shape)
    flat = truth.reshape(-1, 4), guess.reshape(-1, 4)
    assert mean_r2(guess, truth) == pytest.approx(r2_score(*flat), abs=1e-9)
    assert mean_r2(truth, truth) == 1.0


def test_a_unit_of_constant_rate_has_no_r2() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (6, 9, 3))
    guess = truth + rng.normal(0, 0.5, truth.shape)
    truth[..., 2] = 4.2
    assert mean_r2(guess, truth) == pytest.approx(mean_r2(guess[..., :2], truth[..., :2]))
    assert np.isnan(mean_r2(guess[..., 2:], truth[..., 2:]))


def test_shuffled_bits_per_spike_are_those_of_all_other_trials() -> None:
    rates, counts = draw_case(2)
    sums = bps_sums(rates, counts)
    trials = len(rates)
    costs = []
    for shift in range(1, trials):  # all cyclic shifts deal each trial every other one once
        dealt = np.roll(rates, shift, axis=0)
        costs.append(bits_per_spike(dealt, counts))
    assert sums.shuffled() == pytest.approx(np.mean(costs), abs=1e-12)
    assert sums.value() == pytest.approx(bits_per_spike(rates, counts), abs=1e-12)
    counts[1, 3:] = np.nan
    costs = [bits_per_spike(np.roll(rates, shift, axis=0), counts) for shift in range(1, trials)]
    assert bps_sums(rates, counts).shuffled() == pytest.approx(np.mean(costs), abs=1e-12)
    rates[1, 3:] = np.nan  # no rates to deal to other trials
    assert np.isnan(bps_sums(rates, counts).shuffled())


def test_shuffled_r2_is_that_of_all_other_trials() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(3, 1, (6, 9, 3))
    guess = truth + rng.normal(0, 0.4, truth.shape)
    dealt = [mean_r2(np.roll(guess, shift, axis=0), truth) for shift in range(1, 6)]
    assert r2_sums(guess, truth).shuffled() == pytest.approx(np.mean(dealt), abs=1e-12)


def test_the_interval_is_that_of_resampled_trials(oracle) -> None:
    rates, counts = draw_case(6, (9, 20, 3))
    low, high = bps_sums(rates, counts).interval(generator(0, "bootstrap"), resamples=500)
    weights = generator(0, "bootstrap").multinomial(9, np.full(9, 1 / 9), size=500)
    values = []
    for draw in weights:
        trials = np.repeat(np.arange(9), draw)
        values.append(oracle(rates[trials], counts[trials]))
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)


def test_the_interval_covers_the_expected_score() -> None:
    rng = np.random.default_rng(0)
    truth = np.exp(rng.normal(-1.0, 0.7, (60, 20, 4)))
    goal = expected_bits_per_spike(truth, truth)
    covered = 0
    for _ in range(60):
        sums = bps_sums(truth, rng.poisson(truth))
        low, high = sums.interval(rng, resamples=500)
        covered += low < goal < high
    assert 50 <= covered <= 60


def test_a_linear_state_is_read_out_of_log_rates() -> None:
    rng = np.random.default_rng(0)
    state = rng.normal(0, 1, (30, 20, 2))
    rates = np.exp(state @ rng.normal(0, 0.5, (2, 8)) - 2)
    split = np.arange(30) % 3
    found = read_out_state(rates, state, split == 0, split == 1, split == 2)
    assert mean_r2(found, state[split == 2]) > 0.9999
    noise = np.exp(rng.normal(0, 1, rates.shape))
    found = read_out_state(noise, state, split == 0, split == 1, split == 2)
    assert mean_r2(found, state[split == 2]) < 0.05


def test_the_truth_scores_its_ceiling(synthetic: xr.DataTree) -> None:
    truth = synthetic["truth/rate"].values
    table = score_model(synthetic, latents_of(synthetic, truth, cpu_seconds=1.5), seed=0)
    assert list(table.columns) == list(COLUMNS)
    assert list(table["metric"]) == [
        "co_bps",
        "fp_bps",
        "expected_bps",
        "rate_r2",
        "rate_r2_held_out",
        "rate_r2_forward",
        "latent_r2",
        "cpu_seconds",
    ]
    scores = table[table["metric"] != "cpu_seconds"]
    np.testing.assert_allclose(scores["value"], scores["ceiling"], atol=1e-12)
    assert (scores["null"] == 0).all()
    assert (scores["null_shuffled"] < scores["value"]).all()
    assert (scores["ci_low"] <= scores["value"]).all()
    assert (scores["value"] <= scores["ci_high"]).all()
    assert row(table, "rate_r2")["value"] == pytest.approx(1, abs=1e-12)
    assert row(table, "latent_r2")["value"] > 0.99
    assert row(table, "cpu_seconds")["value"] == 1.5
    assert set(table["session"]) == {"synthetic"}
    assert set(table["model"]) == {"toy"}


def test_scores_are_of_the_parts_they_name(oracle, synthetic: xr.DataTree) -> None:
    rng = np.random.default_rng(0)
    truth = synthetic["truth/rate"].values
    rate = truth * np.exp(rng.normal(0, 0.2, truth.shape))
    table = score_model(synthetic, latents_of(synthetic, rate), seed=0)
    test = synthetic["trials/split"].values == "test"
    hidden = synthetic["units/held_out"].values
    counts = synthetic["spikes/counts"].values[test].astype(float)
    guess = rate[test] * 0.02
    co = oracle(guess[:, :25][..., hidden], counts[:, :25][..., hidden])
    assert row(table, "co_bps")["value"] == pytest.approx(co, abs=FLOAT32)
    fp = oracle(guess[:, 25:], counts[:, 25:])
    assert row(table, "fp_bps")["value"] == pytest.approx(fp, abs=FLOAT32)
    r2 = r2_score(truth[test][:, :25].reshape(-1, 12), rate[test][:, :25].reshape(-1, 12))
    assert row(table, "rate_r2")["value"] == pytest.approx(r2, abs=FLOAT32)
    r2 = r2_score(truth[test][:, 25:].reshape(-1, 12), rate[test][:, 25:].reshape(-1, 12))
    assert row(table, "rate_r2_forward")["value"] == pytest.approx(r2, abs=FLOAT32)


def test_only_test_trials_are_scored(synthetic: xr.DataTree) -> None:
    truth = synthetic["truth/rate"].values
    other = synthetic["trials/split"].values != "test"
    wrong = truth.copy()
    wrong[other] = 1.0
    # The state's readout is fitted on training trials, so it is left aside here.
    first = score_model(synthetic, latents_of(synthetic, truth), seed=0)
    second = score_model(synthetic, latents_of(synthetic, wrong), seed=0)
    keep = first["metric"] != "latent_r2"
    pd.testing.assert_frame_equal(first[keep], second[keep])


def test_rows_without_meaning_are_left_out() -> None:
    recording = make_recording(held_out=0, forward=0)
    del recording["truth"]
    rate = np.full(recording["spikes/counts"].shape, 20.0)
    table = score_model(recording, latents_of(recording, rate, cpu_seconds=2.0), seed=0)
    assert list(table["metric"]) == ["cpu_seconds"]
    recording = make_recording(held_out=2, forward=0)
    table = score_model(recording, latents_of(recording, rate), seed=0)
    assert "fp_bps" not in set(table["metric"])
    assert "co_bps" in set(table["metric"])


def test_a_field_model_has_only_its_cost(synthetic: xr.DataTree) -> None:
    latents = xr.Dataset(attrs={"model": "oscillators", "cpu_seconds": 3.0})
    assert list(score_model(synthetic, latents, seed=0)["metric"]) == ["cpu_seconds"]


def test_scoring_says_what_is_wrong(synthetic: xr.DataTree) -> None:
    truth = synthetic["truth/rate"].values
    with pytest.raises(InputError, match="session: found other, expected synthetic"):
        score_model(synthetic, latents_of(synthetic, truth, session="other"), seed=0)
    with pytest.raises(InputError, match=r"rate: found .*as the recording's counts"):
        score_model(synthetic, latents_of(synthetic, truth).isel(unit=slice(1, None)), seed=0)
    wrong = truth.copy()
    wrong[synthetic["trials/split"].values == "test", 0, 0] = -1
    with pytest.raises(InputError, match="12 negative, NaN or infinite rates"):
        score_model(synthetic, latents_of(synthetic, wrong), seed=0)
    synthetic["trials/split"][:] = "train"
    with pytest.raises(InputError, match="no test trial"):
        score_model(synthetic, latents_of(synthetic, truth), seed=0)


def test_one_test_trial_has_scores_but_no_interval(synthetic: xr.DataTree) -> None:
    split = synthetic["trials/split"].values
    split[np.flatnonzero(split == "test")[1:]] = "unused"
    truth = synthetic["truth/rate"].values
    table = score_model(synthetic, latents_of(synthetic, truth), seed=0)
    assert np.isfinite(table["value"]).all()
    assert table[["ci_low", "ci_high", "null_shuffled"]].isna().all(axis=None)


def decoded_example() -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("features_from", "target")
    r2 = np.array([[0.8, np.nan], [0.5, 0.4]])
    return xr.Dataset(
        {
            "r2_test": (dims, r2),
            "r2_cv": (dims, r2 - 0.1),
            "null_r2_test": ((*dims, "shuffle"), rng.normal(-0.05, 0.01, (2, 2, 99))),
            "angular_error_test": (("features_from", "angle"), [[20.0], [35.0]]),
            "null_angular_error_test": (
                ("features_from", "angle", "shuffle"),
                np.full((2, 1, 99), 90.0),
            ),
        },
        coords={
            "features_from": ["rate", "latent"],
            "target": ["hand_x", "hand_y"],
            "angle": ["head"],
        },
        attrs={"session": "synthetic"},
    ).assign(
        angular_error_test=lambda d: d["angular_error_test"].assign_attrs(units="degree"),
    )


@pytest.fixture
def comparison(synthetic: xr.DataTree, tmp_path: Path) -> pd.DataFrame:
    truth = synthetic["truth/rate"].values
    paths = []
    for name, rate in {"truth": truth, "flat": np.full_like(truth, truth.mean())}.items():
        table = score_model(synthetic, latents_of(synthetic, rate, model=name), seed=0)
        paths.append(tmp_path / f"{name}.tsv")
        write_table(table, paths[-1])
    return compare_models(paths, {"truth": decoded_example()})


def test_tables_survive_writing(synthetic: xr.DataTree, tmp_path: Path) -> None:
    truth = synthetic["truth/rate"].values
    table = score_model(synthetic, latents_of(synthetic, truth, cpu_seconds=1.0), seed=0)
    write_table(table, tmp_path / "a.tsv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.tsv"), table, rtol=1e-5)
    assert not (tmp_path / "a.html").exists()


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="FileNotFoundError"):
        read_table(tmp_path / "none.tsv")
    (tmp_path / "half.tsv").write_text("session\tmodel\na\tb\n")
    with pytest.raises(InputError, match="columns"):
        read_table(tmp_path / "half.tsv")


def test_decoding_joins_the_comparison(comparison: pd.DataFrame) -> None:
    decoding = comparison[comparison["metric"].str.startswith("decode")]
    found = {(r.features, r.metric): r.value for r in decoding.itertuples()}
    assert found == {
        ("rate", "decode_r2 hand_x"): 0.8,
        ("latent", "decode_r2 hand_x"): 0.5,
        ("latent", "decode_r2 hand_y"): 0.4,
        ("rate", "decode_angular_error head"): 20.0,
        ("latent", "decode_angular_error head"): 35.0,
    }
    nulls = decoding.set_index(["features", "metric"])["null_shuffled"]
    expected = decoded_example()["null_r2_test"].quantile(0.95, "shuffle")
    assert nulls["rate", "decode_r2 hand_x"] == pytest.approx(float(expected[0, 0]))
    units = decoding.set_index(["features", "metric"])["unit"]
    assert units["rate", "decode_angular_error head"] == "degree"


def test_wide_table_keeps_the_order(comparison: pd.DataFrame) -> None:
    wide = wide_table(comparison[~comparison["metric"].str.startswith("decode")])
    assert [model for model, _ in wide.index] == ["truth", "flat"]
    assert list(wide.columns[:3]) == ["co_bps", "fp_bps", "expected_bps"]
    assert wide.loc[("truth", ""), "rate_r2"] == 1.0


class Cells(HTMLParser):
    """Texts of the cells marked best, and every address the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.best: list[str] = []
        self.addresses: list[str] = []
        self.open_best = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [str(found[k]) for k in ("href", "src") if k in found]
        if tag == "td":
            self.open_best = found.get("class") == "best"

    def handle_data(self, data: str) -> None:
        if self.open_best:
            self.best.append(data)
            self.open_best = False


def test_the_page_marks_the_best_and_needs_no_network(
    comparison: pd.DataFrame, tmp_path: Path
) -> None:
    write_table(comparison, tmp_path / "comparison.tsv", html=True)
    text = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    cells = Cells()
    cells.feed(text)
    truth = comparison[comparison["model"] == "truth"].set_index(["metric", "features"])["value"]
    expected = [f"{truth[m, '']:.3f}" for m in ("co_bps", "fp_bps", "expected_bps", "rate_r2")]
    assert cells.best[:4] == expected
    assert cells.best[-2:] == ["0.800", "20.000"]  # the smaller angular error is the better
    assert cells.addresses == []
    assert "http" not in text
    assert "bits/spike" in text


def test_the_page_escapes_names(comparison: pd.DataFrame) -> None:
    comparison["model"] = comparison["model"].replace("flat", "<script>")
    text = comparison_page(comparison)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_the_figure_shows_every_model_and_score(synthetic: xr.DataTree, tmp_path: Path) -> None:
    truth = synthetic["truth/rate"].values
    results = {}
    for name, scale in {"good": 0.1, "bad": 2.0}.items():
        rate = truth * np.exp(np.random.default_rng(0).normal(0, scale, truth.shape))
        latents = latents_of(synthetic, rate, model=name, cpu_seconds=1.0)
        write_table(score_model(synthetic, latents, seed=0), tmp_path / f"{name}.tsv")
        results[name] = open_scores(tmp_path / f"{name}.tsv")
    drawn = figure.draw(None, results)
    shown = [axis for axis in drawn.axes if axis.axison]
    assert [axis.get_xlabel() for axis in shown] == ["bits/spike"] * 3 + ["R2"] * 4 + [
        "CPU time (s)"
    ]
    assert [label.get_text() for label in shown[0].get_yticklabels()] == ["good", "bad"]
    dots = [line for line in shown[0].get_lines() if line.get_marker() == "o"]
    table = read_table(tmp_path / "good.tsv")
    assert dots[0].get_xdata()[0] == pytest.approx(row(table, "co_bps")["value"])


def test_the_commands_score_compare_and_draw(synthetic: xr.DataTree, tmp_path: Path) -> None:
    write_tree(synthetic, tmp_path / "r.zarr")
    write_tree(latents_of(synthetic, synthetic["truth/rate"].values), tmp_path / "l.zarr")
    write_tree(decoded_example(), tmp_path / "d.zarr")
    run = [str(tmp_path / name) for name in ("r.zarr", "l.zarr", "s.tsv", "c.tsv", "f")]
    main(["score", run[0], run[1], "--out", run[2], "--seed", "1"])
    main(
        ["compare", "--scores", run[2], "--decoding", f"toy={tmp_path / 'd.zarr'}", "--out", run[3]]
    )
    main(["figure", "scores", "--result", f"toy={run[2]}", "--out", run[4]])
    table = read_table(run[3])
    assert {"co_bps", "decode_r2 hand_x"} <= set(table["metric"])
    assert (tmp_path / "c.html").exists()
    assert (tmp_path / "f.png").stat().st_size > 5000
    assert (tmp_path / "f.svg").exists()


def test_the_figure_of_nothing_says_so() -> None:
    with pytest.raises(InputError, match="no score"):
        figure.draw(None, {})


def test_score_tables_can_be_written_as_stores(synthetic: xr.DataTree, tmp_path: Path) -> None:
    truth = synthetic["truth/rate"].values
    write_table(score_model(synthetic, latents_of(synthetic, truth), seed=0), tmp_path / "a.tsv")
    write_tree(open_scores(tmp_path / "a.tsv"), tmp_path / "a.zarr")
    assert list(open_dataset(tmp_path / "a.zarr")["metric"].values[:2]) == ["co_bps", "fp_bps"]


@pytest.mark.recording
def test_reference_ceilings_of_the_lorenz_file(recordings: Path) -> None:
    """Ceilings that other tools found on the same file: 1.261 co-bps and 1.358 expected."""
    import h5py

    with h5py.File(recordings / "lorenz29.h5") as file:
        counts, rates = file["test_spikes"][()].astype(float), file["test_rates"][()].astype(float)
        hidden = file["heldout"][()]
    assert bits_per_spike(rates[..., hidden], counts[..., hidden]) == pytest.approx(1.261, abs=1e-3)
    assert expected_bits_per_spike(rates, rates) == pytest.approx(1.358, abs=1e-3)
