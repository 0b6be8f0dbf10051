"""Wave-RNN: its start, its data set, and resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError

from conftest import make_recording
from driftwave.compute import blas_threads
from driftwave.inference.data import spike_arrays
from driftwave.inference.spike_network import input_law, log_mean_count, sizes_of
from driftwave.latent_waves.ring_pulses import analyse_rings, on_rings
from driftwave.models import wave_rnn
from driftwave.models.wave_rnn import Fit, Params, entry_sites
from network_cases import assert_same_fit, killed_and_resumed

SMALL = Params(channels=2, sites=8, inputs=3, hidden=12, steps=32, samples=3)


def fitted(recording: xr.DataTree, params: Params = SMALL, **options) -> Fit:
    options = {"seed": 0, "device": "cpu", "progress": None, "checkpoint": None} | options
    with blas_threads(1):
        return wave_rnn.fit(recording, params, **options)


@pytest.fixture(scope="module")
def recording() -> xr.DataTree:
    return make_recording(trials=40, bins=20, forward=4)


@pytest.fixture(scope="module")
def fit(recording: xr.DataTree) -> Fit:
    return fitted(recording)


def untrained(recording: xr.DataTree, **changes) -> Fit:
    arrays = spike_arrays(recording, "test")
    params = SMALL.model_copy(update=changes)
    torch.manual_seed(0)
    network = Fit.build(params, sizes_of(arrays), log_mean_count(arrays), input_law(arrays))
    return Fit(params, sizes_of(arrays), arrays.held_in, 0, network.eval())


def test_inputs_enter_at_one_site_each():
    columns = entry_sites(2, 8, 3)
    assert columns.shape == (16, 3)
    assert [int(c.nonzero()) for c in columns.T] == [0, 8, 4]


def impulse(fit: Fit) -> torch.Tensor:
    """States (bin, channel, site) after a unit input in bin 2 and nothing else."""
    network = fit.network
    inputs = torch.zeros(1, 6, fit.params.inputs)
    inputs[0, 2, 1] = 1.0
    with torch.no_grad():
        states = network.dynamics(torch.zeros(1, 16), network.input_map(inputs))
    return states[0].unflatten(-1, (2, 8))


def test_an_input_travels_in_the_wave_network_and_stays_in_its_twin(recording: xr.DataTree):
    moving = impulse(untrained(recording))
    assert [int(ring[1].argmax()) for ring in moving[2:]] == [0, 1, 2, 3]
    torch.testing.assert_close(moving[2:].amax((1, 2)), torch.ones(4))
    for kind in ("still", "identity"):
        states = impulse(untrained(recording, recurrence=kind))
        assert (states[:2] == 0).all()
        assert states[2].any()
        torch.testing.assert_close(states[2:], states[2:3].expand_as(states[2:]))


def test_still_and_wave_have_the_same_weights_but_for_the_kernel(recording: xr.DataTree):
    wave, still = (
        untrained(recording, recurrence=k).network.state_dict() for k in ("wave", "still")
    )
    assert wave.keys() == still.keys()
    differing = {n for n in wave if not torch.equal(wave[n], still[n])}
    assert differing == {"dynamics.kernel"}


def test_dataset(fit: Fit, recording: xr.DataTree):
    result = fit.infer(recording)
    assert on_rings(result)
    assert result["latent"].shape == (40, 20, 16)
    assert (result["latent"] >= 0).all()
    np.testing.assert_array_equal(result["channel"], np.repeat([0, 1], 8))
    np.testing.assert_array_equal(result["site"], np.tile(np.arange(8), 2))
    assert result["inferred_input"].shape == (40, 20, 3)
    assert result["loading"].dims == ("unit", "latent")
    assert result["kernel"].shape == (2, 2, 3)
    assert result["train_loss"].attrs["units"] == "nats per bin and unit"
    found = analyse_rings(recording, result, surrogates=1, seed=0)
    assert found["direction_index"].shape == (2, 2)


def test_the_loadings_are_those_of_the_log_rates(fit: Fit, recording: xr.DataTree):
    network = fit.network
    visible = torch.from_numpy(spike_arrays(recording, "test").visible)
    with torch.no_grad():
        out = network(visible, network.noise(40))
    state = network.parts(out.latent).state.numpy()
    loading = fit.infer(recording)["loading"].values
    expected = state @ loading.T + network.offset.detach().numpy()
    np.testing.assert_allclose(out.log_rate.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["still", "identity"])
def test_twins_fit_and_infer(recording: xr.DataTree, kind: str):
    result = fitted(recording, SMALL.model_copy(update={"recurrence": kind})).infer(recording)
    assert np.isfinite(result["rate"]).all()
    assert ("kernel" in result) == (kind == "still")


def test_without_inputs(recording: xr.DataTree):
    result = fitted(recording, SMALL.model_copy(update={"inputs": 0})).infer(recording)
    assert "inferred_input" not in result
    assert np.isfinite(result["rate"]).all()


def test_killed_fit_resumes_to_the_same_weights(
    fit: Fit, recording: xr.DataTree, tmp_path: Path, monkeypatch
):
    resumed = killed_and_resumed(
        wave_rnn, lambda: fitted(recording, checkpoint=tmp_path), monkeypatch
    )
    assert_same_fit(resumed, fit)


@pytest.mark.parametrize("wrong", [{"sites": 2}, {"channels": 0}, {"recurrence": "shuffled"}])
def test_wrong_parameters_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        Params(**wrong)


def pulses(seed: int, trials: int = 80, bins: int = 40, units: int = 24) -> xr.DataTree:
    """Spikes of a pulse that runs round a ring of units in 20 bins, from a random place."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, units, (trials, 1, 1)) + 1.2 * np.arange(bins)[None, :, None]
    away = (np.arange(units) - place + units / 2) % units - units / 2
    rate = 4.0 * np.exp(2.5 * np.exp(-np.square(away) / 8))
    tree = make_recording(trials=trials, bins=bins, units=units, held_out=5, forward=15, seed=seed)
    tree["spikes/counts"].values[:] = rng.poisson(rate * 0.02)
    tree["truth/rate"].values[:] = rate
    return tree


@pytest.mark.slow
def test_the_wave_start_trains_faster_than_the_same_network_started_still():
    """And it alone forecasts the second half of the forward bins; the spikes carry the wave."""
    recording = pulses(0)
    test = recording["trials/split"].values == "test"
    truth = recording["truth/rate"].values[test][:, -8:]
    results = {}
    for kind in ("wave", "still"):
        params = Params(recurrence=kind, sites=24, channels=2, steps=200, samples=8)
        found = fitted(recording, params)
        latents = found.infer(recording)
        error = latents["rate"].values[test][:, -8:] - truth
        results[kind] = found.history, np.square(error).mean() / truth.var(), latents
    half = results["still"][0].best
    reached = np.argmax(np.array(results["wave"][0].valid_loss) < half)
    assert reached < 0.6 * len(results["still"][0].valid_loss)
    assert results["wave"][1] < 0.5 < results["still"][1]
    waves = analyse_rings(recording, results["wave"][2], surrogates=19, seed=0)
    assert (waves["p"] <= 0.05).all()
