"""Figures of training, rates, latents, potentials, waves on a lattice, forecasts and checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from matplotlib.figure import Figure

from conftest import ROOT, make_recording
from driftwave.errors import InputError
from driftwave.figures import (
    forecast,
    lattice,
    potential,
    predictive,
    rates,
    training,
)
from driftwave.figures import latents as latent_figure
from driftwave.inference.langevin_modes import describe
from driftwave.inference.langevin_networks import Driftwave
from driftwave.inference.spike_network import Sizes
from driftwave.latent_waves.lattice import analyse_lattice
from driftwave.workflow_plan import Plan
from network_cases import SMALL_DRIFTWAVE


def latents(recording: xr.DataTree, scale: float) -> xr.Dataset:
    """Rates at ``scale`` times the truth, with training curves whose third epoch is best."""
    dataset = xr.Dataset({"rate": scale * recording["truth"].to_dataset()["rate"]})
    dataset["train_loss"] = ("epoch", np.array([3.0, 2.0, 1.5, 1.2]))
    dataset["valid_loss"] = ("epoch", np.array([3.1, 2.2, 1.9, 2.4]), {"units": "nats"})
    return dataset.assign_coords(epoch=np.arange(1, 5))


@pytest.fixture
def drawn():
    yield
    plt.close("all")


@pytest.mark.usefixtures("drawn")
def test_training_marks_the_best_epoch():
    recording = make_recording(trials=20)
    figure = training.draw(
        None, {"one": latents(recording, 1), "untrained": recording["truth"].to_dataset()}
    )
    (axis,) = [a for a in figure.axes if a.axison]
    assert axis.get_title() == "one"
    assert axis.get_ylabel() == "loss (nats)"
    assert [t.get_text() for t in axis.texts] == ["best epoch 3\nvalidation 1.9"]
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    np.testing.assert_array_equal(lines["validation"], [3.1, 2.2, 1.9, 2.4])


def test_training_needs_curves():
    with pytest.raises(InputError, match="without training curves"):
        training.draw(None, {"smoothing": xr.Dataset()})


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("known", [True, False])
def test_rates_show_truth_or_smoothed_spikes(known: bool):
    recording = make_recording(trials=40)
    results = {"one": latents(recording, 1.0), "two": latents(recording, 0.5)}
    if not known:
        del recording["truth"]
    figure = rates.draw(recording, results)
    assert len(figure.axes) == 16
    first = figure.axes[4]
    reference, one, two = [line.get_ydata() for line in first.lines]
    np.testing.assert_allclose(two, one / 2, rtol=1e-6)
    assert np.allclose(reference, one) == known
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert [t.endswith("(held out)") for t in titles] == [False, False, False, True]
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels[0] == ("true rate" if known else "smoothed spikes (sd 40 ms)")
    assert labels[1:3] == ["one", "two"]
    assert labels[-1] == "forward bins (hidden)"


@pytest.mark.usefixtures("drawn")
def test_rates_with_one_test_trial_and_no_forward_bins():
    recording = make_recording(trials=9, forward=0, held_out=0, units=2)
    figure = rates.draw(recording, {"one": latents(recording, 1.0)})
    assert len(figure.axes) == 2 * 3


def test_rates_need_a_model_with_rates():
    with pytest.raises(InputError, match="without rates"):
        rates.draw(make_recording(trials=20), {"field": xr.Dataset()})


LATENTS = 8


def langevin(recording: xr.DataTree, **options: Any) -> xr.Dataset:
    """What an untrained Driftwave gives for random latents on 4 channels x 2 sites."""
    torch.manual_seed(0)
    settings = SMALL_DRIFTWAVE | {"latents": LATENTS} | options
    network = Driftwave(Sizes(9, 12, 25, 30), torch.zeros(12), torch.ones(2, 9), **settings)
    state = recording["truth/state"].values
    mixed = state @ np.random.default_rng(0).normal(size=(4, 2 * LATENTS))
    index = np.arange(2 * LATENTS)
    dataset = (
        recording["truth"]
        .to_dataset()[["rate"]]
        .assign(
            latent=(("trial", "time", "latent"), mixed),
            latent_sd=(("trial", "time", "latent"), np.full(mixed.shape, 0.1)),
        )
    )
    dataset = dataset.assign_coords(
        part=("latent", np.where(index < LATENTS, "position", "velocity")),
        channel=("latent", index % LATENTS // 2),
        site=("latent", index % 2),
    )
    described = describe(network, mixed, 0.02)
    return dataset.assign(described).assign_coords(described.coords).assign_attrs(bin_width=0.02)


def all_text(figure: Figure) -> str:
    """Every word drawn."""
    return "\n".join(text.get_text() for text in figure.findobj(plt.Text))


@pytest.mark.usefixtures("drawn")
def test_latents_are_mapped_to_the_true_state():
    recording = make_recording(trials=40)
    figure = latent_figure.draw(recording, {"latents": langevin(recording)})
    (title,) = [a.get_title() for a in figure.axes if "R²" in a.get_title()]
    found = re.search(r"R² 1\.000 \(other trials' (-?[\d.]+)\)", title)
    assert found
    assert float(found[1]) < 0.5
    course = next(a for a in figure.axes if a.get_title() == "true state 1")
    true, value = [line.get_ydata() for line in course.lines]
    np.testing.assert_allclose(value, true, atol=1e-6)
    assert "± 2 posterior sd" in all_text(figure)


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_latents_without_a_truth_are_components(count: int):
    recording = make_recording(trials=12)
    results = langevin(recording)[["latent"]].isel(latent=slice(0, count))
    del recording["truth"]
    figure = latent_figure.draw(recording, {"latents": results})
    titles = [a.get_title() for a in figure.axes]
    assert titles.count("component 1") == 1
    assert "R²" not in all_text(figure)
    with pytest.raises(InputError, match="found no latents of trials"):
        latent_figure.draw(recording, {"latents": results.drop_vars("latent")})


@pytest.mark.usefixtures("drawn")
def test_potential_draws_couplings_modes_and_energy():
    recording = make_recording(trials=20)
    results = langevin(recording)
    figure = potential.draw(None, {"latents": results})
    words = all_text(figure)
    assert "U (kT)" in words
    for k in range(4):
        assert f"{100 * float(results['mode_share'][k]):.0f} % of variance" in words
    relative = potential.relative_coupling(np.array([[4.0, 3.0], [3.0, 9.0]]))
    np.testing.assert_allclose(relative, [[np.nan, 0.5], [0.5, np.nan]])
    assert not np.nansum(potential.relative_coupling(np.zeros((2, 2))))
    with pytest.raises(InputError, match="coupling"):
        potential.draw(None, {"latents": results.drop_vars("coupling")})


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("options", [{"nonconservative": True}, {"potential": "none"}])
def test_potential_of_a_force_and_of_no_force(options: dict[str, Any]):
    recording = make_recording(trials=20)
    figure = potential.draw(None, {"latents": langevin(recording, **options)})
    words = all_text(figure)
    figure.savefig("/dev/null", format="png")
    assert ("force (no potential)" in words) == ("nonconservative" in options)


@pytest.mark.usefixtures("drawn")
def test_lattice_prints_the_stage_s_numbers():
    recording = make_recording(trials=40)
    waves = analyse_lattice(recording, langevin(recording), surrogates=5, seed=0)
    figure = lattice.draw(None, {"waves": waves})
    words = all_text(figure)
    for channel in range(4):
        one = waves.isel(channel=channel)
        assert f"{float(one['frequency']):.2g} Hz, {float(one['speed']):.2g} sites/s" in words
        assert f"q = {float(one['q']):.2g}" in words
    with pytest.raises(InputError, match="latents on a lattice"):
        lattice.draw(None, {"waves": waves.drop_vars("phase")})


@pytest.mark.usefixtures("drawn")
def test_forecast_gain_is_the_score_bin_by_bin():
    from driftwave.scores.bits_per_spike import bits_per_spike

    recording = make_recording(trials=60)
    results = langevin(recording)
    figure = forecast.draw(recording, {"latents": results})
    gain = next(a for a in figure.axes if a.get_title() == "forward prediction")
    test = recording["trials/split"].values == "test"
    counts = recording["spikes/counts"].values[test]
    expected = 0.02 * results["rate"].values[test]
    scores = [bits_per_spike(expected[:, b], counts[:, b]) for b in range(25, 30)]
    model, truth = gain.lines[1:3]
    np.testing.assert_allclose(model.get_ydata(), scores, rtol=1e-6)
    np.testing.assert_allclose(truth.get_ydata(), scores, rtol=1e-6)
    np.testing.assert_allclose(model.get_xdata(), 0.02 * np.arange(1, 6))
    coverage = next(a for a in figure.axes if a.get_title() == "population count")
    assert 0.85 < np.mean(coverage.lines[1].get_ydata()) <= 1


@pytest.mark.usefixtures("drawn")
def test_posterior_spread_widens_the_forecast():
    recording = make_recording(trials=40)
    results = langevin(recording)
    spread = results["rate"].copy(data=np.full(results["rate"].shape, 60.0))

    def width(dataset: xr.Dataset) -> float:
        figure = forecast.draw(recording, {"latents": dataset})
        corners = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
        return float(np.ptp(corners))

    assert width(results.assign(rate_sd=spread)) > width(results) + 3


def test_forecast_needs_forward_bins():
    recording = make_recording(trials=40, forward=0)
    with pytest.raises(InputError, match="forward_bins"):
        forecast.draw(recording, {"latents": langevin(recording)})


@pytest.mark.usefixtures("drawn")
def test_forecast_of_few_trials_and_units_without_a_truth():
    recording = make_recording(trials=9, units=2, held_out=0)
    results = xr.Dataset({"rate": recording["truth"].to_dataset()["rate"]})
    del recording["truth"]
    figure = forecast.draw(recording, {"latents": results})
    assert "true rates" not in all_text(figure)


@pytest.mark.usefixtures("drawn")
def test_predictive_checks_stand_beside_ceiling_and_null(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(predictive, "DRAWS", 60)
    monkeypatch.setattr(predictive, "FEWER_DRAWS", 40)
    recording = make_recording(trials=90)
    results = langevin(recording)
    figure = predictive.draw(recording, {"latents": results})
    words = all_text(figure)
    assert words.count("in band:") == 6
    assert words.count("true rates ") == 6
    assert words.count("mean rates ") == 6
    assert "held-out units" in words
    doubled = predictive.draw(recording, {"latents": results.assign(rate=3 * results["rate"])})
    assert "mean rate\nin band: 0 %" in all_text(doubled)


@pytest.mark.usefixtures("drawn")
def test_predictive_checks_without_repeats_say_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(predictive, "DRAWS", 20)
    monkeypatch.setattr(predictive, "FEWER_DRAWS", 20)
    recording = make_recording(trials=20, held_out=0)
    recording["trials"] = recording["trials"].to_dataset().assign(condition=("trial", [0] * 20))
    results = langevin(recording)
    del recording["truth"]
    words = all_text(predictive.draw(recording, {"latents": results}))
    assert "needs three conditions" in words
    assert "true rates" not in words


def test_figures_are_planned_where_there_is_something_to_draw(tmp_path: Path):
    """A lattice only of models that have one, a forecast only of sessions with forward bins."""
    content = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    rows = ["session\tnwb\tlayout", "a\ta.nwb\tseen", "b\tb.nwb\tforward"]
    (tmp_path / "sessions.tsv").write_text("\n".join(rows) + "\n")
    common = {"description": "spikes", "spikes": {}, "windows": {"length": 1.0}}
    for name, more in (("seen", {}), ("forward", {"forward": 0.2})):
        layout = {"name": name, **common, **more}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(layout))
    models = {"smoothing": {}, "langevinflow": {}}
    plan = Plan.read(
        content
        | {"sessions": str(tmp_path / "sessions.tsv"), "layouts": str(tmp_path), "models": models}
    )
    names = {figure: list(plan.figures("b", figure)) for figure in ("potential", "lattice")}
    assert names == {"potential": ["potential.langevinflow"], "lattice": ["lattice.langevinflow"]}
    assert plan.sources("b", "waves") == ["langevinflow"]
    assert plan.figures("b", "waves") == plan.figures("b", "wave_field") == {}
    assert plan.figures("a", "forecast") == {}
    assert list(plan.figures("b", "forecast")) == ["forecast.smoothing", "forecast.langevinflow"]
    assert list(plan.figures("a", "latents")) == ["latents.smoothing", "latents.langevinflow"]
