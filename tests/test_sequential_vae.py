"""Sequential VAE: laws, divergences, forward bins, and a field beside the counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import multivariate_normal, norm
from torch import Tensor

from conftest import make_field_recording, make_recording
from driftwave.errors import InputError
from driftwave.inference.elbo import gaussian_kl
from driftwave.inference.field_bins import field_in_bins
from driftwave.inference.sequential_data import ObservationKind, Observed, observe
from driftwave.inference.sequential_task import FieldHiding, SequentialTask, gaussian_nll
from driftwave.inference.sequential_vae import (
    DenseReadout,
    InputMap,
    LatentDynamics,
    SequentialVAE,
)
from driftwave.inference.spike_network import Objective, posterior_average
from driftwave.inference.training import Schedule, train

WIDTH = 6
KINDS = ("spikes", "field", "both")


class Leaky(LatentDynamics):
    """A state that forgets a fifth in every bin."""

    width = WIDTH

    def forward(self, start: Tensor, drive: Tensor) -> Tensor:
        states = []
        for now in drive.unbind(1):
            start = 0.8 * start + now
            states.append(start)
        return torch.stack(states, 1)


@pytest.fixture(scope="module")
def recording() -> xr.DataTree:
    """Spikes in contiguous trials of 30 bins of 20 ms, and a field of 16 electrodes beside them."""
    tree = make_recording(contiguous=True, trials=40)
    field = make_field_recording(seconds=24.0)["field"].to_dataset()
    tree["field"] = xr.DataTree(field.assign_coords(time=field["time"] - 3.0))
    return tree


def network_of(observed: Observed, **options) -> SequentialVAE:
    torch.manual_seed(0)
    sizes = observed.sizes
    readout = DenseReadout(WIDTH, sizes.units_out + observed.electrodes)
    options = {"inputs": 3, "hidden": 12, "dropout": 0.0, "encoder_layers": 1} | options
    law = observed.log_mean_count(), observed.input_law()
    return SequentialVAE(
        sizes, *law, Leaky(), readout, electrodes=observed.electrodes, **options
    ).eval()


def task_of(observed: Observed, network: SequentialVAE, **options) -> SequentialTask:
    objective = Objective("thinning", 0.5, kl_weight=0.1, kl_warmup=1)
    return SequentialTask(network, observed, objective, 0, "cpu", **options)


@pytest.mark.parametrize("prior", ["white", "autoregressive"])
@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_parts(recording: xr.DataTree, kind: ObservationKind, prior):
    observed = observe(recording, kind, "test")
    network = network_of(observed, prior=prior)
    visible = torch.from_numpy(observed.visible)
    out = network(visible, network.noise(40))
    units, electrodes = (12 if kind != "field" else 0), (16 if kind != "spikes" else 0)
    assert out.log_rate.shape == (40, 30, units)
    assert visible.shape == (40, 25, (9 if units else 0) + 2 * electrodes)
    parts = network.parts(out.latent)
    assert [x.shape[-1] for x in parts] == [WIDTH, 3, electrodes]
    channels = network.readout(parts.state) + network.offset
    torch.testing.assert_close(channels, torch.cat([out.log_rate, parts.field], -1))
    driven = torch.cat([parts.state[:, :1] * 0, 0.8 * parts.state[:, :-1]], 1)
    driven = driven + network.input_map(parts.input)
    torch.testing.assert_close(parts.state[:, 1:], driven[:, 1:])
    assert (out.kl > 0).all()


def test_divergence_in_closed_form(recording: xr.DataTree):
    """Of start and inputs from Gaussians with the learned and the white prior's moments."""
    observed = observe(recording, "spikes", "test")
    network = network_of(observed)
    with torch.no_grad():
        network.start_mean.normal_()
        network.start_log_variance.normal_()
    start, inputs = network.encode(torch.from_numpy(observed.visible))
    kl = network.decode((start, inputs), network.noise(40)).kl
    mean, log_variance = start.chunk(2, -1)
    law = network.start_mean, network.start_log_variance.exp()
    expected = gaussian_kl(mean, log_variance, *law).sum(-1)
    expected = expected + gaussian_kl(*inputs.chunk(2, -1)).sum((1, 2))
    torch.testing.assert_close(kl, expected)
    assert inputs.shape == (40, 25, 6)


@pytest.mark.parametrize("prior", ["white", "autoregressive"])
def test_inputs_of_forward_bins_come_from_the_prior(recording: xr.DataTree, prior):
    """Given the last inferred one and the noise, they do not depend on the counts."""
    observed = observe(recording, "spikes", "test")
    network = network_of(observed, prior=prior)
    noise = network.noise(40)
    path = network.parts(network(torch.from_numpy(observed.visible), noise).latent).input
    ahead = noise[0, :, WIDTH:].unflatten(1, (30, 3))[:, 25:]
    if prior == "autoregressive":
        ahead = network.input_prior.run_on(path[:, 24], ahead.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(path[:, 25:], ahead)


def test_without_inputs_the_start_decides(recording: xr.DataTree):
    observed = observe(recording, "spikes", "test")
    network = network_of(observed, inputs=0)
    assert not [n for n, _ in network.named_parameters() if n.startswith("input_")]
    out = network(torch.from_numpy(observed.visible), network.noise(40))
    ratio = out.latent[:, 1:] / out.latent[:, :-1]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.8))


def test_the_norm_of_the_inputs_map_is_bounded():
    into = InputMap(WIDTH, 2, gain=0.5, bound=2.0)
    torch.testing.assert_close(into.matrix().norm(dim=0), torch.full((2,), 0.5))
    with torch.no_grad():
        into.gain.fill_(50.0)
        into.direction.mul_(1e3)
    torch.testing.assert_close(into.matrix().norm(dim=0), torch.full((2,), 2.0))


def test_weight_decay_spares_vectors_dynamics_and_inputs(recording: xr.DataTree):
    network = network_of(observe(recording, "spikes", "test"))
    decayed = {n for n, _ in network.named_parameters()} - network.undecayed()
    tops = {name.split(".")[0] for name in decayed}
    assert tops == {"encoder", "start", "input_posterior", "readout"}


def test_gaussian_likelihood_against_scipy():
    torch.manual_seed(1)
    mean, value = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    log_variance = torch.tensor([0.3, -1.0], dtype=torch.float64)
    found = gaussian_nll(mean, log_variance, value, torch.full_like(mean, 2.0))
    sd = np.exp(0.5 * log_variance.numpy())
    np.testing.assert_allclose(found, -2 * norm.logpdf(value, mean, sd))


def test_a_field_is_that_of_the_spikes_bins(recording: xr.DataTree):
    """As the linear oscillators take it; seen bins know nothing of forward ones."""
    observed = observe(recording, "field", "test")
    found = field_in_bins(recording, "test")
    assert observed.field is not None
    np.testing.assert_array_equal(observed.field[:, :25], found.visible)
    np.testing.assert_array_equal(observed.field[:, 25:], found.values[:, 25:])
    np.testing.assert_allclose(
        observed.in_microvolt(observed.field[:, 25:]),
        found.values[:, 25:] * found.scale + found.offset,
        rtol=1e-5,
    )


def holed(recording: xr.DataTree) -> xr.DataTree:
    """The recording without some samples, one electrode of a trial, and a bad electrode."""
    copy = recording.copy(deep=True)
    lfp = copy["field/lfp"].values
    lfp[0:3, 0], lfp[5:10, 1], lfp[150:300, 2] = np.nan, np.nan, np.nan
    copy["field"].ds = (
        copy["field"].to_dataset().assign_coords(good=("electrode", np.arange(16) != 3))
    )
    return copy


def test_missing_samples(recording: xr.DataTree):
    observed = observe(holed(recording), "field", "test")
    assert observed.field is not None
    missing = np.isnan(observed.field)
    assert observed.electrodes == 15
    assert missing[0, :2, 0].any()  # the low-pass blurs a gap
    assert missing[1, :, 2].all()
    assert not missing[2:].any()
    width = observed.visible.shape[2] // 2
    shown, mask = observed.visible[..., :width], observed.visible[..., width:]
    assert (shown[missing[:, :25]] == 0).all()
    np.testing.assert_array_equal(mask, ~missing[:, :25])


def test_missing_entries_count_nowhere(recording: xr.DataTree):
    """Whatever stands in place of a NaN, neither the loss nor its gradient depends on it."""
    observed = observe(holed(recording), "both", "test")
    network = network_of(observed)
    task = task_of(observed, network)
    assert torch.isfinite(task.validate())
    torch.manual_seed(3)
    loss = task.loss(torch.arange(8), 10)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_hidden_field_entries_are_scored_and_not_shown(recording: xr.DataTree):
    observed = observe(recording, "field", "test")
    task = task_of(observed, network_of(observed), field_hiding=FieldHiding(0.3, 0.2))
    view = task.judged
    shown = view.visible[..., 16:].bool()
    seen, ahead = view.weight[:, :25], view.weight[:, 25:]
    assert ((seen > 0) == ~shown).all()
    assert (view.visible[..., :16][~shown] == 0).all()
    assert (ahead == 1).all()
    share = 1 - 0.7 * 0.8
    torch.testing.assert_close(seen[~shown], torch.full_like(seen[~shown], 1 / share))
    assert shown.float().mean() == pytest.approx(1 - share, abs=0.05)
    whole = (~shown).all(1).float().mean()
    assert 0.05 < whole < 0.4


def test_loss_in_nats_per_bin_and_channel(recording: xr.DataTree):
    """Without hiding it is NLL plus weighted KL of the whole trial, from scratch."""
    observed = observe(recording, "both", "test")
    network = network_of(observed)
    task = task_of(observed, network, field_hiding=FieldHiding(0.0, 0.0))
    task.objective = Objective("thinning", 0.0, kl_weight=0.1, kl_warmup=1)
    torch.manual_seed(4)
    found = task.loss(torch.arange(6), 5)
    torch.manual_seed(4)
    index = np.flatnonzero(observed.train)[:6]
    out = network(torch.from_numpy(observed.visible[index]), network.noise(6))
    assert observed.counts is not None
    assert observed.field is not None
    counts = torch.from_numpy(observed.counts[index])
    spikes = (out.log_rate.exp() - counts * out.log_rate).sum()
    field = multivariate_normal(np.zeros(1), 1.0)
    error = observed.field[index] - network.parts(out.latent).field.detach().numpy()
    expected = (float(spikes.detach()) - field.logpdf(error.reshape(-1, 1)).sum()) / 6
    expected += 0.1 * float(out.kl.mean().detach())
    assert float(found.detach()) == pytest.approx(expected / (30 * 28), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_training_predicts_what_is_hidden(recording: xr.DataTree, kind: ObservationKind):
    """Validation entries that the encoder does not see, better than their means."""
    observed = observe(recording, kind, "test")
    network = network_of(observed, hidden=24)
    task = task_of(observed, network)
    with torch.no_grad():
        network.readout.weight.mul_(1e-6)
        before = float(task.validate())
        network.readout.weight.mul_(1e6)
    schedule = Schedule(steps=64, batch=16, learning_rate=1e-2)
    history = train(
        network,
        loss=task.loss,
        validate=task.validate,
        trials=int(observed.train.sum()),
        schedule=schedule,
        seed=0,
    )
    assert history.best < before - (0.01 if kind == "spikes" else 0.1)
    found = posterior_average(network, observed.visible, samples=4, seed=0, device="cpu")
    assert found.rate.shape == (40, 30, observed.sizes.units_out)
    if observed.field is not None:
        field = network.parts(found.latent).field[observed.test][:, 25:]
        truth = observed.field[observed.test][:, 25:]
        assert np.isfinite(field).all()
        assert field.shape == truth.shape


@pytest.mark.parametrize("value", [7.0, np.nan])
def test_a_dead_electrode_is_refused(recording: xr.DataTree, value: float):
    copy = recording.copy(deep=True)
    copy["field/lfp"].values[:, 4] = value
    with pytest.raises(InputError, match="electrode 4 constant or missing"):
        observe(copy, "field", "test")


def test_nothing_observed_is_refused():
    none = np.zeros(0, bool)
    with pytest.raises(ValueError, match="neither"):
        Observed(None, None, none, 1, none, none, none, 0.02, np.zeros(0), np.zeros(0))
