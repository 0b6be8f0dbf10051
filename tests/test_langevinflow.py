"""LangevinFlow as a plug-in: what it may see, what it gives, and that it repeats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.inference.data import spike_arrays
from driftwave.inference.spike_network import SpikeTask
from driftwave.models import langevinflow
from driftwave.models.langevinflow import Fit, Params
from network_cases import assert_same_fit, killed_and_resumed

SMALL = {
    "driftwave": Params(latents=8, hidden=16, feedforward=32, steps=32, samples=4),
    "released": Params(variant="released", latents=8, feedforward=32, steps=32, samples=4),
}
VARIANTS = list(SMALL)


def fitted(recording: xr.DataTree, params: Params, seed: int = 0, **options) -> Fit:
    options = {"device": "cpu", "progress": None, "checkpoint": None} | options
    return langevinflow.fit(recording, params, seed=seed, **options)


def with_counts(recording: xr.DataTree, change) -> xr.DataTree:
    """A copy of a recording whose counts went through ``change(counts)`` in place."""
    recording = recording.copy(deep=True)
    change(recording["spikes/counts"].values)
    return recording


def same_weights(first: Fit, second: Fit) -> bool:
    pairs = zip(first.network.parameters(), second.network.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def recording() -> xr.DataTree:
    return make_recording(trials=40, bins=20, forward=4)


@pytest.fixture(scope="module")
def fit(variant: str, recording: xr.DataTree) -> Fit:
    return fitted(recording, SMALL[variant])


@pytest.fixture(scope="module")
def inferred(fit: Fit, recording: xr.DataTree) -> xr.Dataset:
    return fit.infer(recording)


def test_dataset(inferred: xr.Dataset, recording: xr.DataTree):
    assert inferred["rate"].shape == recording["spikes/counts"].shape
    assert inferred["rate"].attrs["units"] == "Hz"
    assert np.isfinite(inferred["rate"]).all()
    assert (inferred["rate"] > 0).all()
    assert inferred["latent"].shape == (40, 20, 16)
    assert (inferred["latent_sd"] > 0).all()
    assert list(inferred["part"].values[[0, 7, 8]]) == ["position", "position", "velocity"]
    assert list(inferred["site"].values[:4]) == [0, 1, 0, 1]
    assert list(inferred["channel"].values[:4]) == [0, 0, 1, 1]
    assert inferred.attrs["best_epoch"] == int(np.argmin(inferred["valid_loss"].values)) + 1
    assert inferred["train_loss"].attrs["units"] == "nats per bin and unit"


def test_learns_the_mean_rates(inferred: xr.Dataset, recording: xr.DataTree):
    found = inferred["rate"].mean(("trial", "time")).values
    true = recording["truth/rate"].mean(("trial", "time")).values
    np.testing.assert_allclose(found, true, rtol=0.25)
    assert inferred["valid_loss"][-1] < inferred["valid_loss"][0]


def test_inference_repeats(inferred: xr.Dataset, recording: xr.DataTree, fit: Fit):
    xr.testing.assert_identical(fit.infer(recording), inferred)


def test_same_seed_same_fit_other_seed_other_fit(fit: Fit, variant: str, recording: xr.DataTree):
    assert same_weights(fit, fitted(recording, SMALL[variant]))
    assert not same_weights(fit, fitted(recording, SMALL[variant], seed=1))


def test_test_trials_never_influence_the_fit(fit: Fit, variant: str, recording: xr.DataTree):
    test = spike_arrays(recording, "test").test

    def ruin(counts: np.ndarray) -> None:
        counts[test] = 50

    other = fitted(with_counts(recording, ruin), SMALL[variant])
    assert same_weights(fit, other)
    assert other.history == fit.history


def test_validation_trials_choose_but_do_not_train(variant: str, recording: xr.DataTree):
    valid = spike_arrays(recording, "test").valid

    def ruin(counts: np.ndarray) -> None:
        counts[valid] = 50

    params = SMALL["driftwave"].model_copy(update={"variant": variant})
    one, other = fitted(recording, params), fitted(with_counts(recording, ruin), params)
    assert one.history.valid_loss != other.history.valid_loss
    if variant == "driftwave":
        assert one.history.train_loss == other.history.train_loss


def test_sees_only_held_in_units_and_seen_bins(
    fit: Fit, inferred: xr.Dataset, recording: xr.DataTree
):
    arrays = spike_arrays(recording, "test")

    def ruin(counts: np.ndarray) -> None:
        counts[:, :, ~arrays.held_in] = 9
        counts[:, arrays.seen_bins :] = 9

    again = fit.infer(with_counts(recording, ruin))
    xr.testing.assert_identical(again["rate"], inferred["rate"])
    xr.testing.assert_identical(again["latent"], inferred["latent"])


def test_held_out_units_and_forward_bins_of_training_trials_are_targets(
    fit: Fit, variant: str, recording: xr.DataTree
):
    arrays = spike_arrays(recording, "test")

    def louder(counts: np.ndarray) -> None:
        counts[:, :, ~arrays.held_in] += 3
        counts[:, arrays.seen_bins :] += 2

    other = fitted(with_counts(recording, louder), SMALL[variant])
    rate = other.infer(recording)["rate"].values * arrays.bin_width
    before = fit.infer(recording)["rate"].values * arrays.bin_width
    held = (
        rate[:, : arrays.seen_bins, ~arrays.held_in]
        - before[:, : arrays.seen_bins, ~arrays.held_in]
    )
    assert held.mean() == pytest.approx(3, abs=0.6)
    forward = rate[:, arrays.seen_bins :][..., arrays.held_in]
    assert forward.mean() > 1.5 * before[:, arrays.seen_bins :][..., arrays.held_in].mean()


def test_dropout_is_off_when_rates_are_predicted(
    fit: Fit, inferred: xr.Dataset, recording: xr.DataTree
):
    for part in fit.network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.9
    fit.network.train()
    xr.testing.assert_identical(fit.infer(recording)["rate"], inferred["rate"])


def test_saved_fit_gives_the_same_rates(
    fit: Fit, inferred: xr.Dataset, recording: xr.DataTree, tmp_path: Path
):
    fit.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["params.json", "weights.pt"]
    loaded = Fit.load(tmp_path)
    assert loaded.params == fit.params
    xr.testing.assert_identical(loaded.infer(recording), inferred)


def test_killed_fit_resumes_to_the_same_weights(
    fit: Fit, variant: str, recording: xr.DataTree, tmp_path: Path, monkeypatch
):
    resumed = killed_and_resumed(
        langevinflow, lambda: fitted(recording, SMALL[variant], checkpoint=tmp_path), monkeypatch
    )
    assert_same_fit(resumed, fit)


def test_validation_spikes_are_hidden_from_the_encoder(recording: xr.DataTree, fit: Fit):
    arrays = spike_arrays(recording, "test")
    task = SpikeTask(fit.network, arrays, langevinflow.objective(fit.params), 0, "cpu")
    shown, target, exposure = task.validation
    seen = target[:, : arrays.seen_bins][..., arrays.held_in]
    share = fit.params.hidden_share
    if fit.params.hiding == "thinning":
        whole = shown * (1 - share) + seen * share
        torch.testing.assert_close(
            whole, torch.from_numpy(arrays.visible[arrays.valid]), rtol=0, atol=1e-5
        )
    else:
        scored = exposure[:, : arrays.seen_bins][..., arrays.held_in] > 0
        assert (shown[scored] == 0).all()
    assert (exposure[:, arrays.seen_bins :] == 1).all()


def test_other_recording_is_refused(fit: Fit):
    with pytest.raises(InputError, match="fit it again"):
        fit.infer(make_recording(units=9))


@pytest.mark.parametrize(
    "wrong",
    [{"latents": 10}, {"hidden_share": 1.0}, {"nonconservative": True, "potential": "none"}],
)
def test_wrong_parameters_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        Params(**wrong)


def test_no_forward_bins_no_held_out_units(variant: str):
    recording = make_recording(held_out=0, forward=0, trials=30)
    assert np.isfinite(fitted(recording, SMALL[variant]).infer(recording)["rate"]).all()


@pytest.mark.slow
def test_follows_the_truth_on_unseen_trials():
    """Rates, held-out units and forward bins of test trials against the planted truth."""
    recording = make_recording(trials=300, units=20, held_out=4)
    arrays = spike_arrays(recording, "test")
    fit = fitted(recording, Params(steps=400))
    found = fit.infer(recording)["rate"].values[arrays.test]
    true = recording["truth/rate"].values[arrays.test]

    def r2(part: tuple) -> float:
        residual = ((found[part] - true[part]) ** 2).sum((0, 1))
        return float(
            np.mean(1 - residual / ((true[part] - true[part].mean((0, 1))) ** 2).sum((0, 1)))
        )

    every = slice(None)
    assert r2((every, slice(0, arrays.seen_bins), arrays.held_in)) > 0.85
    assert r2((every, slice(0, arrays.seen_bins), ~arrays.held_in)) > 0.8
    assert r2((every, slice(arrays.seen_bins, None), arrays.held_in)) > 0.6
