"""Scores of h5 files against the benchmark's own evaluation of the same files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from driftwave.cli import main
from driftwave.errors import InputError
from driftwave.scores.benchmark import METRICS, evaluate
from driftwave.scores.prediction_file import write_h5

UNITS = (6, 4)  # held in, held out


@pytest.fixture(scope="module")
def theirs():
    """The benchmark's own evaluate, as {(group, metric): value}."""
    pytest.importorskip(
        "nlb_tools", reason="the benchmark's code is the oracle: pip install --no-deps nlb_tools"
    )
    run = importlib.import_module("nlb_tools.evaluation").evaluate
    names = {label: metric for metric, (label, _) in METRICS.items()}

    def values(targets: Path, predictions: Path) -> dict[tuple[str, str], float]:
        found = {}
        for split in run(str(targets), str(predictions)):
            for name, scores in split.items():
                scaling = "scaling" in name
                for label, value in scores.items():
                    group = name.removesuffix("_split")
                    if scaling:
                        trials, _, label = label.partition(" ")
                        size = {"[500]": "large", "[250]": "medium", "[100]": "small"}[trials]
                        group = f"mc_maze_{size}" + ("_20" if "_20" in name else "")
                    found[group, names[label]] = float(value)
        return found

    return values


def ours(targets: Path, predictions: Path) -> dict[tuple[str, str], float]:
    table = evaluate(targets, predictions)
    return {(r.dataset, r.metric): r.value for r in table.itertuples()}


def reach_case(seed: int, **sizes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Targets and predictions of a reaching session: smooth rates, a hand, PSTHs, forward bins."""
    rng = np.random.default_rng(seed)
    train, test = sizes.get("train", 40), sizes.get("test", 18)
    bins, forward, conditions = 25, 6, 5
    held_in, units = UNITS[0], sum(UNITS)
    state = np.cumsum(rng.normal(0, 0.2, (train + test, bins + forward, 3)), 1)
    rates = np.exp(state @ rng.normal(0, 0.4, (3, units)) - 1.5)
    guess = rates * np.exp(rng.normal(0, 0.3, rates.shape))
    spikes = rng.poisson(rates).astype(float)
    hand = state[:, :bins, :2] + rng.normal(0, 0.3, (train + test, bins, 2))
    condition = np.arange(test) % conditions
    targets = {
        "eval_spikes_heldout": spikes[train:, :bins, held_in:],
        "train_behavior": hand[:train],
        "eval_behavior": hand[train:],
        "eval_spikes_heldin_forward": spikes[train:, bins:, :held_in],
        "eval_spikes_heldout_forward": spikes[train:, bins:, held_in:],
        "psth": rng.gamma(2.0, 0.2, (conditions, bins, units)),
        "eval_cond_idx": [np.flatnonzero(condition == c) for c in range(conditions)],
    }
    predictions = {
        "train_rates_heldin": guess[:train, :bins, :held_in],
        "train_rates_heldout": guess[:train, :bins, held_in:],
        "eval_rates_heldin": guess[train:, :bins, :held_in],
        "eval_rates_heldout": guess[train:, :bins, held_in:],
        "eval_rates_heldin_forward": guess[train:, bins:, :held_in],
        "eval_rates_heldout_forward": guess[train:, bins:, held_in:],
    }
    return targets, predictions


def timing_case(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Targets and predictions of a timing task: scored from a set to a go, produced intervals."""
    rng = np.random.default_rng(seed)
    test, bins, conditions = 40, 30, 4
    interval = rng.uniform(0.4, 1.4, test)
    length = np.rint(interval * 20).astype(int)
    phase = np.clip(np.arange(bins) - (bins - length[:, None]), 0, None) / length[:, None]
    state = np.stack([np.sin(3 * phase), np.cos(3 * phase)], -1)
    rates = np.exp(state @ rng.normal(0, 0.5, (2, sum(UNITS))) - 1)
    spikes = rng.poisson(rates).astype(float)
    spikes[np.arange(bins) < bins - length[:, None]] = np.nan
    condition = np.arange(test) % conditions
    psth = rng.gamma(2.0, 0.2, (conditions, bins, sum(UNITS)))
    psth[:, :12] = np.nan
    psth[1, :15] = np.nan
    rows = np.stack([condition % 2, condition // 2, 0 * condition, interval, interval], 1)
    rows[[3, 11]] = np.nan  # outliers
    targets = {
        "eval_spikes_heldout": spikes[..., UNITS[0] :],
        "train_behavior": rows,
        "eval_behavior": rows,
        "psth": psth,
        "eval_cond_idx": [np.flatnonzero(condition == c) for c in range(conditions)],
        "eval_jitter": rng.integers(0, 3, test),
    }
    guess = rates * np.exp(rng.normal(0, 0.1, rates.shape))
    predictions = {
        "eval_rates_heldin": guess[..., : UNITS[0]],
        "eval_rates_heldout": guess[..., UNITS[0] :],
    }
    return targets, predictions


def written(folder: Path, **cases: tuple[dict, dict]) -> tuple[Path, Path]:
    paths = folder / "target.h5", folder / "prediction.h5"
    for index, path in enumerate(paths):
        write_h5(path, {name: case[index] for name, case in cases.items()})
    return paths


def agree(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-9), key


@pytest.mark.parametrize("seed", range(3))
def test_a_reaching_session_scores_as_in_the_benchmark(theirs, tmp_path: Path, seed: int) -> None:
    cases = {"mc_maze": reach_case(seed), "mc_maze_20": reach_case(seed + 10)}
    paths = written(tmp_path, **cases)
    found = ours(*paths)
    agree(found, theirs(*paths))
    assert {metric for _, metric in found} == {"co_bps", "fp_bps", "vel_r2", "psth_r2"}
    assert found["mc_maze", "vel_r2"] > 0.3


def test_every_set_of_the_benchmark_is_scored_under_its_own_name(theirs, tmp_path: Path) -> None:
    names = ["mc_rtt", "mc_rtt_20", "mc_maze_large", "mc_maze_medium_20", "mc_maze_small"]
    cases = {name: reach_case(seed) for seed, name in enumerate(names)}
    for case in (cases["mc_rtt"], cases["mc_rtt_20"]):
        del case[0]["psth"]
    cases["dmfc_rsg"] = timing_case(0)
    paths = written(tmp_path, **cases)
    found = ours(*paths)
    agree(found, theirs(*paths))
    assert {group for group, _ in found} == {*names, "dmfc_rsg"}
    assert ("mc_rtt", "psth_r2") not in found


def test_groups_of_trials_have_their_own_decoders(theirs, tmp_path: Path) -> None:
    targets, predictions = reach_case(4)
    for part in ("train", "eval"):
        trials = len(targets[f"{part}_behavior"])
        active = np.arange(trials) % 3 == 0
        targets[f"{part}_decode_mask"] = np.stack([active, ~active], 1)
        targets[f"{part}_behavior"][active] *= -1  # one decoder for all would fail
    paths = written(tmp_path, area2_bump=(targets, predictions))
    found = ours(*paths)
    agree(found, theirs(*paths))
    del targets["train_decode_mask"]
    together = ours(*written(tmp_path, area2_bump=(targets, predictions)))
    assert found["area2_bump", "vel_r2"] > together["area2_bump", "vel_r2"] + 0.1


def test_missing_behaviour_is_neither_fitted_to_nor_scored(theirs, tmp_path: Path) -> None:
    targets, predictions = reach_case(5)
    targets["train_behavior"][3, 20:] = np.nan
    targets["eval_behavior"][2] = np.nan
    predictions["train_rates_heldin"][3, 22] = np.nan  # where there is no behaviour
    paths = written(tmp_path, mc_rtt=(targets, predictions))
    agree(ours(*paths), theirs(*paths))


@pytest.mark.parametrize("seed", range(3))
def test_a_timing_task_scores_as_in_the_benchmark(theirs, tmp_path: Path, seed: int) -> None:
    targets, predictions = timing_case(seed)
    paths = written(tmp_path, dmfc_rsg=(targets, predictions))
    found = ours(*paths)
    agree(found, theirs(*paths))
    assert found["dmfc_rsg", "tp_corr"] < -0.5  # faster dynamics, shorter intervals


def test_zero_rates_silent_units_and_missing_spikes(theirs, tmp_path: Path) -> None:
    targets, predictions = reach_case(6)
    predictions["eval_rates_heldout"][:2, :4] = 0.0
    predictions["eval_rates_heldin_forward"][1] = 0.0
    targets["eval_spikes_heldout"][..., 1] = 0.0
    targets["eval_spikes_heldout"][4, 10:] = np.nan
    targets["psth"][..., 2] = 0.0  # a silent unit's PSTHs do not vary
    paths = written(tmp_path, mc_maze=(targets, predictions))
    agree(ours(*paths), theirs(*paths))


def test_conditions_without_trials_are_left_out(theirs, tmp_path: Path) -> None:
    targets, predictions = reach_case(7)
    targets["eval_cond_idx"][2] = np.array([], dtype=int)
    paths = written(tmp_path, mc_maze=(targets, predictions))
    agree(ours(*paths), theirs(*paths))


def test_nothing_is_scored_that_a_file_does_not_hold(tmp_path: Path) -> None:
    targets, predictions = reach_case(8)
    del targets["train_behavior"], targets["psth"], predictions["eval_rates_heldin_forward"]
    found = ours(*written(tmp_path, anything=(targets, predictions)))
    assert list(found) == [("anything", "co_bps")]


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("eval_rates_heldout", -0.1, "mc_maze/eval_rates_heldout: found rates hold negative"),
        ("eval_rates_heldout", np.nan, "mc_maze/eval_rates_heldout: found rates hold NaN"),
        ("eval_rates_heldin", np.nan, r"mc_maze/train_rates_\*, eval_rates_\*: found rates hold"),
        ("eval_rates_heldin_forward", np.inf, r"mc_maze/eval_rates_\*_forward: found rates hold"),
    ],
)
def test_impossible_rates_name_their_session_and_array(
    tmp_path: Path, name: str, bad: float, message: str
) -> None:
    targets, predictions = reach_case(9)
    predictions[name][0, 0, 0] = bad
    with pytest.raises(InputError, match=rf"prediction\.h5: {message}"):
        evaluate(*written(tmp_path, mc_maze=(targets, predictions)))


@pytest.mark.parametrize(
    "name", ["eval_rates_heldin", "eval_rates_heldout", "train_rates_heldin", "train_rates_heldout"]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_wrong_shapes_name_their_session_and_array(tmp_path: Path, name: str, axis: int) -> None:
    targets, predictions = reach_case(9)
    predictions[name] = np.delete(predictions[name], 0, axis)
    with pytest.raises(InputError, match=rf"mc_maze/{name}: found shape .* expected "):
        evaluate(*written(tmp_path, mc_maze=(targets, predictions)))


def test_wrong_numbers_of_units_are_told(tmp_path: Path) -> None:
    targets, predictions = reach_case(9)
    predictions["train_rates_heldin"] = predictions["train_rates_heldin"][..., 1:]
    with pytest.raises(InputError, match="9 units together, expected 10"):
        evaluate(*written(tmp_path, mc_maze=(targets, predictions)))
    targets, predictions = reach_case(9)
    del predictions["train_rates_heldin"]
    with pytest.raises(InputError, match="mc_maze/train_rates_heldin: found nothing"):
        evaluate(*written(tmp_path, mc_maze=(targets, predictions)))


def test_files_without_a_common_session_are_told(tmp_path: Path) -> None:
    targets, _ = written(tmp_path, mc_maze=reach_case(0))
    _, predictions = written(tmp_path / "..", mc_rtt=reach_case(0))
    with pytest.raises(InputError, match=r"found \['mc_rtt'\], targets \['mc_maze'\]"):
        evaluate(targets, predictions)
    with pytest.raises(InputError, match="no such file"):
        evaluate(targets, tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="cannot be read"):
        evaluate(targets, tmp_path / "text.h5")


def test_the_command_prints_and_writes_the_scores(tmp_path: Path, capsys) -> None:
    paths = written(tmp_path, mc_maze=reach_case(0))
    out = ["--out", str(tmp_path / "scores.tsv")]
    main(["benchmark", "evaluate", str(paths[0]), str(paths[1]), *out])
    printed = capsys.readouterr().out
    assert "mc_maze" in printed
    assert "co-bps" in printed
    table = pd.read_csv(tmp_path / "scores.tsv", sep="\t")
    pd.testing.assert_frame_equal(table, evaluate(*paths), rtol=1e-12)
    record = json.loads((tmp_path / "scores.tsv.provenance.json").read_text())
    assert [Path(entry["path"]) for entry in record["inputs"]] == list(paths)
