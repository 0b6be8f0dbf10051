"""Several seeds of one model: their plan, their average and their row in the comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from conftest import make_recording
from driftwave import registry
from driftwave.ensemble import average_rates
from driftwave.errors import DriftwaveError, InputError
from driftwave.preflight import checked_plan
from driftwave.scores.bits_per_spike import bits_per_spike
from driftwave.scores.over_seeds import over_seeds
from driftwave.scores.page import comparison_page
from driftwave.scores.table import COLUMNS, score_model
from driftwave.workflow_plan import Plan
from test_workflow_plan import FIELD, SPIKES, write_sessions
from workflow_project import CONFIG, Project, make_project


def member(rate: np.ndarray, name: str, seed: int, **attrs: Any) -> xr.Dataset:
    """Latents of one fit, in a basis of its own."""
    trials, bins, units = rate.shape
    rng = np.random.default_rng(seed)
    shared = {"session": "synthetic", "plugin": "toy", "params": "{}", "bin_width": 0.02}
    return xr.Dataset(
        {
            "rate": (("trial", "time", "unit"), rate.astype(np.float32), {"units": "Hz"}),
            "latent": (("trial", "time", "latent"), rng.normal(size=(trials, bins, 3))),
        },
        coords={"trial": range(trials), "time": np.arange(bins) * 0.02, "unit": range(units)},
        attrs=shared | {"model": name, "seed": seed, "cpu_seconds": 2.5, "wall_seconds": 1} | attrs,
    )


def members(count: int = 3, shape: tuple[int, int, int] = (4, 5, 6)) -> list[xr.Dataset]:
    rng = np.random.default_rng(1)
    return [member(rng.gamma(2.0, 5.0, shape), f"toy-s{k + 1}", k) for k in range(count)]


def test_an_ensemble_is_the_arithmetic_mean_of_rates_and_has_no_latents() -> None:
    fits = members()
    found = average_rates(fits, "toy-ensemble")
    expected = (fits[0]["rate"] + fits[1]["rate"] + fits[2]["rate"]) / 3
    np.testing.assert_allclose(found["rate"], expected, rtol=1e-6)
    assert found["rate"].dims == ("trial", "time", "unit")
    assert found["rate"].attrs["units"] == "Hz"
    assert set(found.data_vars) == {"rate"}
    assert found.attrs["model"] == "toy-ensemble"
    assert found.attrs["cpu_seconds"] == 7.5
    assert json.loads(found.attrs["members"]) == ["toy-s1", "toy-s2", "toy-s3"]
    assert json.loads(found.attrs["seeds"]) == [0, 1, 2]


def test_an_ensemble_never_scores_below_the_mean_of_its_members() -> None:
    """The log is concave, so averaging rates cannot cost bits (Jensen's inequality)."""
    counts = np.random.default_rng(0).poisson(0.3, (8, 20, 5))
    fits = members(4, counts.shape)
    scores = [bits_per_spike(fit["rate"].values * 0.02, counts) for fit in fits]
    average = average_rates(fits, "e")["rate"].values * 0.02
    assert bits_per_spike(average, counts) > np.mean(scores) + 0.01


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda fit: fit.drop_vars("rate"), "rate of toy-s2: found nothing"),
        (lambda fit: fit.assign_attrs(session="other"), "session of toy-s2: found other"),
        (lambda fit: fit.assign_attrs(params='{"a": 1}'), "params of toy-s2"),
        (lambda fit: fit.assign_coords(unit=fit["unit"] + 1), "unit of toy-s2"),
        (lambda fit: fit.isel(trial=slice(2)), "trial of toy-s2: found 2 labels"),
    ],
)
def test_members_must_differ_in_their_seed_only(change: Any, said: str) -> None:
    first, second = members(2)
    with pytest.raises(InputError, match=said.replace("{", r"\{")):
        average_rates([first, change(second)], "e")


def test_one_member_is_no_ensemble() -> None:
    with pytest.raises(InputError, match="members: found 1, expected at least 2"):
        average_rates(members(1), "e")


@pytest.mark.parametrize(("kind", "name"), [("decoding", "ridge"), ("manifolds", "pca")])
def test_analyses_take_an_ensemble_by_its_rates(kind: str, name: str) -> None:
    recording = make_recording()
    truth = recording["truth/rate"].values
    noise = np.random.default_rng(0).normal(0, 0.1, (2, *truth.shape))
    fits = [member(truth * np.exp(noise[k]), f"toy-s{k + 1}", k) for k in range(2)]
    ensemble = average_rates(fits, "toy-ensemble")
    module = registry.load(kind, name)
    fewest = {"decoding": {"shuffles": 1, "classifier_shuffles": 1}, "manifolds": {"shuffles": 100}}
    result = module.analyse(recording, ensemble, module.Params(**fewest[kind]), seed=0)
    assert list(result["features_from"].values.astype(str)) == ["rates"]
    if kind == "decoding":
        assert float(result["r2_test"].min()) > 0.5
    assert "co_bps" in set(score_model(recording, ensemble, 0, resamples=10)["metric"])


def scores(**values: float) -> pd.DataFrame:
    """A table of one metric: model=value; interval and ceiling follow from the value."""
    rows = []
    for model, value in values.items():
        row = dict.fromkeys(COLUMNS, "") | {"metric": "co_bps", "unit": "bits/spike", "note": "n"}
        row |= {"session": "a", "model": model.replace("_", "-"), "value": value, "split": "test"}
        row |= {"ci_low": value - 0.1, "ci_high": value + 0.2, "null": 0.0, "ceiling": 1.0}
        rows.append(row | {"null_shuffled": value - 1})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_seeds_become_their_median_with_the_range_over_them() -> None:
    table = scores(other=0.9, m_s1=0.3, m_s2=0.1, m_s3=0.25, m_ensemble=0.35)
    found = over_seeds(table, {"m": ["m-s1", "m-s2", "m-s3"]}).set_index("model")
    assert list(found.index) == ["other", "m", "m-ensemble"]
    row = found.loc["m"]
    numbers = row[["value", "seed_low", "seed_high", "ci_low", "ci_high", "null_shuffled"]]
    np.testing.assert_allclose(numbers.astype(float), [0.25, 0.1, 0.3, 0.15, 0.45, -0.75])
    assert row["seeds"] == 3
    assert row["note"] == "median of 3 seeds; n"
    assert found.loc[["other", "m-ensemble"], "seeds"].isna().all()


def test_an_even_number_of_seeds_has_the_mean_of_the_two_in_the_middle() -> None:
    table = scores(m_s1=0.9, m_s2=0.1, m_s3=0.2, m_s4=0.4)
    row = over_seeds(table, {"m": ["m-s1", "m-s2", "m-s3", "m-s4"]}).iloc[0]
    numbers = row[["value", "ci_low", "seed_low", "seed_high"]].astype(float)
    np.testing.assert_allclose(numbers, [0.3, 0.2, 0.1, 0.9])


def test_without_seeds_the_table_is_the_same() -> None:
    table = scores(a=0.1, b=0.2)
    pd.testing.assert_frame_equal(over_seeds(table, {}), table)
    assert "seeds" not in comparison_page(table)


def test_a_seed_without_a_score_is_told() -> None:
    with pytest.raises(InputError, match=r"no score of \['m-s2'\]"):
        over_seeds(scores(m_s1=0.1), {"m": ["m-s1", "m-s2"]})


def test_the_page_shows_the_range_over_seeds() -> None:
    table = over_seeds(scores(m_s1=0.3, m_s2=0.1, m_s3=0.25), {"m": ["m-s1", "m-s2", "m-s3"]})
    page = comparison_page(table)
    assert "0.150 to 0.450<br>3 seeds: 0.100 to 0.300" in page
    assert "median over them" in page


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """One session of spikes, one of a field."""
    for layout in (SPIKES, FIELD):
        (tmp_path / f"{layout['name']}.yaml").write_text(yaml.safe_dump(layout))
    for name in ("a.nwb", "b.nwb"):
        (tmp_path / name).write_bytes(b"\0" * 100)
    write_sessions(tmp_path, "a\ta.nwb\tspiking\t\t", "b\tb.nwb\tlfp\t\t")
    return {
        "results": "r",
        "data_root": str(tmp_path),
        "sessions": str(tmp_path / "sessions.tsv"),
        "layouts": str(tmp_path),
        "models": {"smoothing": {}, "fa": {"plugin": "factor_analysis"}, "oscillators": {}},
    }


def names(plan: Plan, session: str, stage: str) -> list[str]:
    return [job.name for job in plan.jobs(session) if job.stage == stage]


def test_one_seed_changes_nothing(content: dict[str, Any]) -> None:
    models = {name: {**entry, "seeds": 1} for name, entry in content["models"].items()}
    ones = Plan.read(content | {"seeds": 1, "models": models})
    assert list(ones.all_jobs()) == list(Plan.read(content).all_jobs())
    assert ones.seeds("a") == {}
    assert not [job for job in ones.all_jobs() if "-" in job.name]


def test_seeds_are_fits_of_their_own_with_an_ensemble(content: dict[str, Any]) -> None:
    content["models"]["fa"] |= {"seeds": 2, "params": {"folds": 2}}
    plan = checked_plan(content | {"seed": 5})
    every = ["smoothing", "fa-s1", "fa-s2"]
    assert names(plan, "a", "fit") == every
    assert names(plan, "a", "ensemble") == ["fa-ensemble"]
    assert names(plan, "a", "score") == [*every, "fa-ensemble"]
    assert names(plan, "a", "decode") == ["recording", *every, "fa-ensemble"]
    assert names(plan, "a", "manifold") == ["recording", "smoothing", "fa-s1", "fa-ensemble"]
    assert [plan.members[name].seed for name in every] == [5, 5, 6]
    assert plan.plugin_of("fa-s2") == "factor_analysis"
    assert plan.params_of("fa-s2") == {"folds": 2}
    assert plan.seeds("a") == {"fa": ["fa-s1", "fa-s2"]}
    made = {plan.nwb(session) for session in plan.sessions}
    for job in plan.all_jobs():
        assert set(job.inputs) <= made, job
        assert not made & set(job.outputs), job
        made.update(job.outputs)
    assert "r/a/models/fa-s2/latents.zarr" in made
    assert set(plan.figures("a", "rates")["rates"]) == {"smoothing", "fa-ensemble"}
    assert set(plan.figures("a", "scores")["scores"]) == {*every, "fa-ensemble"}
    assert set(plan.figures("a", "decoding")["decoding"]) == {
        "recording",
        "smoothing",
        "fa-s1",
        "fa-ensemble",
    }


def test_seeds_of_all_models_and_models_without_an_ensemble(content: dict[str, Any]) -> None:
    content["models"]["smoothing"] = {"seeds": 1}
    content["models"]["fa"]["ensemble"] = False
    plan = checked_plan(content | {"seeds": 2})
    assert names(plan, "a", "fit") == ["smoothing", "fa-s1", "fa-s2"]
    assert names(plan, "b", "fit") == ["oscillators-s1", "oscillators-s2"]
    assert plan.ensembles == {}  # a model of the field has no rates
    assert names(plan, "b", "waves") == ["recording", "oscillators-s1"]


def test_training_curves_are_of_every_seed(content: dict[str, Any]) -> None:
    content["models"] = {"langevinflow": {"seeds": 2}}
    drawn = Plan.read(content).figures("a", "training")["training"]
    assert set(drawn) == {"langevinflow-s1", "langevinflow-s2"}


@pytest.mark.parametrize("taken", ["fa-s2", "fa-ensemble"])
@pytest.mark.parametrize("first", [True, False])
def test_a_name_that_a_seed_needs_is_told(content: dict[str, Any], taken: str, first: bool) -> None:
    entries = [("fa", {"plugin": "factor_analysis", "seeds": 2}), (taken, {"plugin": "smoothing"})]
    content["models"] = dict(entries if first else entries[::-1])
    with pytest.raises(DriftwaveError, match=rf"models\.{taken}: found a model named"):
        checked_plan(content)


@pytest.mark.parametrize("seeds", [0, "three", 1.5])
def test_seeds_are_a_positive_whole_number(content: dict[str, Any], seeds: Any) -> None:
    content["models"]["fa"]["seeds"] = seeds
    with pytest.raises(InputError, match=r"models\.fa\.seeds: found"):
        Plan.read(content)


@pytest.mark.slow
def test_a_run_with_seeds_ends_in_one_table(tmp_path: Path) -> None:
    project: Project = make_project(tmp_path / "project")
    models = {"smoothing": {"params": {"draws": 1, "widths": [0.05]}, "seeds": 2}}
    project.configure(CONFIG | {"models": models}, "lorenz\tlorenz.nwb\tlorenz\t\tfit")
    logs = project.snakemake("--dry-run", "--printshellcmds").stdout
    assert {job.log for job in project.plan().all_jobs()} == {
        word for word in logs.split() if word.endswith(".log")
    }
    project.snakemake("results/lorenz/comparison.tsv")
    table = pd.read_csv(project.folder / "results/lorenz/comparison.tsv", sep="\t")
    table = table[table["metric"] == "co_bps"].set_index("model")
    assert list(table.index) == ["smoothing", "smoothing-ensemble"]
    assert table.loc["smoothing", "seeds"] == 2
    own = [
        pd.read_csv(project.folder / f"results/lorenz/scores/smoothing-s{k}.tsv", sep="\t")
        for k in (1, 2)
    ]
    values = [float(t.loc[t["metric"] == "co_bps", "value"].iloc[0]) for t in own]
    assert table.loc["smoothing", "value"] == pytest.approx(np.median(values), rel=1e-5)
    assert table.loc["smoothing-ensemble", "value"] >= np.mean(values) - 1e-6
