"""The released variant against a step-by-step reimplementation of the model as published.

And the reference implementation's defects, each as a test that ours does not have it. Equations:
Song et al. 2025, arXiv 2507.11531, as its MIT-licensed code runs them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.metrics import r2_score
from torch import Tensor, nn
from torch.nn import functional

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.inference.data import SpikeArrays, spike_arrays
from driftwave.inference.langevin import ou_coefficients, released_gradient, released_recursion
from driftwave.inference.langevin_networks import Released
from driftwave.inference.spike_network import (
    SpikeTask,
    input_law,
    log_mean_count,
    sizes_of,
)
from driftwave.inference.training import Schedule, _Run, seeded
from driftwave.models import langevinflow
from driftwave.models.langevinflow import Fit, Params
from driftwave.scores.table import score_model

SMALL = {"latents": 8, "feedforward": 24, "samples": 3}
VARIANTS = ["driftwave", "released"]
GAMMA, EPSILON = 0.55, 0.01
SHARE = 0.5  # of the entries that are hidden: 1 - p


@pytest.fixture(scope="module")
def recording() -> xr.DataTree:
    return make_recording(trials=30, bins=14, units=8, held_out=2, forward=3)


@pytest.fixture(scope="module")
def arrays(recording: xr.DataTree) -> SpikeArrays:
    return spike_arrays(recording, "test")


def network(arrays: SpikeArrays, variant: str = "released", **changes: object) -> nn.Module:
    params = Params(variant=variant, **(SMALL | changes)).resolved()
    with seeded(0, "test"):
        return langevinflow.build(
            params, sizes_of(arrays), log_mean_count(arrays), input_law(arrays)
        )


def fitted(recording: xr.DataTree, variant: str, seed: int = 0, **changes: object) -> Fit:
    params = Params(variant=variant, **(SMALL | {"steps": 32} | changes))
    options = {"device": "cpu", "progress": None, "checkpoint": None}
    return langevinflow.fit(recording, params, seed=seed, **options)


# The model as published, one bin and one formula at a time.


def plain_gru(cell: nn.GRU, x: Tensor, h: Tensor) -> Tensor:
    drive = x @ cell.weight_ih_l0.T + cell.bias_ih_l0
    fed = h @ cell.weight_hh_l0.T + cell.bias_hh_l0
    (r, z, n), (fed_r, fed_z, fed_n) = drive.chunk(3, -1), fed.chunk(3, -1)
    reset, update = torch.sigmoid(r + fed_r), torch.sigmoid(z + fed_z)
    return (1 - update) * torch.tanh(n + reset * fed_n) + update * h


def plain_energy(z: Tensor, kernel: Tensor) -> Tensor:
    """U(z) = sum over i, j, l of c[i, l] z[j, l], with c = conv1d(z, K, padding 1)."""
    lattice = z.reshape(len(z), 4, -1)
    c = functional.conv1d(lattice, kernel / kernel.norm(dim=-1, keepdim=True), padding=1)
    return torch.einsum("nil,njl->n", c, lattice)


def plain_layer(layer: nn.TransformerEncoderLayer, y: Tensor) -> Tensor:
    attention, width = layer.self_attn, y.shape[-1]
    q, k, v = (y @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, -1)
    heads = [
        torch.softmax(a @ b.transpose(1, 2) / math.sqrt(width / 2), -1) @ c
        for a, b, c in zip(q.chunk(2, -1), k.chunk(2, -1), v.chunk(2, -1), strict=True)
    ]
    y = functional.layer_norm(
        y + attention.out_proj(torch.cat(heads, -1)),
        (width,), layer.norm1.weight, layer.norm1.bias,
    )  # fmt: skip
    fed = layer.linear2(torch.relu(layer.linear1(y)))
    return functional.layer_norm(y + fed, (width,), layer.norm2.weight, layer.norm2.bias)


def normal_kl(mean: Tensor, variance: Tensor, prior_variance: float) -> Tensor:
    """KL(N(mean, variance) || N(0, prior_variance)), nats per entry."""
    return 0.5 * ((variance + mean**2) / prior_variance - 1 - torch.log(variance / prior_variance))


def plain_pass(model: Released, x: Tensor, noise: Tensor, lag: int) -> tuple[Tensor, Tensor]:
    """Log rates (trial, bin, unit) and KL (trial,) of encoder, z_0, v_0, step and decoder."""
    seen, bins, size = x.shape[1], model.sizes.bins, model.latents
    h, states = x.new_zeros(len(x), size), []
    for t in range(bins):
        h = plain_gru(model.encoder, x[:, min(max(t - lag, 0), seen - 1)], h)
        states.append(h)
    mean_z, mean_v, log_z, log_v = model.start(states[0]).chunk(4, -1)
    z = mean_z + torch.exp(log_z / 2) * noise[0]
    v = mean_v + torch.exp(log_v / 2) * noise[1]
    kl = (normal_kl(mean_z, log_z.exp(), 1.0) + normal_kl(mean_v, log_v.exp(), 1.0)).sum(-1)
    stationary = 2 * GAMMA / (1 - (1 - GAMMA) ** 2)
    latents = [torch.cat([z, v], -1)]
    for t in range(1, bins):
        z_old = z if z.requires_grad else z.detach().requires_grad_()
        slope = torch.autograd.grad(
            plain_energy(z_old, model.kernel).sum(), z_old, create_graph=True
        )[0]
        z = z_old + EPSILON * v
        mean = (1 - GAMMA) * (v - EPSILON * slope)
        v = mean + math.sqrt(2 * GAMMA) * noise[t + 1]
        kl = kl + normal_kl(mean, torch.tensor(2 * GAMMA), stationary).sum(-1)
        latents.append(torch.cat([z, v], -1))
    y = torch.cat([torch.stack(latents, 1), torch.stack(states, 1)], -1)
    return model.readout(plain_layer(model.mixer, y)), kl


@pytest.mark.parametrize("lag", [0, 1])
def test_released_loss_and_gradient_equal_the_plain_model(arrays: SpikeArrays, lag: int) -> None:
    """Coordinated dropout, encoder, latents, decoder, likelihood and KL, to 1e-5."""
    model = network(arrays, lag=lag, dropout=0.0)
    params = Params(variant="released", **SMALL, kl_weight=0.1, kl_warmup=0.5, steps=100)
    task = SpikeTask(model, arrays, langevinflow.objective(params.resolved()), 0, "cpu")
    index, step = torch.arange(6), 20
    torch.manual_seed(3)
    ours = task.loss(index, step)
    ours.backward()
    gradients = {name: w.grad.clone() for name, w in model.named_parameters()}
    model.zero_grad()

    counts = torch.from_numpy(arrays.counts[arrays.train])[index]
    x = counts[:, : arrays.seen_bins, arrays.held_in]
    torch.manual_seed(3)
    m = (torch.rand(x.shape) >= SHARE).float()  # shown to the encoder
    s = (torch.rand(x.shape) < SHARE).float()  # scored although shown
    noise = torch.randn(arrays.counts.shape[1] + 1, len(x), model.latents)
    log_rate, kl = plain_pass(model, x * m / (1 - SHARE), noise, lag)
    through = torch.ones_like(counts)  # held-out units and forward bins always count
    scored = torch.maximum(1 - m, s) / (SHARE + (1 - SHARE) * SHARE)
    through[:, : arrays.seen_bins, arrays.held_in] = scored
    nll = (through * (torch.exp(log_rate) - counts * log_rate)).sum((1, 2))
    weight = 0.1 * min(step / 50, 1)
    plain = ((nll + weight * kl) / (counts.shape[1] * counts.shape[2])).mean()
    plain.backward()

    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
    for name, w in model.named_parameters():
        torch.testing.assert_close(gradients[name], w.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_released_prediction_is_the_mean_log_rate_without_dropout(
    recording: xr.DataTree, arrays: SpikeArrays
) -> None:
    fit = fitted(recording, "released")
    model, x = fit.network, torch.from_numpy(arrays.visible)
    drawn = torch.Generator().manual_seed(0)
    noises = [torch.randn(model.noise_shape(len(x)), generator=drawn) for _ in range(3)]
    waiting = iter(noises)
    model.noise = lambda trials, drawn=None: next(waiting)  # noqa: ARG005
    model.train()
    rate = fit.infer(recording)["rate"].values * arrays.bin_width
    plain = torch.stack([plain_pass(model, x, noise, 1)[0] for noise in noises]).mean(0).exp()
    np.testing.assert_allclose(rate, plain.detach().numpy(), rtol=1e-5)


def test_released_recursion_equals_autograd_in_the_loop() -> None:
    torch.manual_seed(0)
    kernel, z, v = torch.randn(4, 4, 3), torch.randn(5, 20), torch.randn(5, 20)
    unit = functional.normalize(kernel, dim=-1)
    noise = torch.randn(30, 5, 20)
    positions, velocities, means = released_recursion(
        z, v, noise, released_gradient(unit, 20), GAMMA, EPSILON
    )
    for t in range(30):
        place = z.clone().requires_grad_()
        slope = torch.autograd.grad(plain_energy(place, kernel).sum(), place)[0]
        z, mean = z + EPSILON * v, (1 - GAMMA) * (v - EPSILON * slope)
        v = mean + math.sqrt(2 * GAMMA) * noise[t]
        torch.testing.assert_close(means[t], mean, rtol=0, atol=1e-5)
        torch.testing.assert_close(velocities[t + 1], v, rtol=0, atol=1e-5)
        torch.testing.assert_close(positions[t + 1], z, rtol=0, atol=1e-5)


def test_released_weights_start_as_published(arrays: SpikeArrays) -> None:
    """Attention output and feed-forward weights are scaled by .67 x 3^(-1/4)."""
    with seeded(0, "x"):
        plain = nn.TransformerEncoderLayer(24, 2, 512, batch_first=True)
    scaled = network(arrays, feedforward=512).mixer
    for path in ("linear1", "linear2", "self_attn.out_proj"):
        ratio = scaled.get_submodule(path).weight.std() / plain.get_submodule(path).weight.std()
        assert float(ratio.detach()) == pytest.approx(0.67 * 3**-0.25, rel=0.1), path
    assert isinstance(scaled.norm1, nn.LayerNorm)
    assert not scaled.norm_first


def test_released_schedule_is_reduce_on_plateau() -> None:
    """Factor .95, patience 10, floor 1e-5; weight decay ramped over 500 epochs."""
    values = [5.0, 4.0, *[4.5] * 25, 3.0, *[3.5] * 14, 2.0, *[9.0] * 30]
    weight = nn.Linear(1, 1)
    schedule = Schedule(
        steps=10**6, learning_rate=1.2e-5, weight_decay=2.0, optimiser="adam", rate="plateau",
        decay_warmup=500, patience=10**6,
    )  # fmt: skip
    run = _Run(weight, schedule, trials=64, key="")
    optimiser = torch.optim.Adam(weight.parameters(), lr=1.2e-5)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.95, patience=10, min_lr=1e-5
    )
    rates = []
    for epoch, value in enumerate(values, start=1):
        run.history.train_loss.append(value)
        run.epoch = epoch
        run.judge(lambda value=value: torch.tensor(value))
        run._set_rates()
        peer.step(value)
        (group,) = run.optimiser.param_groups
        rates.append(group["lr"])
        assert rates[-1] == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-6), epoch
        assert group["weight_decay"] == pytest.approx(2.0 * epoch / 500)
    assert rates[0] == 1.2e-5
    assert rates[-1] == 1e-5


# The reference's defects.


def test_transition_kl_is_not_the_references(arrays: SpikeArrays) -> None:
    """Its KL takes the sampled v_t for the mean and the variance for the log-variance."""
    model = network(arrays, dropout=0.0)
    noise = model.noise(6)
    out = model(torch.from_numpy(arrays.visible[:6]), noise)
    _, kl = plain_pass(model, torch.from_numpy(arrays.visible[:6]), noise, 1)
    torch.testing.assert_close(out.kl, kl, rtol=1e-5, atol=1e-3)
    sampled = out.latent[:, 1:, model.latents :]
    wrong = normal_kl(sampled, torch.tensor(2 * GAMMA).exp(), 0.1).sum((1, 2))
    assert float((wrong / out.kl).min()) > 3


def test_ornstein_uhlenbeck_step_is_exact_at_any_dt() -> None:
    """Two steps of dt / 2 are one of dt, in mean and in variance; Euler's are not."""
    friction = torch.tensor([0.01, 0.55, 3.0], dtype=torch.float64)
    for dt in (0.1, 1.0, 5.0):
        (a, s), (b, r) = ou_coefficients(friction, dt), ou_coefficients(friction, dt / 2)
        torch.testing.assert_close(b**2, a)
        torch.testing.assert_close(b**2 * r**2 + r**2, s**2)
        torch.testing.assert_close(s**2 / (1 - a**2), torch.ones(3, dtype=torch.float64))


def latents_after_changing(arrays: SpikeArrays, variant: str, changed: int) -> np.ndarray:
    """Change (bin,) of the latents when the spikes of one bin change, same noise."""
    model = network(arrays, variant, dropout=0.0).eval()
    x = torch.from_numpy(arrays.visible[:6])
    other = x.clone()
    other[:, changed] += 4
    noise = model.noise(6)
    with torch.no_grad():
        moved = (model(other, noise).latent - model(x, noise).latent).abs()
    return moved.amax((0, 2)).numpy()


@pytest.mark.parametrize("changed", [0, 5, 10])
def test_latents_are_informed_by_the_whole_trial(arrays: SpikeArrays, changed: int) -> None:
    assert arrays.seen_bins == 11
    moved = latents_after_changing(arrays, "driftwave", changed)
    assert moved.shape == (14,)
    assert (moved > 1e-6).all()


def test_only_the_first_bin_informs_released_latents(arrays: SpikeArrays) -> None:
    """Which is why it is kept for comparison only."""
    assert (latents_after_changing(arrays, "released", 0) > 1e-6).all()
    assert not latents_after_changing(arrays, "released", 1).any()


def test_potential_starts_where_it_can_be_learned(
    recording: xr.DataTree, arrays: SpikeArrays
) -> None:
    """Small, random and not zero; its first gradient is no outlier and training turns it."""
    model = network(arrays, dropout=0.0)
    lengths = model.kernel.detach().norm(dim=-1)
    assert 0 < float(lengths.min()) <= float(lengths.max()) < 0.1
    params = Params(variant="released", **SMALL).resolved()
    task = SpikeTask(model, arrays, langevinflow.objective(params), 0, "cpu")
    task.loss(torch.arange(12), 500).backward()
    sizes = {name: float(w.grad.abs().max()) for name, w in model.named_parameters()}
    assert 0 < sizes.pop("kernel") < 10 * max(sizes.values())
    with seeded(0, "langevinflow weights"):
        start = langevinflow.build(params, sizes_of(arrays), log_mean_count(arrays),
                                   input_law(arrays)).kernel  # fmt: skip
    kernel = fitted(recording, "released", steps=96).network.kernel
    turned = functional.cosine_similarity(start, kernel, dim=-1)
    assert float(turned.median()) < 0.95


@pytest.mark.parametrize("variant", VARIANTS)
def test_kl_and_likelihood_are_on_one_scale(arrays: SpikeArrays, variant: str) -> None:
    """Both in nats per trial over bins x units: the weight multiplies KL per trial as it is."""
    model = network(arrays, variant, dropout=0.0)
    kl: list[Tensor] = []
    decode = model.decode
    model.decode = lambda *parts: kl.append((found := decode(*parts)).kl) or found
    losses = []
    for weight in (0.0, 2.0):
        params = Params(variant=variant, **SMALL, kl_weight=weight, kl_warmup=0.0).resolved()
        task = SpikeTask(model, arrays, langevinflow.objective(params), 0, "cpu")
        torch.manual_seed(0)
        losses.append(float(task.loss(torch.arange(10), 1)))
    per_entry = 2.0 * float(kl[-1].mean()) / (14 * 8)
    assert losses[1] - losses[0] == pytest.approx(per_entry, rel=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_are_those_of_the_best_epoch(
    recording: xr.DataTree, arrays: SpikeArrays, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate, found = SpikeTask.validate, []

    def best_in_the_second_epoch(task: SpikeTask) -> Tensor:
        found.append(validate(task))
        return found[-1] + (10.0 if len(found) != 2 else 0.0)

    with monkeypatch.context() as patch:
        patch.setattr(SpikeTask, "validate", best_in_the_second_epoch)
        fit = fitted(recording, variant, steps=96)
    assert fit.history.best_epoch == 1
    assert len(found) == 6
    task = SpikeTask(fit.network, arrays, langevinflow.objective(fit.params), 0, "cpu")
    with torch.no_grad():
        now = float(task.validate())
    assert now == pytest.approx(float(found[1]), rel=1e-6)
    assert now != pytest.approx(float(found[-1]), rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_schedule_is_blind_to_test_spikes(recording: xr.DataTree, variant: str) -> None:
    other = recording.copy(deep=True)
    test = other["trials/split"].values == "test"
    other["spikes/counts"].values[test] = 40
    first, second = fitted(recording, variant), fitted(other, variant)
    assert first.history == second.history
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_never_sees_true_rates(recording: xr.DataTree, variant: str) -> None:
    other = recording.copy(deep=True)
    other["truth/rate"].values[:] = 1e6
    other["truth/state"].values[:] = np.nan
    first, second = fitted(recording, variant), fitted(other, variant)
    assert first.history == second.history
    rates = recording.copy(deep=True)
    spikes = rates["spikes"].to_dataset()
    expected = recording["truth/rate"].values * 0.02
    rates["spikes"] = xr.DataTree(spikes.assign(counts=(spikes["counts"].dims, expected)))
    with pytest.raises(InputError, match="fractional values"):
        fitted(rates, variant)


def test_prediction_and_truth_are_not_swapped(recording: xr.DataTree) -> None:
    truth = recording["truth/rate"].values
    rng = np.random.default_rng(0)
    found = np.sqrt(truth * 20) * np.exp(0.2 * rng.normal(size=truth.shape))
    latents = xr.Dataset({"rate": (("trial", "time", "unit"), found)})
    table = score_model(recording, latents, seed=0, resamples=10).set_index("metric")
    test = recording["trials/split"].values == "test"

    def flat(rates: np.ndarray) -> np.ndarray:
        return rates[test][:, :11].reshape(-1, truth.shape[-1])

    right, swapped = r2_score(flat(truth), flat(found)), r2_score(flat(found), flat(truth))
    assert table.loc["rate_r2", "value"] == pytest.approx(right, abs=1e-5)
    assert abs(right - swapped) > 0.1
