"""Scores of models of the field: known values, nulls, ceilings, and their place in the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner

from driftwave.cli import cli
from driftwave.errors import InputError
from driftwave.scores.field import field_rows, in_band, read_stretch
from driftwave.scores.table import COLUMNS, compare_models, score_model, write_table
from driftwave.store import write_tree

RATE, SAMPLES, ELECTRODES = 100.0, 4000, 6


def oscillation(seed: int = 0) -> np.ndarray:
    """A noisy 10-Hz oscillation on every electrode, (time, electrode), of variance about 1."""
    rng = np.random.default_rng(seed)
    pole = 0.95 * np.exp(2j * np.pi * 10 / RATE)
    noise = rng.normal(size=(SAMPLES, ELECTRODES, 2)) @ [1, 1j] * np.sqrt(1 - 0.95**2)
    state = np.zeros((SAMPLES, ELECTRODES), complex)
    for t in range(1, SAMPLES):
        state[t] = pole * state[t - 1] + noise[t]
    return state.real


def latents(recorded: np.ndarray, filled: np.ndarray, forecast: np.ndarray) -> xr.Dataset:
    """Predictions 1 and 10 samples ahead, as a model of the field gives them."""
    maps, microvolt = ("test_time", "electrode"), {"units": "microvolt"}
    return xr.Dataset(
        {
            "field_recorded": (maps, recorded, microvolt),
            "field_filled": (maps, filled, microvolt),
            "field_forecast": (("horizon", *maps), forecast, microvolt),
            "test_rate": ((), RATE, {"units": "Hz"}),
        },
        coords={
            "test_time": ("test_time", 50 + np.arange(len(recorded)) / RATE, {"units": "s"}),
            "horizon": ("horizon", [0.01, 0.1], {"units": "s"}),
            "electrode": np.arange(recorded.shape[1]),
        },
        attrs={"session": "s", "model": "m", "cpu_seconds": 2.0},
    )


def recording(truth: np.ndarray | None = None) -> xr.DataTree:
    groups = {"/": xr.Dataset(attrs={"session": "s"})}
    if truth is not None:
        time = 50 + np.arange(len(truth)) / RATE
        groups["truth"] = xr.Dataset(
            {"field": (("field_time", "electrode"), truth)}, coords={"field_time": time}
        )
    return xr.DataTree.from_dict(groups)


def noisy() -> tuple[xr.Dataset, np.ndarray]:
    """Predictions that are the oscillation itself, of a recording with noise of variance 0.25."""
    truth = oscillation()
    recorded = truth + np.random.default_rng(1).normal(0, 0.5, truth.shape)
    forecast = np.stack([truth, truth])
    forecast[0, :1] = forecast[1, :10] = np.nan
    return latents(recorded, truth, forecast), truth


def table(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows).set_index("metric")


def test_r2_is_that_of_each_electrode() -> None:
    dataset, truth = noisy()
    rows = table(field_rows(recording(), dataset, 0))
    recorded = dataset["field_recorded"].values
    each = 1 - ((recorded - truth) ** 2).sum(0) / ((recorded - recorded.mean(0)) ** 2).sum(0)
    assert rows.loc["held_out_electrode_r2", "value"] == pytest.approx(each.mean(), abs=1e-9)
    median = rows.loc["held_out_electrode_r2_median", "value"]
    assert median == pytest.approx(np.median(each), abs=1e-9)
    assert list(rows.index[4:]) == ["forecast_r2 10 ms", "forecast_r2 100 ms"]
    assert (rows["ci_low"] < rows["value"]).all()
    assert (rows["value"] < rows["ci_high"]).all()
    # In the band there is less noise and as much signal.
    assert rows.loc["held_out_electrode_r2_band", "value"] > rows["value"].iloc[0] + 0.02


def test_interval_covers_the_score_of_other_stretches() -> None:
    """The expected R2 is 1 / 1.25 = 0.8 for variances 1 and 0.25."""
    rows = table(field_rows(recording(), noisy()[0], 0))
    low, high = rows.loc["held_out_electrode_r2", ["ci_low", "ci_high"]]
    assert low < 0.8 < high
    assert high - low < 0.05


def test_nulls_are_persistence_and_other_times() -> None:
    dataset, _ = noisy()
    rows = table(field_rows(recording(), dataset, 0))
    assert rows.loc["held_out_electrode_r2", "null"] == 0
    recorded = dataset["field_recorded"].values[10:3810]
    before = dataset["field_recorded"].values[9:3809]
    errors = ((recorded - before) ** 2).sum(0)
    each = 1 - errors / ((recorded - recorded.mean(0)) ** 2).sum(0)
    assert rows.loc["forecast_r2 10 ms", "null"] == pytest.approx(each.mean(), abs=0.03)
    # An oscillation dealt to other times is worse than the mean: 1 - (1 + 1.25) / 1.25.
    shuffled = rows.loc["held_out_electrode_r2", "null_shuffled"]
    assert shuffled == pytest.approx(-0.8, abs=0.1)


def test_the_field_without_noise_is_the_ceiling() -> None:
    dataset, truth = noisy()
    worse = dataset.assign(field_filled=0.5 * dataset["field_filled"])
    rows = table(field_rows(recording(truth), worse, 0))
    first = rows.loc["held_out_electrode_r2"]
    assert first["value"] < first["ceiling"] - 0.1
    assert first["ceiling"] == pytest.approx(0.8, abs=0.03)
    assert np.isnan(table(field_rows(recording(), worse, 0))["ceiling"]).all()


def test_missing_and_bad_electrodes_are_left_out() -> None:
    dataset, _ = noisy()
    expected = table(field_rows(recording(), dataset, 0))["value"]
    broken = dataset.copy(deep=True)
    broken["field_recorded"].values[:, 2] = np.nan
    broken["field_filled"].values[:, 2] = np.nan
    broken["field_forecast"].values[..., 2] = np.nan
    found = table(field_rows(recording(), broken, 0))["value"]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=0.02)
    # A stretch that was not recorded is not scored, however it is predicted.
    gappy = dataset.copy(deep=True)
    gappy["field_recorded"].values[1000:1200, 0] = np.nan
    gappy["field_filled"].values[1000:1200, 0] = 1000.0
    value = table(field_rows(recording(), gappy, 0)).loc["held_out_electrode_r2", "value"]
    assert value == pytest.approx(expected.iloc[0], abs=0.01)


def test_band_pass_has_zero_phase() -> None:
    time = np.arange(1000) / RATE
    slow, fast = np.sin(2 * np.pi * 0.3 * time), np.sin(2 * np.pi * 10 * time)
    both = np.repeat((5 * slow + fast)[:, None], 2, 1)
    stretch = read_stretch(recording(), latents(both, both, np.stack([both, both])))
    found = in_band(stretch, (3.0, 45.0)).filled[200:-200, 0]
    np.testing.assert_allclose(found, fast[200:-200], atol=0.02)


def test_scores_are_reproducible() -> None:
    dataset, _ = noisy()
    first, again = (score_model(recording(), dataset, 5) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    other = score_model(recording(), dataset, 6)
    assert (other["ci_low"].dropna() != first["ci_low"].dropna()).any()
    np.testing.assert_array_equal(other["value"], first["value"])


def test_field_scores_are_rows_of_the_table(tmp_path: Path) -> None:
    dataset, _ = noisy()
    first = score_model(recording(), dataset, 0)
    assert list(first.columns) == list(COLUMNS)
    assert list(first["metric"])[-1] == "cpu_seconds"
    second = score_model(recording(), dataset.assign_attrs(model="other"), 0)
    for name, rows in (("m", first), ("other", second)):
        write_table(rows, tmp_path / f"{name}.tsv")
    both = compare_models([tmp_path / "m.tsv", tmp_path / "other.tsv"], {})
    assert set(both["model"]) == {"m", "other"}
    write_table(both, tmp_path / "comparison.tsv", html=True)
    assert "held_out_electrode_r2_band" in (tmp_path / "comparison.html").read_text()


def test_score_takes_a_model_of_the_field(tmp_path: Path) -> None:
    from conftest import make_field_recording
    from driftwave.models import field_factor_analysis as module

    tree = make_field_recording(seconds=10.0)
    params = module.Params(**module.QUICK)
    found = module.fit(tree, params, seed=0, device="cpu", progress=None, checkpoint=None)
    dataset = found.infer(tree).assign_attrs(model="fa", session="synthetic_field")
    write_tree(tree, tmp_path / "recording.zarr")
    write_tree(dataset, tmp_path / "latents.zarr")
    names = ["recording.zarr", "latents.zarr", "--out", "scores.tsv"]
    arguments = [n if n.startswith("--") else str(tmp_path / n) for n in names]
    answer = CliRunner().invoke(cli, ["score", *arguments], catch_exceptions=False)
    assert answer.exit_code == 0
    written = pd.read_csv(tmp_path / "scores.tsv", sep="\t").set_index("metric")
    assert written.loc["held_out_electrode_r2", "value"] > 0.5
    assert written.loc["forecast_r2 4 ms", "unit"] == "R2"


def test_what_cannot_be_scored_is_refused() -> None:
    dataset, _ = noisy()
    with pytest.raises(InputError, match="expected s"):
        field_rows(recording(), dataset.assign_attrs(session="other"), 0)
    with pytest.raises(InputError, match="no field_forecast"):
        field_rows(recording(), dataset.drop_vars("field_forecast"), 0)
    broken = dataset.copy(deep=True)
    broken["field_filled"].values[5, 1] = np.inf
    with pytest.raises(InputError, match="1 NaN or infinite values"):
        field_rows(recording(), broken, 0)


@pytest.mark.recording
def test_electrodes_of_a_seizure_are_known_from_their_neighbours(recordings: Path) -> None:
    """10 s of a seizure: 1.5 s of test, in which the array moves almost as one."""
    from conftest import ROOT
    from driftwave.config import load_layout
    from driftwave.ingest.nwb import open_nwb, read_recording
    from driftwave.models import field_factor_analysis as module

    layout = load_layout("utah_seizure", ROOT / "config" / "layouts")
    with open_nwb(recordings / "utah_seizure.nwb") as file:
        tree = read_recording(file, layout, session="seizure").load()
    params = module.Params(factors=(16,))
    found = module.fit(tree, params, seed=0, device="cpu", progress=None, checkpoint=None)
    rows = table(field_rows(tree, found.infer(tree), 0, resamples=100))
    assert rows.loc["held_out_electrode_r2", "value"] > 0.95
    assert rows.loc["forecast_r2 4 ms", "value"] > rows.loc["forecast_r2 4 ms", "null"]
