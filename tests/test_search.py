"""Hyper-parameter search: draws, rungs, blindness to the test trials, and the jobs themselves."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from conftest import make_recording
from driftwave import registry
from driftwave.config import parse_config
from driftwave.errors import DriftwaveError, InputError
from driftwave.joblog import events_path
from driftwave.preflight import checked_plan
from driftwave.scores.bits_per_spike import bits_per_spike
from driftwave.search import plan as search_plan
from driftwave.search.halving import Rung, ranked, rungs
from driftwave.search.results import best_text, rank_results, rung_results, table_text
from driftwave.search.run import run_search, search_content
from driftwave.search.settings import ParameterSpace, SearchConfig
from driftwave.search.space import draw_trials
from driftwave.search.trial import run_trial, validation_score, without_test
from driftwave.store import write_tree
from driftwave.summary import summarise
from driftwave.workflow_plan import Plan
from test_workflow_plan import FIELD, SPIKES, write_sessions
from workflow_project import CONFIG, Project, make_project

SPACE = {"scale": {"log_uniform": [0.25, 4.0]}}

# Rates are each unit's training mean times `scale`: by Poisson likelihood the best scale is 1, and
# it is known without a fit. It says what it was shown, and fails when told to.
TOY = '''"""Means of the units, scaled: a model whose best parameter is known."""

from pathlib import Path

import numpy as np
import time
from pydantic import BaseModel, ConfigDict, Field

from driftwave.errors import DriftwaveError
from driftwave.inference.data import rates_dataset, spike_arrays

OBSERVES = "spikes"


class Params(BaseModel):
    """Parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    scale: float = Field(1.0, gt=0, description="Factor of the means.")
    steps: int = Field(100, ge=1, description="Budget; few steps blur the scale.")
    diverges: bool = Field(False, description="Fail as a diverging training does.")
    crashes: bool = Field(False, description="Fail as faulty code does.")
    pause: float = Field(0.0, description="Time a fit takes, s.")


def fit(recording, params, *, seed, device, progress, checkpoint):
    """Take the means of the training trials."""
    if set(recording["trials/split"].values.astype(str)) - {"train", "valid"}:
        raise RuntimeError("a search showed its model the test trials")
    if params.diverges:
        raise DriftwaveError("Training diverged.")
    if params.crashes:
        raise ZeroDivisionError("oops")
    resumed = checkpoint is not None and (checkpoint / "state").exists()
    if checkpoint is not None:
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "state").write_text("half way")
    time.sleep(params.pause)
    arrays = spike_arrays(recording, "toy")
    mean = arrays.counts[arrays.train].mean((0, 1)) / arrays.bin_width
    return Fit(mean * params.scale * (1 + 0.1 / params.steps), resumed)


class Fit:
    def __init__(self, mean, resumed):
        self.mean, self.resumed = mean, resumed

    def infer(self, recording):
        """The scaled means in every bin."""
        shape = recording["spikes/counts"].shape
        rate = np.broadcast_to(np.maximum(self.mean, 1e-3), shape)
        return rates_dataset(recording, rate, np.zeros((*shape[:2], 1)))

    def save(self, folder):
        """Write the means, and whether there was a checkpoint to go on from."""
        np.save(Path(folder) / "mean.npy", self.mean)
        (Path(folder) / "resumed.txt").write_text(str(self.resumed))
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy as a plug-in of another package."""
    folder = tmp_path / "searchlab"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("toy", "searchlab.toy", "driftwave.models")
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [point] if group == point.group else []
    )
    registry.plugins.cache_clear()
    yield
    registry.plugins.cache_clear()
    for name in ("searchlab.toy", "searchlab"):
        sys.modules.pop(name, None)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A small recording on disk."""
    path = tmp_path / "recording.zarr"
    write_tree(make_recording(), path)
    return path


def settings(**changes: Any) -> SearchConfig:
    return SearchConfig.model_validate({"trials": 8, "space": SPACE} | changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"space": {}}, "space: found {}"),
        ({"space": {"a": {"choices": []}}}, "space.a.choices: found []"),
        ({"space": {"a": {}}}, "exactly one of choices, uniform, log_uniform, integer"),
        ({"space": {"a": {"uniform": [0, 1], "choices": [1]}}}, "exactly one of"),
        ({"space": {"a": {"choices": [1, 1]}}}, "choices must differ"),
        ({"space": {"a": {"uniform": [1, 0]}}}, "the lowest value must be below the highest"),
        ({"space": {"a": {"uniform": [0, float("inf")]}}}, "the lowest value must be below"),
        ({"space": {"a": {"uniform": ["x", 1]}}}, "space.a.uniform.0: found 'x'"),
        ({"space": {"a": {"log_uniform": [0, 1]}}}, "values of log_uniform must be positive"),
        ({"space": {"a": {"integer": [1, 2.5]}}}, "space.a.integer.1: found 2.5"),
        ({"space": {"a": {"normal": [0, 1]}}}, "space.a.normal: found [0, 1]"),
        ({"space": {"a": 3}}, "space.a: found 3"),
        ({"trials": 0}, "trials: found 0"),
        ({"trials": 4, "space": {"a": {"integer": [1, 3]}}}, "4 trials of a space of 3"),
        ({"strategy": "grid"}, "strategy: found 'grid'"),
        ({"strategy": "halving"}, "halving needs a budget"),
        ({"budget": {"least": 1, "most": 9}}, "random search has no budget"),
        (
            {"strategy": "halving", "budget": {"least": 9, "most": 9}},
            "least must be below most",
        ),
        (
            {"strategy": "halving", "budget": {"parameter": "scale", "least": 1, "most": 9}},
            "'scale' is the budget and cannot be searched",
        ),
    ],
)
def test_a_wrong_search_is_named_by_its_key(change: dict[str, Any], said: str) -> None:
    content = {"models": {}, "search": {"toy": {"trials": 2, "space": SPACE} | change}}
    with pytest.raises(InputError) as caught:
        parse_config(content, "c.yaml")
    assert said in str(caught.value)
    assert "c.yaml: search.toy" in str(caught.value)


@pytest.fixture
def content(tmp_path: Path, toy: None) -> dict[str, Any]:  # noqa: ARG001
    """Two sessions of spikes, with and without held-out units, and one of a field."""
    hidden = SPIKES | {"name": "hidden", "spikes": {"held_out": 0.2}}
    for layout in (SPIKES, hidden, FIELD):
        (tmp_path / f"{layout['name']}.yaml").write_text(yaml.safe_dump(layout))
    (tmp_path / "a.nwb").write_bytes(b"\0" * 100)
    rows = ("a\ta.nwb\thidden\t\t", "b\ta.nwb\tspiking\t\t", "c\ta.nwb\tlfp\t\t")
    write_sessions(tmp_path, *rows)
    return {
        "results": str(tmp_path / "r"),
        "data_root": str(tmp_path),
        "sessions": str(tmp_path / "sessions.tsv"),
        "layouts": str(tmp_path),
        "models": {"toy": {}, "langevinflow": {}, "oscillators": {}},
        "search": {"toy": {"sessions": ["a"], "trials": 6, "space": SPACE}},
    }


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"tyo": {"space": SPACE}}, "search.tyo: found 'tyo'.*mean 'toy'"),
        (
            {"toy": {"sessions": ["a"], "space": {"scael": {"choices": [1]}}, "trials": 1}},
            "search.toy.space.scael: found a parameter that 'toy' does not have.*mean 'scale'",
        ),
        (
            {
                "toy": {
                    "sessions": ["a"],
                    "space": SPACE,
                    "strategy": "halving",
                    "budget": {"parameter": "epochs", "least": 1, "most": 9},
                }
            },
            "search.toy.space.epochs: found a parameter",
        ),
        ({"toy": {"sessions": ["z"], "space": SPACE}}, "search.toy.sessions: found 'z'"),
        ({"toy": {"sessions": ["c"], "space": SPACE}}, r"found 'c', expected some of \['a', 'b'\]"),
        ({"oscillators": {"space": {"per_peak": {"integer": [1, 99]}}}}, "a model of the field"),
        ({"toy": {"space": SPACE}}, "session 'b' without held-out units, and a model without"),
        (
            {"langevinflow": {"space": {"hidden_share": {"uniform": [0.1, 0.5]}}}},
            "search.langevinflow.space.hidden_share: found a search by validation loss",
        ),
    ],
)
def test_a_search_that_cannot_be_had_is_told(
    content: dict[str, Any], search: dict[str, Any], said: str
) -> None:
    with pytest.raises(DriftwaveError, match=said):
        checked_plan(content | {"search": search}, "c.yaml")


class Choosy(BaseModel):
    """Refuses some values, and some combinations."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    width: int = Field(4, ge=2, multiple_of=2)
    kind: str = Field("a", pattern="^[abc]$")
    rate: float = Field(0.1, gt=0)

    @model_validator(mode="after")
    def _together(self) -> Choosy:
        if self.kind == "b" and self.width > 4:
            raise ValueError("b is narrow")
        return self


def parts(**space: Any) -> dict[str, ParameterSpace]:
    return {name: ParameterSpace.model_validate(part) for name, part in space.items()}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"width": {"choices": [2, 3]}}, "search.space.width: found 3"),
        ({"width": {"choices": ["wide"]}}, "search.space.width: found 'wide'"),
        ({"rate": {"uniform": [-1, 1]}}, "search.space.rate: found -1"),
        ({"kind": {"choices": ["a", "d"]}}, "search.space.kind: found 'd'"),
        ({"depth": {"integer": [1, 2]}}, "search.space.depth: found 1"),
    ],
)
def test_a_value_the_model_refuses_is_told(space: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        draw_trials(parts(**space), 1, 0, model=Choosy, base={})


def test_draws_stay_in_their_ranges_and_fill_them() -> None:
    space = parts(
        a={"uniform": [-1, 3]},
        b={"log_uniform": [1e-4, 1]},
        c={"integer": [2, 4]},
        d={"choices": ["x", None, 1.5]},
    )

    class Any4(BaseModel):
        a: Any
        b: Any
        c: Any
        d: Any

    drawn = pd.DataFrame(
        [t["params"] for t in draw_trials(space, 600, 3, model=Any4, base={})], dtype=object
    )
    a, b = drawn["a"].astype(float), np.log10(drawn["b"].astype(float))
    # Mean and sd of the uniform law within 4 standard errors.
    assert a.between(-1, 3).all()
    assert b.between(-4, 0).all()
    assert a.mean() == pytest.approx(1.0, abs=4 * 4 / math.sqrt(12 * 600))
    assert b.mean() == pytest.approx(-2.0, abs=4 * 4 / math.sqrt(12 * 600))
    assert b.std() == pytest.approx(4 / math.sqrt(12), rel=0.1)
    counts = drawn["c"].value_counts()
    assert set(counts.index) == {2, 3, 4}
    assert counts.between(140, 260).all()
    assert set(map(repr, drawn["d"])) == {"'x'", "None", "1.5"}


def test_draws_follow_from_the_seed_and_not_from_their_number() -> None:
    space = parts(rate={"log_uniform": [1e-3, 1]}, kind={"choices": ["a", "c"]})
    few = draw_trials(space, 5, 0, model=Choosy, base={})
    assert draw_trials(dict(reversed(space.items())), 9, 0, model=Choosy, base={})[:5] == few
    assert draw_trials(space, 5, 1, model=Choosy, base={}) != few
    assert [trial["trial"] for trial in few] == list(range(5))


def test_combinations_the_model_refuses_are_drawn_again_and_none_twice() -> None:
    space = parts(width={"choices": [2, 4, 6]}, kind={"choices": ["a", "b"]})
    drawn = [t["params"] for t in draw_trials(space, 5, 0, model=Choosy, base={"rate": 1})]
    every = {(w, k) for w in (2, 4, 6) for k in "ab"} - {(6, "b")}
    assert {(p["width"], p["kind"]) for p in drawn} == every
    with pytest.raises(InputError, match=r"5 different combinations.*expected 6"):
        draw_trials(space, 6, 0, model=Choosy, base={})


def halving(trials: int, eta: int, least: int, most: int) -> list[tuple[int, int | None]]:
    budget = {"least": least, "most": most}
    found = settings(strategy="halving", trials=trials, eta=eta, budget=budget)
    return [(rung.places, rung.budget) for rung in rungs(found)]


def test_rungs_are_those_of_the_papers() -> None:
    # Li et al. 2018 (Hyperband), table 1, s = 4: R = 81, eta = 3.
    assert halving(81, 3, 1, 81) == [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]
    # Li et al. 2020 (ASHA), figure 1: n = 9, r = 1, R = 9, eta = 3.
    assert halving(9, 3, 1, 9) == [(9, 1), (3, 3), (1, 9)]


def test_rungs_end_where_budget_or_trials_run_out() -> None:
    assert halving(100, 3, 300, 900) == [(100, 300), (33, 900)]
    assert halving(4, 2, 1, 1000) == [(4, 250), (2, 500), (1, 1000)]
    assert halving(2, 3, 1, 1000) == [(2, 1000)]
    assert halving(8, 2, 100, 450) == [(8, 113), (4, 225), (2, 450)]
    assert halving(10**6, 10, 1, 10**6)[-1] == (1, 10**6)  # no rounding of logarithms
    assert rungs(settings(trials=7)) == [Rung(7, None)]


def test_restarting_costs_at_most_half_as_much_again_as_going_on() -> None:
    """Of a survivor, with eta = 3: the sum of its budgets against the last one."""
    budgets = [budget or 0 for _, budget in halving(81, 3, 12, 972)]
    assert sum(budgets) / budgets[-1] < 1.5


def test_ranking_puts_failures_last_and_knows_which_way_is_up() -> None:
    def result(trial: int, score: float | None, metric: str = "valid_co_bps") -> dict[str, Any]:
        return {"trial": trial, "score": score, "metric": metric}

    bits = [result(0, 0.1), result(1, None), result(2, 0.3), result(3, 0.1), result(4, -2.0)]
    assert [r["trial"] for r in ranked(bits)] == [2, 0, 3, 4, 1]
    losses = [result(0, 0.3, "valid_loss"), result(1, 0.2, "valid_loss")]
    assert [r["trial"] for r in ranked(losses)] == [1, 0]


def entry(trial: int = 0, **params: Any) -> dict[str, Any]:
    return {"trial": trial, "params": params}


def test_validation_score_is_co_bps_of_the_validation_trials() -> None:
    recording = make_recording(trials=60, forward=5, held_out=3)
    rng = np.random.default_rng(0)
    counts = recording["spikes/counts"]
    rate = counts.copy(data=rng.gamma(2.0, 10.0, counts.shape)).astype(float)
    found = validation_score(recording, rate.to_dataset(name="rate"))
    valid = recording["trials/split"].values == "valid"
    expected = bits_per_spike(
        rate.values[valid][:, :25, -3:] * 0.02, counts.values[valid][:, :25, -3:]
    )
    assert found.metric == "valid_co_bps"
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.low is not None
    assert found.low < expected < (found.high or 0)


def test_bins_that_no_score_is_about_do_not_choose_either() -> None:
    recording = make_recording()
    late = recording["spikes/trial_start"].values + 10 * 0.02
    recording["trials"] = recording["trials"].to_dataset().assign(go=("trial", late))
    recording.attrs["layout_settings"] = json.dumps({"scores": {"start": "go"}})
    counts = recording["spikes/counts"]
    rate = counts.copy(data=np.random.default_rng(0).gamma(2.0, 10.0, counts.shape)).astype(float)
    found = validation_score(recording, rate.to_dataset(name="rate"))
    at = np.ix_(recording["trials/split"].values == "valid", range(10, 25), range(9, 12))
    expected = bits_per_spike(rate.values[at] * 0.02, counts.values[at])
    assert found.value == pytest.approx(expected, rel=1e-12)


def test_without_held_out_units_the_fits_own_validation_loss_counts() -> None:
    recording = make_recording(held_out=0)
    rate = (recording["spikes/counts"] * 0.0 + 1).to_dataset(name="rate")
    rate["valid_loss"] = ("epoch", [0.5, 0.25, np.nan, 0.375])
    found = validation_score(recording, rate)
    assert (found.metric, found.value, found.low) == ("valid_loss", 0.25, None)
    with pytest.raises(InputError, match="no held-out unit, and a fit without a validation loss"):
        validation_score(recording, rate.drop_vars("valid_loss"))


def test_held_out_units_without_a_spike_cannot_choose() -> None:
    recording = make_recording()
    recording["spikes/counts"][:] = 0
    rate = (recording["spikes/counts"] * 0.0 + 1).to_dataset(name="rate")
    with pytest.raises(InputError, match="no spike of a held-out unit in the validation trials"):
        validation_score(recording, rate)


def test_a_search_sees_neither_test_trials_nor_truth() -> None:
    recording = make_recording()
    recording["spike_times"] = recording["units"].copy()
    seen = without_test(recording)
    assert set(seen["trials/split"].values) == {"train", "valid"}
    assert set(seen.children) == {"spikes", "units", "behavior", "trials"}
    trained = np.isin(recording["trials/split"].values, ["train", "valid"])
    np.testing.assert_array_equal(seen["spikes/counts"], recording["spikes/counts"].values[trained])
    mean = recording["spikes/counts"].values[trained].mean((0, 1)) / 0.02
    np.testing.assert_allclose(seen["units/rate"], mean)


COSTS = ("cpu_seconds", "wall_seconds", "provenance")


def outcome(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    return {key: value for key, value in result.items() if key not in COSTS}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "params", "changed"),
    [
        (
            "factor_analysis",
            {"factors": [2], "iterations": 30, "folds": 2},
            ("none", "test", "train", "valid"),
        ),
        ("langevinflow", {"latents": 8, "hidden": 8, "steps": 4, "samples": 2}, ("none", "test")),
    ],
)
def test_the_test_trials_change_nothing_and_others_do(
    tmp_path: Path, plugin: str, params: dict[str, Any], changed: tuple[str, ...]
) -> None:
    found = {}
    for name in changed:
        recording = make_recording()
        where = (recording["trials/split"].values == name)[:, None, None]
        other = np.random.default_rng(9).poisson(5.0, recording["spikes/counts"].shape)
        recording["spikes/counts"][:] = np.where(where, other, recording["spikes/counts"].values)
        write_tree(recording, tmp_path / f"{name}.zarr")
        run_trial(tmp_path / f"{name}.zarr", entry(), tmp_path / name, plugin=plugin, params=params)
        found[name] = outcome(tmp_path / name)
    # Not bit for bit: float32 rounding can differ with where arrays lie in memory.
    for key, value in found["none"].items():
        near = pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
        assert found["test"][key] == near, key
    assert found["none"]["why"] == ""
    for name in changed[2:]:  # or the above would prove nothing
        assert found[name]["score"] != found["none"]["score"]


@pytest.mark.usefixtures("toy")
def test_a_trial_keeps_its_fit_and_drops_its_checkpoint(tmp_path: Path, store: Path) -> None:
    result = run_trial(
        store,
        entry(7, scale=1.5),
        tmp_path / "out",
        plugin="toy",
        params={"scale": 9.0},
        budget={"steps": 30},
        checkpoint=tmp_path / "checkpoint",
    )
    assert (tmp_path / "out" / "fit" / "mean.npy").is_file()
    assert not (tmp_path / "checkpoint").exists()
    assert (result["trial"], result["params"], result["budget"]) == (
        7,
        {"scale": 1.5},
        {"steps": 30},
    )
    assert result["cpu_seconds"] >= 0
    assert outcome(tmp_path / "out")["score"] == result["score"]


@pytest.mark.usefixtures("toy")
def test_a_diverging_trial_is_a_result_and_a_fault_is_not(tmp_path: Path, store: Path) -> None:
    told = {"plugin": "toy", "params": {}}
    result = run_trial(store, entry(diverges=True), tmp_path / "a", **told)
    assert (result["score"], result["why"]) == (None, "Training diverged.")
    later = run_trial(store, result, tmp_path / "b", **told)
    assert later["why"] == "It failed in an earlier rung: Training diverged."
    with pytest.raises(ZeroDivisionError):
        run_trial(store, entry(crashes=True), tmp_path / "c", **told)
    assert not (tmp_path / "c").exists()
    good = run_trial(store, entry(1), tmp_path / "d", **told)
    order = rank_results([tmp_path / "a", tmp_path / "d"])
    assert [r["score"] for r in order] == [good["score"], None]
    with pytest.raises(DriftwaveError, match=r"None of the 1 trials.*Training diverged"):
        rank_results([tmp_path / "a"])


def searched(config: dict[str, Any], store: Path, session: str = "a") -> tuple[str, pd.DataFrame]:
    """Run the jobs of the plan one after the other, as the rules would."""
    plan = Plan.read(config)
    model = next(iter(config["search"]))
    search = plan.config.search[model]
    module = registry.load("models", model)
    entries = draw_trials(search.space, search.trials, search.seed, model=module.Params, base={})
    for rung in range(len(search_plan.rungs_of(plan, model))):
        folders = [Path(path) for path in search_plan.results(plan, session, model, rung)]
        budget = search_plan.budget_of(plan, model, rung)
        for place, folder in enumerate(folders):
            run_trial(store, entries[place], folder, plugin=model, params={}, budget=budget)
        entries = list(rank_results(folders))
    results = rung_results(search_plan.all_results(plan, session, model))
    named = {"session": session, "model": model, "plugin": model, "params": {}}
    table = Path(plan.path(session, "table.tsv"))
    table.write_text(table_text(results))
    return best_text(results, **named), pd.read_csv(table, sep="\t")


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"trials": 20},
        {"trials": 27, "strategy": "halving", "budget": {"least": 100, "most": 900}},
    ],
    ids=["random", "halving"],
)
def test_a_planted_optimum_is_found(
    content: dict[str, Any], store: Path, change: dict[str, Any]
) -> None:
    content["search"]["toy"] |= change
    text, table = searched(content, store)
    # The likelihood falls off on both sides of 1, so one neighbour of 1 or the other is the best.
    scales = np.sort(table["params.scale"].unique())
    neighbours = {scales[scales <= 1].max(), scales[scales >= 1].min()}
    best = yaml.safe_load(text)["models"]["toy_best"]
    assert best["params"]["scale"] in neighbours
    assert 0.7 < best["params"]["scale"] < 1.4
    assert len(table) == (20 if "strategy" not in change else 27 + 9 + 3)
    top = table[table["rung"] == table["rung"].max()]["score"].max()
    assert top == pytest.approx(table["score"].max(), abs=1e-3)
    if "strategy" in change:
        assert best["params"]["steps"] == 900
        assert list(table.groupby("rung")["budget"].first()) == [100, 300, 900]
        for rung in (1, 2):  # survivors are the best of the rung before
            before = table[table["rung"] == rung - 1].nlargest((9, 3)[rung - 1], "score")
            assert set(table.loc[table["rung"] == rung, "trial"]) == set(before["trial"])


@pytest.mark.slow
def test_what_is_found_follows_from_the_seed(content: dict[str, Any], store: Path) -> None:
    first, _ = searched(content, store)
    content["results"] += "2"
    again, _ = searched(content, store)
    assert yaml.safe_load(again) == yaml.safe_load(first)
    content["search"]["toy"]["seed"] = 1
    content["results"] += "3"
    other, _ = searched(content, store)
    assert yaml.safe_load(other) != yaml.safe_load(first)


def test_the_best_parameters_can_be_pasted_into_a_configuration(
    content: dict[str, Any], store: Path
) -> None:
    text, _ = searched(content, store)
    assert text.startswith(
        "# Best of 6 trials on session a\n# by validation trials alone: valid_co"
    )
    pasted = content["models"] | yaml.safe_load(text)["models"]
    plan = checked_plan(content | {"models": pasted})
    assert plan.models("a") == ["toy", "langevinflow", "toy_best"]


def test_jobs_of_a_search_are_planned_in_order(content: dict[str, Any]) -> None:
    budget = {"least": 1, "most": 9}
    content["search"]["toy"] |= {"trials": 9, "strategy": "halving", "budget": budget}
    plan = checked_plan(content)
    before = list(plan.all_jobs())
    assert not [job for job in before if "search" in job.stage]
    made = {path for job in before for path in job.outputs}
    jobs = list(search_plan.search_jobs(plan, "a", "toy"))
    assert len(jobs) == 9 + 3 + 1 + 2 + 1
    for job in jobs:
        assert set(job.inputs) <= made, job
        assert not made & set(job.outputs), job
        made.update(job.outputs)
    assert set(search_plan.targets(plan)) <= made
    assert {row.stage for row in summarise(plan)}.isdisjoint({"search-trial"})
    Path(jobs[0].log).parent.mkdir(parents=True)
    Path(jobs[0].log).touch()
    events_path(jobs[0].log).write_text('{"state": "failed", "why": "no memory"}\n')
    states = {row.name: row.state for row in summarise(plan) if row.stage.startswith("search")}
    assert states["toy.0.000"] == "failed"
    assert states["toy.1.002"] == "skipped"
    assert states["toy.0.001"] == "not run"


def test_options_fill_and_replace_the_configuration(
    content: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    found = search_content(path, "b", "toy", {"trials": 3})["search"]
    assert found == {"toy": {"sessions": ["b"], "trials": 3, "space": SPACE}}
    with pytest.raises(InputError, match=r"search\.langevinflow: found no space"):
        search_content(path, "a", "langevinflow", {"trials": 3})


@pytest.mark.parametrize(
    ("session", "model", "changes", "said"),
    [
        ("a", "toy", {"space": {"scale": {"uniform": [-1, 1]}}}, "search.space.scale: found -1"),
        ("x", "toy", {}, "search.toy.sessions: found 'x'"),
        ("a", "tyo", {"space": SPACE}, "search.tyo: found 'tyo'"),
        ("a", "toy", {"trials": -1}, "search.toy.trials: found -1"),
    ],
)
def test_the_command_tells_mistakes_before_anything_is_written(
    content: dict[str, Any],
    tmp_path: Path,
    session: str,
    model: str,
    changes: dict[str, Any],
    said: str,
) -> None:
    path, snakefile = tmp_path / "c.yaml", tmp_path / "Snakefile"
    path.write_text(yaml.safe_dump(content))
    told = {"session": session, "model": model, "changes": changes, "jobs": 1, "profile": None}
    with pytest.raises(InputError, match="Run the search in the folder of the Snakefile"):
        run_search(path, snakefile=snakefile, **told)
    snakefile.write_text("")
    with pytest.raises(DriftwaveError, match=said):
        run_search(path, snakefile=snakefile, **told)
    assert not Path(content["results"]).exists()


def test_a_space_needs_one_kind() -> None:
    with pytest.raises(ValidationError):
        ParameterSpace()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A copy of the workflow with the toy among its models and one small session."""
    made = make_project(tmp_path / "project")
    (made.folder / "src/driftwave/models/toy.py").write_text(TOY)
    search = {
        "trials": 5,
        "eta": 2,
        "strategy": "halving",
        "budget": {"least": 50, "most": 100},
        "space": SPACE,
    }
    config = CONFIG | {"models": {"toy": {"params": {"pause": 1.0}}}, "search": {"toy": search}}
    made.configure(config, "lorenz\tlorenz.nwb\tlorenz\t\tfit")
    return made


def command(*options: str) -> list[str]:
    driftwave = str(Path(sys.executable).with_name("driftwave"))
    told = ["--session", "lorenz", "--model", "toy", "--jobs", "2"]
    return [driftwave, "search", "config/config.yaml", *told, *options]


def environment(project: Project) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(project.folder / "src")}


def run(project: Project, *options: str) -> str:
    answer = subprocess.run(
        command(*options),
        cwd=project.folder,
        env=environment(project),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-5000:]
    return answer.stdout


def done_in(rung: Path) -> dict[Path, str]:
    """Results of a rung, with their times of writing."""
    return {path: path.read_text() for path in rung.glob("[0-9][0-9][0-9]/result.json")}


def kill_after(project: Project, results: int) -> None:
    """Start the search and kill it with all its jobs: so many results are there, two underway."""
    process = subprocess.Popen(
        command(),
        cwd=project.folder,
        env=environment(project),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    found = project.folder / "results/lorenz/search/toy/rung0"
    while len(done_in(found)) < results or not list(found.glob("*.checkpoint/state")):
        assert process.poll() is None, "the search ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(project: Project) -> None:
    folder = project.folder / "results/lorenz/search/toy"
    kill_after(project, results=2)
    done = done_in(folder / "rung0")
    assert 2 <= len(done) < 5
    project.snakemake("--unlock", "--configfile", "results/lorenz/search/toy/config.yaml")
    best = run(project)
    assert done_in(folder / "rung0") | done == done_in(folder / "rung0")
    resumed = {p.parts[-3]: p.read_text() for p in folder.glob("rung0/*/fit/resumed.txt")}
    # Which trials were through when the run was killed depends on the machine.
    assert {resumed[result.parent.name] for result in done} == {"False"}
    assert "True" in resumed.values()
    table = pd.read_csv(folder / "trials.tsv", sep="\t")
    assert list(table.groupby("rung").size()) == [5, 2]
    assert table["why"].isna().all()
    assert (folder / "best.yaml").read_text() in best
    chosen = yaml.safe_load((folder / "best.yaml").read_text())["models"]["toy_best"]["params"]
    last = table[table["rung"] == 1].set_index("score")
    assert chosen["scale"] == last.loc[last.index.max(), "params.scale"]
    assert "Nothing to be done" in run(project)
    # More trials leave the first rung's results as they are.
    plan = run(project, "--trials", "8", "--dry-run")
    assert "rung 0, place 005" in plan
    assert "rung 0, place 007" in plan
    assert "rung 0, place 000" not in plan


@pytest.mark.slow
def test_a_search_is_planned_on_a_cluster_as_it_is(project: Project) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm")
    text = run(project, "--profile", "profiles/slurm", "--dry-run")
    assert "search_trial" in text
    assert "Nothing was run." in text
    plan = project.plan()
    logs = project.snakemake("search", "--dry-run", "--printshellcmds").stdout.split()
    jobs = {job.log for job in search_plan.search_jobs(plan, "lorenz", "toy")}
    assert jobs <= set(logs)
