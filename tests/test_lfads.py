"""LFADS: recursion and prior against closed forms, and what the plug-in may see and gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError
from scipy.stats import multivariate_normal
from torch import nn

from conftest import make_recording
from driftwave.compute import blas_threads
from driftwave.inference.data import spike_arrays
from driftwave.inference.elbo import gaussian_kl
from driftwave.inference.lfads_network import AutoregressivePrior
from driftwave.inference.lfads_recursion import Bidirectional, controlled_scan, gru_scan
from driftwave.inference.spike_network import (
    input_law,
    log_mean_count,
    sizes_of,
)
from driftwave.models import lfads, smoothing
from driftwave.models.lfads import Fit, Params
from driftwave.scores.bits_per_spike import expected_bits_per_spike
from network_cases import assert_same_fit, killed_and_resumed

SMALL = Params(
    generator=16, factors=4, inputs=2, controller=8, encoder=8, initial=6, steps=32, samples=3
)


def fitted(recording: xr.DataTree, params: Params = SMALL, seed: int = 0, **options) -> Fit:
    options = {"device": "cpu", "progress": None, "checkpoint": None} | options
    with blas_threads(1):
        return lfads.fit(recording, params, seed=seed, **options)


@pytest.fixture(scope="module")
def recording() -> xr.DataTree:
    return make_recording(trials=40, bins=20, forward=4)


@pytest.fixture(scope="module")
def fit(recording: xr.DataTree) -> Fit:
    return fitted(recording)


def untrained(recording: xr.DataTree, **changes) -> Fit:
    """A network with its random weights, input posteriors made wide enough to matter."""
    arrays = spike_arrays(recording, "test")
    params = SMALL.model_copy(update=changes)
    torch.manual_seed(0)
    network = Fit.build(params, sizes_of(arrays), log_mean_count(arrays), input_law(arrays))
    return Fit(params, sizes_of(arrays), arrays.held_in, 0, network)


def doubles(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def into(cell: nn.GRU, suffix: str, weights: list[torch.Tensor]) -> None:
    """Give a torch GRU the weights of a cell whose input rows run in the order (n, r, z)."""
    size = cell.hidden_size
    input_weight, input_bias, weight, bias = weights
    values = {
        f"weight_ih_l0{suffix}": input_weight.roll(-size, 0),
        f"bias_ih_l0{suffix}": input_bias.roll(-size, 0),
        f"weight_hh_l0{suffix}": weight,
        f"bias_hh_l0{suffix}": bias,
    }
    with torch.no_grad():
        for name, value in values.items():
            getattr(cell, name).copy_(value)


def test_bidirectional_grus_are_torchs_and_so_are_their_gradients():
    torch.manual_seed(1)
    ours = Bidirectional(3, 4, 2).double()
    sequence = doubles(2, 5, 3)
    states = ours(sequence)
    for which in range(2):
        torchs = nn.GRU(3, 4, bidirectional=True, batch_first=True).double()
        for cell, suffix in ((which, ""), (2 + which, "_reverse")):
            parts = (ours.input_weight, ours.input_bias, ours.weight, ours.bias)
            into(torchs, suffix, [part[cell] for part in parts])
        expected = torchs(sequence)[0]
        found = torch.cat([states[0, :, which], states[1, :, which]], -1).transpose(0, 1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(ours, (sequence,))


def test_gradients_of_one_cell():
    torch.manual_seed(2)
    parts = [doubles(4, 3, 2), doubles(3, 5), doubles(15, 2), doubles(15), doubles(15, 5)]
    assert torch.autograd.gradcheck(gru_scan, (*parts, doubles(15)))


def controlled_parts() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    shapes = {
        "drive": (4, 3, 12),
        "control_start": (3, 4),
        "control_weight": (12, 4),
        "control_bias": (12,),
        "feedback": (12, 5),
        "posterior_weight": (4, 4),
        "posterior_bias": (4,),
        "start": (3, 5),
        "weight": (15, 5),
        "bias": (15,),
        "input_weight": (15, 2),
        "input_bias": (15,),
    }
    noise = torch.randn(4, 3, 2, dtype=torch.float64)
    return noise, {name: doubles(*shape) for name, shape in shapes.items()}


def test_controller_and_generator_against_a_plain_loop_of_torchs_cells():
    noise, parts = controlled_parts()
    controller, generator = nn.GRU(12, 4).double(), nn.GRU(2, 5).double()
    # The drive enters as three inputs per unit, each with weight one.
    identity, none = torch.eye(12, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)
    into(controller, "", [identity, none, parts["control_weight"], parts["control_bias"]])
    generator_parts = [parts[n] for n in ("input_weight", "input_bias", "weight", "bias")]
    into(generator, "", generator_parts)
    control, state, states, inputs = parts["control_start"], parts["start"], [], []
    for drive, standard in zip(parts["drive"], noise, strict=True):
        driven = drive + state @ parts["feedback"].T
        control = controller(driven[None], control[None])[0][0]
        law = control @ parts["posterior_weight"].T + parts["posterior_bias"]
        inputs.append(law[:, :2] + torch.exp(0.5 * law[:, 2:]) * standard)
        state = generator(inputs[-1][None], state[None])[0][0]
        states.append(state)
    found, _, drawn = controlled_scan(noise=noise, **parts)
    torch.testing.assert_close(found, torch.stack(states), rtol=0, atol=1e-12)
    torch.testing.assert_close(drawn, torch.stack(inputs), rtol=0, atol=1e-12)


def test_gradients_of_controller_and_generator():
    noise, parts = controlled_parts()

    def run(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return controlled_scan(noise=noise, **dict(zip(parts, values, strict=True)))

    assert torch.autograd.gradcheck(run, tuple(parts.values()))


def ar1(timescale: float, variance: float, bins: int) -> np.ndarray:
    lag = np.abs(np.subtract.outer(np.arange(bins), np.arange(bins)))
    return variance * np.exp(-lag / timescale)


@pytest.fixture
def prior() -> AutoregressivePrior:
    prior = AutoregressivePrior(2).double()
    with torch.no_grad():
        prior.log_timescale.copy_(torch.tensor([3.0, 12.0]).log())
        prior.log_variance.copy_(torch.tensor([0.2, 1.5]).log())
    return prior


def test_divergence_from_the_autoregressive_prior_in_closed_form(prior: AutoregressivePrior):
    """Mean over paths of q = N(m, diag s^2): KL of one Gaussian over all bins from another."""
    bins, paths = 6, 20_000
    torch.manual_seed(4)
    mean = torch.randn(bins, 1, 2, dtype=torch.float64)
    log_variance = torch.randn(bins, 1, 2, dtype=torch.float64) - 1
    noise = torch.randn(bins, paths, 2, dtype=torch.float64)
    path = mean + torch.exp(0.5 * log_variance) * noise
    found = prior.divergence(mean.expand_as(path), log_variance.expand_as(path), path).detach()
    expected = 0.0
    for one, (timescale, variance) in enumerate([(3.0, 0.2), (12.0, 1.5)]):
        covariance = ar1(timescale, variance, bins)
        m, s = mean[:, 0, one].numpy(), log_variance[:, 0, one].exp().numpy()
        inverse = np.linalg.inv(covariance)
        expected += 0.5 * (np.trace(inverse * s) + m @ inverse @ m - bins)
        expected += 0.5 * (np.linalg.slogdet(covariance)[1] - np.log(s).sum())
    error = float(found.std()) / paths**0.5
    assert error < 0.02 * expected
    assert float(found.mean()) == pytest.approx(expected, abs=4 * error)


def test_log_density_of_the_autoregressive_prior(prior: AutoregressivePrior):
    """A posterior without width pays minus its entropy minus the prior's log density."""
    bins = 5
    path = torch.randn(bins, 1, 2, dtype=torch.float64)
    narrow = torch.full_like(path, -40.0)
    found = float(prior.divergence(path, narrow, path).detach())
    entropy = 0.5 * path.numel() * (np.log(2 * np.pi * np.e) - 40.0)
    density = sum(
        multivariate_normal(np.zeros(bins), ar1(t, v, bins)).logpdf(path[:, 0, one].numpy())
        for one, (t, v) in enumerate([(3.0, 0.2), (12.0, 1.5)])
    )
    assert found == pytest.approx(-entropy - density, rel=1e-9)


def test_the_prior_runs_on_with_its_own_law(prior: AutoregressivePrior):
    torch.manual_seed(5)
    last = torch.tensor([[1.0, -2.0]], dtype=torch.float64).expand(40_000, -1)
    noise = torch.randn(3, 40_000, 2, dtype=torch.float64)
    ahead = prior.run_on(last, noise).detach().numpy()
    for one, (timescale, variance) in enumerate([(3.0, 0.2), (12.0, 1.5)]):
        left = np.exp(-3 / timescale)
        assert ahead[2, :, one].mean() == pytest.approx(left * float(last[0, one]), abs=0.03)
        assert ahead[2, :, one].var() == pytest.approx(variance * (1 - left**2), rel=0.03)


def test_divergence_of_the_initial_condition(recording: xr.DataTree):
    """Without inputs it is all there is, and that of two diagonal Gaussians."""
    fit = untrained(recording, inputs=0)
    visible = torch.from_numpy(spike_arrays(recording, "test").visible)
    network = fit.network.eval()
    (law,) = network.encode(visible)
    mean, log_variance = law.chunk(2, -1)
    kl = network.decode((law,), network.noise(40)).kl
    expected = gaussian_kl(mean, log_variance, 0.0, 0.1).sum(-1)
    torch.testing.assert_close(kl, expected)
    assert (kl > 0).all()


def test_controller_off_means_no_inputs(recording: xr.DataTree):
    fit = untrained(recording, inputs=0)
    names = {name.split(".")[0] for name, _ in fit.network.named_parameters()}
    assert not names & {"controller", "feedback", "input_posterior", "input_prior"}
    assert fit.network.generator.input_weight.shape[1] == 0
    network, visible = fit.network.eval(), torch.from_numpy(spike_arrays(recording, "").visible)
    (law,) = network.encode(visible)
    noise = torch.zeros(network.noise_shape(40))
    start = network.start(law.chunk(2, -1)[0])
    autonomous = nn.GRU(1, 16)
    weights = [network.generator.input_bias, network.generator.weight, network.generator.bias]
    into(autonomous, "", [torch.zeros(48, 1), *weights])
    expected = autonomous(torch.zeros(20, 40, 1), start[None])[0]
    loading = nn.functional.normalize(network.loading, dim=1)
    found = network.decode((law,), noise).latent
    torch.testing.assert_close(found, (expected @ loading.T).transpose(0, 1), rtol=0, atol=1e-5)
    result = fitted(recording, SMALL.model_copy(update={"inputs": 0})).infer(recording)
    assert "inferred_input" not in result
    assert np.isfinite(result["rate"]).all()


def test_log_rates_are_linear_in_factors_with_rows_of_norm_one(recording: xr.DataTree):
    network = untrained(recording).network.eval()
    with torch.no_grad():
        network.loading.mul_(7.0)
    visible = torch.from_numpy(spike_arrays(recording, "test").visible)
    noise = network.noise(40)
    before = network(visible, noise)
    with torch.no_grad():
        network.loading.mul_(0.01)
    torch.testing.assert_close(network(visible, noise).latent, before.latent)
    torch.testing.assert_close(network.readout(before.latent[..., :4]), before.log_rate)


def test_inputs_of_forward_bins_come_from_the_prior_alone(recording: xr.DataTree):
    """Given the last inferred input and the noise, they do not depend on the counts."""
    network = untrained(recording).network.eval()
    visible = torch.from_numpy(spike_arrays(recording, "test").visible)
    noise = network.noise(40)
    path = network(visible, noise).latent[..., 4:].transpose(0, 1)
    ahead = noise[0, :, 6:].unflatten(1, (20, 2)).transpose(0, 1)[16:]
    torch.testing.assert_close(path[16:], network.input_prior.run_on(path[15], ahead))


def test_l2_penalty_is_added_in_nats_per_trial(recording: xr.DataTree):
    fit = untrained(recording, dropout=0.0)
    arrays = spike_arrays(recording, "test")
    losses = []
    for scale in (0.0, 500.0):
        params = fit.params.model_copy(update={"l2_generator": scale, "l2_controller": scale})
        task = Fit.task(params, fit.network, arrays, 0, "cpu")
        torch.manual_seed(1)
        losses.append(task.loss(torch.arange(5), 10**6).item())
        torch.manual_seed(1)
        at_the_start = task.loss(torch.arange(5), 0).item()
    weights = fit.network.generator.weight, fit.network.controller.weight
    expected = sum(250.0 * (w**2).mean().item() for w in weights) / (20 * 12)
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-4)
    assert at_the_start < losses[0]


def test_dataset(fit: Fit, recording: xr.DataTree):
    result = fit.infer(recording)
    assert result["latent"].shape == (40, 20, 4)
    assert result["inferred_input"].dims == ("trial", "time", "input")
    assert result["inferred_input"].shape == (40, 20, 2)
    assert (result["inferred_input_sd"] > 0).all()
    assert result["input_timescale"].attrs["units"] == "s"
    assert result["train_loss"].attrs["units"] == "nats per bin and unit"
    assert result.attrs["best_epoch"] == int(np.argmin(result["valid_loss"].values)) + 1


def test_forward_bins_and_held_out_units_are_not_visible(fit: Fit, recording: xr.DataTree):
    arrays, other = spike_arrays(recording, "test"), recording.copy(deep=True)
    other["spikes/counts"].values[:, arrays.seen_bins :] = 9
    other["spikes/counts"].values[:, :, ~arrays.held_in] = 9
    xr.testing.assert_identical(fit.infer(other), fit.infer(recording))


def test_dropout_is_off_when_rates_are_predicted(fit: Fit, recording: xr.DataTree):
    before = fit.infer(recording)["rate"]
    fit.network.dropout.p = 0.9
    fit.network.train()
    xr.testing.assert_identical(fit.infer(recording)["rate"], before)


def test_killed_fit_resumes_to_the_same_weights(
    fit: Fit, recording: xr.DataTree, tmp_path: Path, monkeypatch
):
    resumed = killed_and_resumed(lfads, lambda: fitted(recording, checkpoint=tmp_path), monkeypatch)
    assert_same_fit(resumed, fit)


def test_a_fixed_prior_stays(recording: xr.DataTree):
    fit = fitted(recording, SMALL.model_copy(update={"learned_prior": False}))
    assert (fit.network.prior_mean == 0).all()
    torch.testing.assert_close(fit.network.prior_log_variance.exp(), torch.full((6,), 0.1))


@pytest.mark.parametrize("wrong", [{"inputs": -1}, {"hidden_share": 0.0}, {"factors": 0}])
def test_wrong_parameters_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        Params(**wrong)


@pytest.mark.slow
def test_beats_smoothing_against_the_planted_truth():
    """Expected bits per spike of test trials, seen and held-out units and forward bins.

    Zero is each unit's mean rate, and the truth's own score the ceiling.
    """
    recording = make_recording(trials=200, units=16, held_out=4)
    arrays = spike_arrays(recording, "test")
    params = Params(generator=32, controller=16, encoder=16, factors=8, steps=150, samples=8)
    ours = fitted(recording, params).infer(recording)
    options = {"seed": 0, "device": "cpu", "progress": None, "checkpoint": None}
    theirs = smoothing.fit(recording, smoothing.Params(), **options).infer(recording)
    seen, ahead = slice(0, arrays.seen_bins), slice(arrays.seen_bins, None)
    truth = recording["truth/rate"].values[arrays.test]
    for bins, units in ((seen, arrays.held_in), (seen, ~arrays.held_in), (ahead, slice(None))):

        def score(rate: np.ndarray, bins: slice = bins, units: np.ndarray = units) -> float:
            return expected_bits_per_spike(rate[:, bins, units], truth[:, bins, units])

        found = score(ours["rate"].values[arrays.test])
        assert found > score(theirs["rate"].values[arrays.test]) + 0.02
        assert found > 0.6 * score(truth)
