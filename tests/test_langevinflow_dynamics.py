"""Langevin dynamics against closed forms and against a plain reimplementation of the reference."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from driftwave.inference.dropout import coordinated_dropout, thin
from driftwave.inference.elbo import gaussian_kl, poisson_nll
from driftwave.inference.langevin import (
    LatticePotential,
    LearnedForce,
    baoab,
    ou_coefficients,
    released_gradient,
)
from driftwave.inference.langevin_networks import Driftwave, Released
from driftwave.inference.spike_network import Sizes
from driftwave.models.langevinflow import Params
from network_cases import SMALL_DRIFTWAVE

SIZES = Sizes(units_in=5, units_out=7, seen_bins=9, bins=12)


def informed(**changes) -> Driftwave:
    options = SMALL_DRIFTWAVE | {"hidden": 6, "terms": 12, "transformer": True, "feedforward": 16}
    law = torch.tensor([[0.7], [0.8]]).expand(2, SIZES.units_in)
    torch.manual_seed(0)
    return Driftwave(SIZES, torch.full((7,), -1.0), law, **(options | changes))


def released(**changes) -> Released:
    options = {"latents": 8, "friction": 0.55, "lag": 1, "feedforward": 16, "dropout": 0.05}
    torch.manual_seed(0)
    return Released(SIZES, torch.full((7,), -1.0), **(options | changes)).eval()


def visible(trials: int = 4) -> Tensor:
    drawn = torch.Generator().manual_seed(1)
    return torch.poisson(torch.full((trials, SIZES.seen_bins, SIZES.units_in), 0.7), drawn)


def test_ou_step_leaves_the_unit_normal_stationary():
    keep, spread = ou_coefficients(torch.tensor([1e-4, 0.1, 1.0, 30.0], dtype=torch.float64), 0.7)
    torch.testing.assert_close(keep**2 + spread**2, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(keep[1], torch.tensor(math.exp(-0.07), dtype=torch.float64))


def spring(z: Tensor, _: Tensor, stiffness: float) -> Tensor:
    return -stiffness * z


def test_baoab_has_the_stationary_law_of_a_quadratic_potential():
    """Var z = 1 / omega^2 exactly; Var v = 1 - (omega dt)^2 / 4 (both by the Lyapunov equation)."""
    omega = torch.tensor([0.2, 0.6, 1.2])
    friction, dt = torch.tensor([0.1, 0.4, 0.8]), 0.8
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1500, 800, 3, generator=generator)
    start = torch.zeros(800, 3)
    z, v = baoab(start, start, noise, lambda z, _: -(omega**2) * z, friction, dt)
    found = torch.stack([z[500:].var((0, 1)), v[500:].var((0, 1))])
    closed = torch.stack([1 / omega**2, 1 - (omega * dt) ** 2 / 4])
    torch.testing.assert_close(found, closed, rtol=0.03, atol=0)
    for i in range(3):
        column = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).double()
        noise_in = torch.tensor([0.0, 0.0, 1.0]).double()
        stiffness = float(omega[i]) ** 2
        pull = partial(spring, stiffness=stiffness)
        gamma = friction[i].double().reshape(1)
        responses = [
            torch.cat(
                [
                    path[1, 0]
                    for path in baoab(a[:1, None], a[1:2, None], a[2:, None, None], pull, gamma, dt)
                ]
            )
            for a in (*column, noise_in)
        ]
        step = torch.stack(responses[:2], 1).numpy()
        kick = responses[2].numpy()
        law = solve_discrete_lyapunov(step, kick[:, None] * kick[None])
        assert law.diagonal() == pytest.approx(closed[:, i].numpy(), rel=1e-5)


def test_released_step_does_not_have_it():
    """The reference's unit friction-noise step: stationary variance 2g / (1 - (1-g)^2)."""
    model = released()
    path = model.decode(
        (torch.zeros(300, 12, 8), torch.zeros(300, 32)), torch.randn(13, 300, 8)
    ).latent
    assert path.detach()[:, 8:, 8:].var() == pytest.approx(1.1 / (1 - 0.45**2), rel=0.05)


@pytest.mark.parametrize("kind", ["learned", "quadratic", "quartic", "none"])
def test_force_is_minus_the_gradient_of_the_energy(kind: str):
    torch.manual_seed(0)
    potential = LatticePotential(12, kind, terms=20).double()
    with torch.no_grad():
        potential.weight.normal_()
    z = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    energy = potential.energy(z).sum()
    gradient = torch.autograd.grad(energy, z)[0] if kind != "none" else torch.zeros_like(z)
    torch.testing.assert_close(potential.force()(z, z), -gradient)


def test_potential_couples_neighbouring_sites_only_and_confines():
    torch.manual_seed(0)
    potential = LatticePotential(16, "learned", terms=60)
    with torch.no_grad():
        potential.weight.normal_(0, 3)
    hessian = torch.autograd.functional.hessian(potential.energy, torch.randn(16))
    site = torch.arange(16) % 4
    apart = (site[:, None] - site[None]).abs()
    assert hessian[apart > 1].abs().max() == 0
    assert hessian[apart == 1].abs().min() > 0
    far = 1e4 * functional.normalize(torch.randn(200, 16), dim=-1)
    assert (potential.energy(2 * far) > potential.energy(far)).all()
    assert (potential.energy(far) > 0).all()


def test_learned_force_starts_small():
    torch.manual_seed(0)
    force = LearnedForce(8)
    z = torch.randn(50, 8)
    stiff = -force.log_stiffness.exp() * z
    assert (force.force()(z, z) - stiff).abs().mean() < 0.1


def test_gaussian_kl_equals_torch_distributions():
    mean, log_variance = torch.randn(3, 4), torch.randn(3, 4)
    ours = gaussian_kl(mean, log_variance, 0.3, 2.0)
    posterior = Normal(mean, torch.exp(0.5 * log_variance))
    torch.testing.assert_close(ours, kl_divergence(posterior, Normal(0.3, math.sqrt(2.0))))


def test_poisson_nll_equals_torch_distributions():
    log_rate, counts = torch.randn(6), torch.tensor([0.0, 1, 2, 3, 0, 5])
    reference = -torch.distributions.Poisson(log_rate.exp()).log_prob(counts)
    torch.testing.assert_close(poisson_nll(log_rate, counts) + torch.lgamma(counts + 1), reference)


def test_kl_of_driftwave_is_that_of_its_transitions_in_nats_per_trial():
    """In velocities: q = N(a v' + s m, s^2 sd^2) against the prior N(a v', s^2)."""
    model = informed()
    counts = visible()
    states, start, drive = model.encode(counts)
    out = model(counts, model.noise(4))
    mean, log_variance = start.chunk(2, -1)
    initial = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(-1)
    shift, log_spread = drive.chunk(2, -1)
    keep, spread = ou_coefficients(model.log_friction.exp(), 1.0)
    before = keep * torch.randn_like(shift)
    transition = kl_divergence(
        Normal(before + spread * shift, spread * (0.5 * log_spread).exp()), Normal(before, spread)
    ).sum((1, 2))
    assert states.shape == (4, 9, 6)
    torch.testing.assert_close(out.kl, initial + transition, rtol=1e-4, atol=1e-3)


def test_kl_of_released_is_that_of_its_transitions():
    model = released()
    counts, noise = visible(), model.noise(4)
    out = model(counts, noise)
    mean, log_variance = model.encode(counts)[1].chunk(2, -1)
    initial = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(-1)
    velocity = out.latent[:, :, 8:]
    means = velocity[:, 1:] - math.sqrt(1.1) * noise[2:].transpose(0, 1)
    prior = Normal(0.0, math.sqrt(1.1 / (1 - 0.45**2)))
    transition = kl_divergence(Normal(means, math.sqrt(1.1)), prior).sum((1, 2))
    torch.testing.assert_close(out.kl, initial + transition, rtol=1e-4, atol=1e-3)


def reference_energy(z: Tensor, kernel: Tensor) -> Tensor:
    """U(z) = sum_ijl c_il z_jl, c = conv1d(z, K), written as the reference's loops are."""
    lattice = z.reshape(len(z), 4, -1)
    c = functional.conv1d(lattice, kernel, padding=1)
    return (c[:, :, None] * lattice[:, None]).sum((1, 2, 3))


def reference_forward(model: Released, counts: Tensor, noise: Tensor, lag: int) -> Tensor:
    """Section by section, bin by bin, the gradient of U by autograd at every bin."""
    gru, h, states = model.encoder, torch.zeros(len(counts), 8), []
    bins, seen = SIZES.bins, SIZES.seen_bins
    for t in range(bins):
        x = counts[:, min(max(t - lag, 0), seen - 1)]
        drive = x @ gru.weight_ih_l0.T + gru.bias_ih_l0
        fed = h @ gru.weight_hh_l0.T + gru.bias_hh_l0
        reset = torch.sigmoid(drive[:, :8] + fed[:, :8])
        keep = torch.sigmoid(drive[:, 8:16] + fed[:, 8:16])
        h = (1 - keep) * torch.tanh(drive[:, 16:] + reset * fed[:, 16:]) + keep * h
        states.append(h)
    posterior = states[0] @ model.start.weight.T + model.start.bias
    z = posterior[:, :8] + torch.exp(posterior[:, 16:24] / 2) * noise[0]
    v = posterior[:, 8:16] + torch.exp(posterior[:, 24:] / 2) * noise[1]
    kernel = model.kernel / model.kernel.norm(dim=-1, keepdim=True)
    latents = [torch.cat([z, v], -1)]
    for t in range(1, bins):
        place = z.detach().requires_grad_()
        gradient = torch.autograd.grad(reference_energy(place, kernel).sum(), place)[0]
        z = z + 0.01 * v
        v = v - 0.01 * gradient
        v = (1 - 0.55) * v + math.sqrt(2 * 0.55) * noise[t + 1]
        latents.append(torch.cat([z, v], -1))
    y = torch.cat([torch.stack(latents, 1), torch.stack(states, 1)], -1)
    return reference_decoder(model, y)


def reference_decoder(model: Released, y: Tensor) -> Tensor:
    layer, width = model.mixer, y.shape[-1]
    attention = layer.self_attn
    q, k, v = (y @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, -1)
    heads = []
    for half in (slice(0, width // 2), slice(width // 2, width)):
        score = q[..., half] @ k[..., half].transpose(1, 2) / math.sqrt(width // 2)
        heads.append(torch.softmax(score, -1) @ v[..., half])
    mixed = torch.cat(heads, -1) @ attention.out_proj.weight.T + attention.out_proj.bias
    y = functional.layer_norm(y + mixed, (width,), layer.norm1.weight, layer.norm1.bias)
    inner = torch.relu(y @ layer.linear1.weight.T + layer.linear1.bias)
    fed = inner @ layer.linear2.weight.T + layer.linear2.bias
    y = functional.layer_norm(y + fed, (width,), layer.norm2.weight, layer.norm2.bias)
    return y @ model.readout.weight.T + model.readout.bias


@pytest.mark.parametrize("lag", [0, 1])
def test_released_forward_equals_a_plain_reimplementation(lag: int):
    model = released(lag=lag)
    with torch.no_grad():
        model.kernel.normal_()
    counts, noise = visible(), model.noise(4)
    ours = model(counts, noise).log_rate
    plain = reference_forward(model, counts, noise, lag)
    assert ours.shape == (4, SIZES.bins, SIZES.units_out)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)


def test_released_gradient_equals_autograd():
    torch.manual_seed(0)
    kernel = torch.randn(4, 4, 3, dtype=torch.float64)
    z = torch.randn(6, 20, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(reference_energy(z, kernel).sum(), z)[0]
    torch.testing.assert_close(z @ released_gradient(kernel, 20).T, gradient)


def test_forward_bins_are_run_on_by_the_dynamics_with_prior_noise():
    model = informed().eval()
    noise = model.noise(4)
    with torch.no_grad():
        latent = model(visible(), noise).latent.transpose(0, 1)
        z, v = latent[SIZES.seen_bins - 1].chunk(2, -1)
        path = baoab(
            z, v, noise[SIZES.seen_bins + 1 :], model.dynamics.force(), model.log_friction.exp()
        )
    torch.testing.assert_close(torch.cat(path, -1), latent[SIZES.seen_bins - 1 :])


@pytest.mark.parametrize(("encoder", "reach"), [("convolution", 3), ("gru", SIZES.seen_bins)])
def test_spikes_inform_latents_before_and_after_within_the_encoders_reach(encoder, reach):
    model = informed(encoder=encoder).eval()
    counts, noise = visible(), model.noise(4)
    changed = counts.clone()
    changed[:, SIZES.seen_bins - 1] += 3
    with torch.no_grad():
        moved = (model(changed, noise).latent - model(counts, noise).latent).abs().amax((0, 2))
    first = max(0, SIZES.seen_bins - 1 - reach)
    assert (moved[first:] > 1e-5).all()
    assert not moved[:first].any()


def test_without_langevin_the_decoder_sees_the_encoder_alone():
    model = informed(langevin=False, encoder_in_decoder=True).eval()
    counts = visible()
    out, again = model(counts, model.noise(4)), model(counts, model.noise(4))
    torch.testing.assert_close(out.log_rate, again.log_rate, rtol=0, atol=0)
    assert not out.kl.any()
    with pytest.raises(ValueError, match="encoder_in_decoder: true"):
        Params(langevin=False)


def test_weight_decay_spares_vectors_but_not_friction_and_stiffness():
    model = informed()
    spared = model.undecayed()
    assert "readout.bias" in spared
    assert not {"log_friction", "dynamics.log_stiffness", "readout.weight"} & spared


def test_decoder_sees_the_latents_alone_unless_asked():
    model, both = informed().eval(), informed(encoder_in_decoder=True).eval()
    assert model.readout.in_features == 16
    assert both.readout.in_features == 22
    out = model(visible(), model.noise(4))
    torch.testing.assert_close(out.log_rate, model.readout(model.mixer(out.latent)))


@pytest.mark.parametrize(
    "changes",
    [
        {"potential": "quadratic"},
        {"potential": "none"},
        {"nonconservative": True},
        {"innovations": False},
        {"transformer": False},
        {"encoder_in_decoder": True},
    ],
)
def test_every_ablation_gives_finite_gradients(changes: dict):
    model = informed(**changes)
    out = model(visible(), model.noise(4))
    (out.log_rate.exp().sum() + out.kl.sum()).backward()
    assert out.log_rate.shape == (4, 12, 7)
    for name, weight in model.named_parameters():
        assert weight.grad is None or torch.isfinite(weight.grad).all(), name


def test_thinned_parts_are_independent_poisson_counts():
    counts = torch.poisson(torch.full((400_000,), 1.3), torch.Generator().manual_seed(0))
    hidden = thin(counts, 0.3, torch.Generator().manual_seed(1))
    shown, target = hidden.shown * 0.7, hidden.counts * 0.3
    torch.testing.assert_close(shown + target, counts)
    assert shown.mean() == pytest.approx(0.7 * 1.3, rel=0.01)
    assert target.var() == pytest.approx(0.3 * 1.3, rel=0.02)
    assert abs(torch.corrcoef(torch.stack([shown, target]))[0, 1]) < 0.01


def test_coordinated_dropout_scores_hidden_entries_only():
    counts = torch.full((200_000,), 2.0)
    hidden = coordinated_dropout(counts, 0.3, torch.Generator().manual_seed(0))
    assert not ((hidden.shown > 0) & (hidden.exposure > 0)).any()
    assert hidden.shown.mean() == pytest.approx(2.0, rel=0.02)
    assert hidden.counts.mean() == pytest.approx(2.0, rel=0.02)
    assert hidden.exposure.mean() == pytest.approx(1.0, rel=0.02)
    also = coordinated_dropout(counts, 0.3, torch.Generator().manual_seed(0), also_shown=0.5)
    both = ((also.shown > 0) & (also.exposure > 0)).float().mean()
    assert both == pytest.approx(0.7 * 0.5, rel=0.02)
