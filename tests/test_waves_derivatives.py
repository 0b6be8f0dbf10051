"""Divergence, curl and winding against closed forms, in gaps and in noise."""

from __future__ import annotations

import time

import numpy as np
import pytest

from driftwave.phase.derivatives import field_derivatives
from driftwave.phase.electrodes import place
from driftwave.phase.gradient import gradient_operator, wrap
from driftwave.phase.winding import SECTORS, Plaquettes
from waves_cases import PITCH, grid

CENTRE = np.array([1.83, 1.74])


def turned(position: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (position - CENTRE) @ turn + CENTRE


RNG = np.random.default_rng(7)
LAYOUTS = {
    "10x10": grid(),
    "holes": grid(corners=False, missing=8, seed=2),
    "8x4": grid(8, 4),
    "unequal": grid(10, 6) * [1.0, 2.0],
    "turned": turned(grid(corners=False, missing=4), 30),
    "scattered": RNG.uniform(0, 3.6, (96, 2)),
    "jittered": grid() + RNG.normal(0, 0.08, (100, 2)),
}
NAMES = pytest.mark.parametrize("name", LAYOUTS)


def derivatives_of(position: np.ndarray, phase: np.ndarray):
    """Places of the usable electrodes, divergence and curl of a phase (electrode,)."""
    electrodes = place(position)
    operator = gradient_operator(electrodes)
    divergence, curl = field_derivatives(electrodes)(operator(wrap(phase[:, None])))
    return position[operator.usable], divergence[:, 0], curl[:, 0]


def polar(position: np.ndarray, centre=CENTRE) -> tuple[np.ndarray, np.ndarray]:
    away = position - centre
    return np.hypot(*away.T), np.arctan2(away[:, 1], away[:, 0])


def fine(kind: str) -> np.ndarray:
    """Electrodes 0.1 mm apart, for closed forms that bend on the scale of a Utah array's pitch."""
    position = grid(24, 24) / 4
    if kind == "jittered":
        position = position + np.random.default_rng(3).normal(0, 0.015, position.shape)
    return position


@NAMES
def test_quadratic_phase_is_exact_up_to_the_border(name):
    position = LAYOUTS[name]
    hessian = np.array([[0.6, 0.25], [0.25, -0.35]])
    away = position - CENTRE
    phase = position @ [1.0, -0.5] + 0.5 * np.einsum("ni,ij,nj->n", away, hessian, away)
    _, divergence, curl = derivatives_of(position, phase)
    known = np.isfinite(divergence)
    assert known.mean() > 0.95
    np.testing.assert_allclose(divergence[known], np.trace(hessian), atol=1e-8)
    np.testing.assert_allclose(curl[known], 0, atol=1e-8)


@NAMES
def test_planes_and_synchrony_have_neither_divergence_nor_curl(name):
    position = LAYOUTS[name]
    for phase in (position @ [2.0, 1.0], np.full(len(position), 0.4)):
        _, divergence, curl = derivatives_of(position, phase)
        known = np.isfinite(divergence)
        np.testing.assert_allclose(divergence[known], 0, atol=1e-9)
        np.testing.assert_allclose(curl[known], 0, atol=1e-9)


@pytest.mark.parametrize("kind", ["grid", "jittered"])
@pytest.mark.parametrize("sign", [1, -1])
def test_source_and_sink_have_divergence_k_over_r(kind, sign):
    position, k = fine(kind), 3.0
    centre = position.mean(axis=0) + 0.013
    place_of, divergence, curl = derivatives_of(position, -sign * k * polar(position, centre)[0])
    radius = polar(place_of, centre)[0]
    ring = (radius > 0.4) & (radius < 1.0)
    expected = -sign * k / radius
    error = np.abs(divergence - expected)[ring] / np.abs(expected[ring])
    assert np.median(error) < 0.03
    assert error.max() < 0.2
    assert np.abs(curl[ring]).max() < (1e-9 if kind == "grid" else 0.2) * np.abs(expected).max()
    # The source itself is where divergence is strongest.
    nearest = place_of[np.nanargmin(sign * divergence)]
    assert np.hypot(*(nearest - centre)) < 0.15


@pytest.mark.parametrize("kind", ["grid", "jittered"])
@pytest.mark.parametrize("charge", [1, -1])
def test_rotation_has_no_curl_or_divergence_away_from_its_centre(kind, charge):
    position = fine(kind)
    centre = position.mean(axis=0) + 0.05
    place_of, divergence, curl = derivatives_of(position, -charge * polar(position, centre)[1])
    radius = polar(place_of, centre)[0]
    far = (radius > 0.5) & (radius < 1.0)
    at_centre = np.abs(curl[radius < 0.15]).max()
    assert np.abs(curl[far]).max() < 0.02 * at_centre
    assert np.abs(divergence[far]).max() < 0.02 * at_centre
    total = np.nansum(curl[radius < 0.5]) * 0.1**2
    if kind == "grid":
        assert total == pytest.approx(-2 * np.pi * charge, rel=0.02)
    assert np.sign(total) == -charge


def test_divergence_is_the_laplacian_inside_a_grid():
    """Centred differences of centred differences are the Laplacian over two steps."""
    position = grid(9, 9)
    phase = np.random.default_rng(1).uniform(-0.5, 0.5, 81)
    _, divergence, _ = derivatives_of(position, phase)
    sheet, found = phase.reshape(9, 9), divergence.reshape(9, 9)
    wide = (sheet[2:-2, 4:] + sheet[2:-2, :-4] + sheet[4:, 2:-2] + sheet[:-4, 2:-2]) / 4
    np.testing.assert_allclose(found[2:-2, 2:-2], (wide - sheet[2:-2, 2:-2]) / PITCH**2)


@pytest.mark.parametrize("name", ["10x10", "holes", "scattered"])
def test_nan_costs_its_own_electrode_only_and_leaves_quadratics_exact(name):
    position = LAYOUTS[name]
    hessian = np.array([[0.6, 0.25], [0.25, -0.35]])
    phase = 0.5 * np.einsum("ni,ij,nj->n", position, hessian, position)
    frames = np.repeat(phase[:, None], 4, axis=1)
    electrodes = place(position)
    operator = gradient_operator(electrodes)
    wanted = np.array([[2.4, 2.0], [0.8, 2.0]])
    lost = np.argmin(np.linalg.norm(position[:, None] - wanted, axis=-1), axis=0)
    frames[lost[0], 1] = frames[lost[1], 2] = np.nan
    frames[:, 3] = np.nan
    derivatives = field_derivatives(electrodes)
    divergence, curl = derivatives(operator(wrap(frames)), frames)
    for frame, gone in ((1, lost[0]), (2, lost[1])):
        unknown = np.isnan(divergence[:, frame]) & ~np.isnan(divergence[:, 0])
        assert unknown[operator.usable == gone].all()
        assert unknown.sum() <= 2
        known = np.isfinite(divergence[:, frame])
        np.testing.assert_allclose(divergence[known, frame], np.trace(hessian), atol=1e-8)
        np.testing.assert_allclose(curl[known, frame], 0, atol=1e-8)
    assert np.isnan(divergence[:, 3]).all()
    assert np.isnan(curl[:, 3]).all()


def test_nan_beside_the_border_is_told_from_the_border_by_the_phase():
    position = grid()
    hessian = np.array([[0.6, 0.25], [0.25, -0.35]])
    phase = 0.5 * np.einsum("ni,ij,nj->n", position, hessian, position)[:, None]
    phase[41] = np.nan
    electrodes = place(position)
    gradient = gradient_operator(electrodes)(wrap(phase))
    assert np.isnan(gradient[0, 40, 0])
    divergence, _ = field_derivatives(electrodes)(gradient, phase)
    known = np.isfinite(divergence)
    assert known.sum() >= 96
    np.testing.assert_allclose(divergence[known], np.trace(hessian), atol=1e-8)


def test_on_a_line_divergence_is_the_second_derivative():
    along = np.append(np.arange(16) * 0.1, 1.9)
    axis = np.array([0.6, 0.8])
    position = along[:, None] * axis
    phase = (0.5 * 3.0 * along**2)[:, None]
    electrodes = place(position)
    operator = gradient_operator(electrodes)
    divergence, curl = field_derivatives(electrodes)(operator(wrap(phase)))
    np.testing.assert_allclose(divergence, 3.0, atol=1e-9)
    np.testing.assert_array_equal(curl, 0)
    plaquettes = Plaquettes.of(electrodes)
    assert len(plaquettes) == 0
    assert plaquettes(phase).shape == plaquettes.confirmed(phase).shape == (0, 1)


def vortex(position: np.ndarray, centre: np.ndarray, charge: int) -> np.ndarray:
    return wrap(-charge * polar(position, centre)[1])[:, None]


def test_cells_of_a_grid_with_a_hole_cover_it_once():
    position = np.delete(grid(5, 5), 12, axis=0)
    plaquettes = Plaquettes.of(place(position))
    assert len(plaquettes) == 12 + 4 + 1
    area = 0.0
    for cell in plaquettes.corners:
        x, y = position[cell].T
        own = 0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
        assert own > 0
        area += own
    assert area == pytest.approx((4 * PITCH) ** 2)


@NAMES
def test_raw_charge_is_exact_wherever_the_centre_lies(name):
    position = LAYOUTS[name]
    plaquettes = Plaquettes.of(place(position))
    rng = np.random.default_rng(11)
    low, high = position.min(axis=0), position.max(axis=0)
    for _ in range(20):
        centre = rng.uniform(low + 0.3 * (high - low), high - 0.3 * (high - low))
        for charge in (1, -1):
            found = plaquettes(vortex(position, centre, charge))
            assert found.dtype == np.int8
            assert found.sum() == charge
            assert np.abs(found).sum() == 1
            reach = np.linalg.norm(
                position[plaquettes.corners[found[:, 0] != 0][0]] - centre, axis=1
            )
            assert np.hypot(*(plaquettes.centre[found[:, 0] != 0][0] - centre)) <= reach.max()


@pytest.mark.parametrize("name", ["10x10", "turned", "scattered", "jittered"])
@pytest.mark.parametrize("charge", [1, -1, 2, -2])
def test_confirmed_charge_is_exact_at_off_grid_centres(name, charge):
    position = LAYOUTS[name]
    plaquettes = Plaquettes.of(place(position))
    rng = np.random.default_rng(13)
    middle = position.mean(axis=0)
    for _ in range(10):
        centre = middle + rng.uniform(-0.45, 0.45, 2)
        frames = np.concatenate(
            [vortex(position, centre, charge) + turn for turn in (0.0, 1.0, 2.5)], axis=1
        )
        if not plaquettes.confirmable[plaquettes(frames)[:, 0] != 0].all():
            assert name == "scattered"
            continue
        found = plaquettes.confirmed(frames)
        if name in ("10x10", "turned") or abs(charge) == 1:
            np.testing.assert_array_equal(found.sum(axis=0), charge)
            np.testing.assert_array_equal(np.abs(found).sum(axis=0), abs(charge))
        where = found[:, 0] != 0
        assert (np.linalg.norm(plaquettes.centre[where] - centre, axis=1) < 2 * PITCH).all()
        around = plaquettes.around(frames)
        assert np.abs(around).max() == abs(charge)
        assert around[np.abs(around) == abs(charge)][0] == charge


def test_confirmed_spirals_keep_their_charge_under_a_plane_and_noise():
    position = grid(corners=False)
    plaquettes = Plaquettes.of(place(position))
    rng = np.random.default_rng(17)
    right = 0
    for _ in range(200):
        centre = 1.8 + rng.uniform(-0.4, 0.4, 2)
        radius, angle = polar(position, centre)
        phase = -angle - 1.5 * radius + position @ rng.normal(0, 0.3, 2)
        phase = wrap(phase + rng.normal(0, 0.3, len(phase)))[:, None]
        right += int(plaquettes.confirmed(phase).sum() == 1)
    assert right >= 190


def test_opposite_charges_side_by_side_are_not_confirmed():
    position = grid()
    plaquettes = Plaquettes.of(place(position))
    one, other = np.array([1.8, 1.85]), np.array([2.2, 1.85])
    phase = vortex(position, one, 1) + vortex(position, other, -1)
    assert np.abs(plaquettes(wrap(phase))).sum() == 2
    assert np.abs(plaquettes.confirmed(wrap(phase))).sum() == 0


def test_noise_is_full_of_charges_but_not_of_confirmed_ones():
    position = grid(corners=False)
    plaquettes = Plaquettes.of(place(position))
    phase = np.random.default_rng(19).uniform(-np.pi, np.pi, (96, 4000)).astype(np.float32)
    raw, confirmed = plaquettes(phase), plaquettes.confirmed(phase)
    assert (raw != 0).any(axis=0).mean() == 1
    assert (raw != 0).mean() == pytest.approx(1 / 3, abs=0.01)
    assert (confirmed != 0).any(axis=0).mean() < 0.03
    assert abs((confirmed > 0).sum() - (confirmed < 0).sum()) < 30


def test_nan_gives_no_charge():
    position = grid()
    plaquettes = Plaquettes.of(place(position))
    phase = vortex(position, CENTRE, 1)
    cell = np.flatnonzero(plaquettes(phase)[:, 0])[0]
    broken = phase.copy()
    broken[plaquettes.corners[cell, 2]] = np.nan
    assert not plaquettes(broken).any()
    broken = phase.copy()
    broken[plaquettes.loop[cell, 4]] = np.nan
    assert plaquettes(broken).sum() == 1
    assert not plaquettes.confirmed(broken).any()
    assert not plaquettes(np.full_like(phase, np.nan)).any()


def test_loops_lie_two_pitches_out_and_close():
    position = grid(12, 9)
    electrodes = place(position)
    plaquettes = Plaquettes.of(electrodes)
    assert plaquettes.confirmable.sum() == (11 - 4) * (8 - 4)
    for centre, loop in zip(plaquettes.centre, plaquettes.loop, strict=True):
        if loop[0] >= 0:
            away = position[loop] - centre
            assert len(set(loop)) == SECTORS
            assert np.hypot(*away.T).min() >= 2 * PITCH
            steps = np.diff(np.unwrap(np.arctan2(away[:, 1], away[:, 0])))
            assert (steps > 0).all()
            assert (np.linalg.norm(np.diff(position[loop], axis=0), axis=1) < 1.5 * PITCH).all()


@pytest.mark.slow
def test_ten_minutes_of_a_utah_array_take_seconds():
    position = grid(corners=False)
    electrodes = place(position)
    operator, derivatives = gradient_operator(electrodes), field_derivatives(electrodes)
    plaquettes = Plaquettes.of(electrodes)
    phase = np.random.default_rng(0).uniform(-np.pi, np.pi, (96, 14400)).astype(np.float32)
    for warm in (True, False):
        part = phase[:, :100] if warm else phase
        start = time.process_time()
        derivatives(operator(part))
        plaquettes.confirmed(part)
        spent = time.process_time() - start
    assert spent < 0.5
