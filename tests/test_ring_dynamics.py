"""Ring and dense recursions: what they do at the start, and equality with a plain loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from driftwave.inference import ring_dynamics
from driftwave.inference.ring_dynamics import (
    IdentityDynamics,
    RingDynamics,
    dense_scan,
    ring_matrix,
    ring_scan,
)

CHANNELS, SITES, TRIALS, BINS = 3, 7, 4, 6


def ring_parts(kind: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    width = CHANNELS * SITES
    shapes = [(TRIALS, width), (TRIALS, BINS, width), (CHANNELS, CHANNELS, 3), (CHANNELS,)]
    parts = [torch.randn(shape, dtype=kind) for shape in shapes]
    parts[2] *= 0.3
    return [part.requires_grad_() for part in parts]


def plain_ring(start: Tensor, drive: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """torch's circular convolution, bin by bin."""
    state, out = start.unflatten(-1, (CHANNELS, SITES)), []
    for now in drive.unflatten(-1, (CHANNELS, SITES)).unbind(1):
        padded = functional.pad(state, (1, 1), mode="circular")
        state = (functional.conv1d(padded, kernel, bias) + now).relu()
        out.append(state.flatten(1))
    return torch.stack(out, 1)


def assert_same(one: Tensor, other: Tensor, parts: list[Tensor]) -> None:
    tolerance = 1e-9 if one.dtype == torch.float64 else 1e-4
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(one, other, **close)
    weight = torch.randn(one.shape, dtype=one.dtype)
    gradients = [torch.autograd.grad((weight * x).sum(), parts) for x in (one, other)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, **close)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_ring_against_a_plain_loop(kind: torch.dtype):
    parts = ring_parts(kind)
    assert_same(ring_scan(*parts, SITES), plain_ring(*parts), parts)


def test_ring_without_compiled_code(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ring_dynamics, "_kernels", lambda: None)
    parts = ring_parts()
    assert_same(ring_scan(*parts, SITES), plain_ring(*parts), parts)


def test_gradients_of_the_ring():
    assert torch.autograd.gradcheck(lambda *parts: ring_scan(*parts, SITES), ring_parts())


def test_gradients_of_the_dense_recursion():
    torch.manual_seed(1)
    shapes = [(3, 5), (3, 4, 5), (5, 5), (5,)]
    parts = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(dense_scan, parts)


def test_strided_drives_are_read_right():
    start, drive, kernel, bias = ring_parts()
    turned = drive.detach().transpose(0, 1).contiguous().transpose(0, 1)
    found = ring_scan(start, turned, kernel, bias, SITES)
    torch.testing.assert_close(found, ring_scan(start, drive, kernel, bias, SITES))


def bump(width: int) -> Tensor:
    """One trial with activity at three neighbouring places of the first ring."""
    start = torch.zeros(1, width)
    start[0, 2:5] = torch.tensor([0.5, 1.0, 0.25])
    return start


def test_the_wave_start_moves_a_pulse_one_site_per_bin():
    dynamics = RingDynamics(CHANNELS, SITES)
    width = dynamics.width
    states = dynamics(bump(width), torch.zeros(1, 2 * SITES, width)).detach()
    for t in range(2 * SITES):
        rings = bump(width).unflatten(-1, (CHANNELS, SITES)).roll(t + 1, -1)
        assert torch.equal(states[:, t], rings.flatten(1))


def test_what_enters_a_ring_travels_and_stays_on_it():
    dynamics = RingDynamics(CHANNELS, SITES)
    drive = torch.zeros(1, 5, dynamics.width)
    drive[0, 1, SITES] = 2.0
    states = dynamics(torch.zeros(1, dynamics.width), drive).detach()
    rings = states.unflatten(-1, (CHANNELS, SITES))[0]
    assert rings.sum() == 2.0 * 4
    assert [int(rings[t, 1].argmax()) for t in range(1, 5)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "dynamics", [IdentityDynamics(CHANNELS * SITES), RingDynamics(CHANNELS, SITES, "identity")]
)
def test_the_twins_keep_a_pulse_in_its_place(dynamics: torch.nn.Module):
    states = dynamics(bump(CHANNELS * SITES), torch.zeros(1, 9, CHANNELS * SITES)).detach()
    assert torch.equal(states, bump(CHANNELS * SITES)[:, None].expand_as(states))


def test_activity_is_never_negative():
    free = torch.randn(5, 21)
    for dynamics in (RingDynamics(CHANNELS, SITES), IdentityDynamics(21)):
        start = dynamics.start_from(free)
        assert (start >= 0).all()
        assert (dynamics(start, torch.randn(5, 8, 21)) >= 0).all()


def test_a_diverging_trial_shows():
    start, drive, kernel, bias = (part.detach() for part in ring_parts(torch.float32))
    drive[1, 2, 0] = float("nan")
    states = ring_scan(start, drive, kernel, bias, SITES)
    assert torch.isnan(states[1, 2:]).any()
    assert torch.isfinite(states[[0, 2, 3]]).all()


def test_the_matrix_of_a_shift_is_a_permutation():
    matrix = ring_matrix(RingDynamics(CHANNELS, SITES).kernel.detach(), SITES)
    assert (matrix.sum(0) == 1).all()
    assert (matrix.sum(1) == 1).all()
    assert matrix[1, 0] == 1
    assert matrix[0, SITES - 1] == 1
