"""Optical flow of phase: direction, speed, filling, critical points, tracks, the whole analysis."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import block_diag, csr_matrix, identity, kron
from scipy.sparse.linalg import spsolve

from driftwave.errors import InputError
from driftwave.flow import horn_schunck as solver
from driftwave.flow.critical_points import PATTERNS, charge_of, critical_points, join, pattern_of
from driftwave.flow.horn_schunck import Derivatives, horn_schunck
from driftwave.flow.mesh import mesh_of
from driftwave.flow.tracks import tracks_of
from driftwave.phase.electrodes import place
from driftwave.waves.optical_flow import Params, analyse
from waves_cases import PITCH, grid, noise, phase_of, recording_of

RATE = 250.0
CENTRE = np.array([2.1, 1.5])


def irregular(count: int = 60, seed: int = 0) -> np.ndarray:
    """Places in a square of 4 mm at least 0.25 mm apart."""
    rng = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    while len(chosen) < count:
        one = rng.uniform(0, 4, 2)
        if all(np.hypot(*(one - other)) > 0.25 for other in chosen):
            chosen.append(one)
    return np.array(chosen)


def moving(position, kind, frames=17, **wave) -> np.ndarray:
    """Phase (electrode, frame) of a wave at 12 Hz."""
    time = np.arange(frames) / RATE
    return 2 * np.pi * 12 * time + phase_of(kind, position, frequency=12, **wave)[:, None]


def flow_of(position, phase, alpha=1.0, **options):
    flow = horn_schunck(place(position), alpha=alpha, **options)
    return flow(flow.derivatives(phase, RATE)), flow


LAYOUTS = {
    "grid": grid(),
    "without corners": grid(corners=False),
    "10 missing": grid(corners=False, missing=10),
    "8 x 4": grid(8, 4),
    "irregular": irregular(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("speed", [100.0, 400.0])
def test_flow_of_a_plane_points_where_it_travels_at_its_speed(layout, speed):
    """A peer's flow of phase points backwards at twice the speed."""
    position = LAYOUTS[layout]
    for direction in np.arange(8) * 45 + 10.0:
        phase = moving(position, "planar", speed=speed, direction=direction)
        flow, _ = flow_of(position, phase)
        angle = np.degrees(np.arctan2(flow[1], flow[0])) - direction
        assert np.abs((angle + 180) % 360 - 180).max() < 0.5
        assert np.abs(np.hypot(*flow) / speed - 1).max() < 0.01


def test_flow_equals_the_normal_equations_solved_directly():
    rng = np.random.default_rng(1)
    position = grid(6, 5, missing=3)
    phase = rng.uniform(-np.pi, np.pi, (len(position), 6))
    alpha = 0.7
    flow, method = flow_of(position, phase, alpha=alpha)
    d = method.derivatives(phase, RATE)
    mesh = method.mesh
    n = len(mesh)
    start = np.repeat(np.arange(n), mesh.neighbour.shape[1])
    link = csr_matrix((mesh.weight.ravel(), (start, mesh.neighbour.ravel())), shape=(n, n))
    laplacian = csr_matrix(np.diag(np.asarray(link.sum(1)).ravel())) - link
    for frame in range(flow.shape[2]):
        f, t = d.space[..., frame].astype(float), d.time[:, frame].astype(float)
        scale = (f[:, d.known] ** 2).sum(0).mean()
        data = block_diag([np.outer(f[:, i], f[:, i]) / scale for i in range(n)])
        smooth = kron(alpha**2 * laplacian + solver.RIDGE * identity(n), np.eye(2))
        right = -(f * t / scale).T.ravel()
        expected = spsolve((data + smooth).tocsc(), right).reshape(n, 2).T
        error = np.linalg.norm(flow[..., frame] - expected) / np.linalg.norm(expected)
        assert error < 0.01


def test_a_frames_flow_does_not_depend_on_the_frames_beside_it():
    rng = np.random.default_rng(2)
    position = grid(corners=False)
    phase = rng.uniform(-np.pi, np.pi, (len(position), 40))
    flow, _ = flow_of(position, phase)
    part, _ = flow_of(position, phase[:, 9:30])
    np.testing.assert_allclose(flow[..., 9:29], part, rtol=1e-4, atol=1e-2)


def test_places_without_an_electrode_are_filled_and_nan_counts_as_missing():
    position = grid()
    phase = moving(position, "planar", speed=200.0, direction=30.0)
    phase[[12, 55]] = np.nan
    flow, method = flow_of(position, phase)
    assert np.isfinite(flow).all()
    assert np.abs(np.hypot(*flow) / 200 - 1).max() < 0.01
    holes, method = flow_of(
        np.delete(position, [12, 55, 0], axis=0), np.delete(phase, [12, 55, 0], axis=0)
    )
    assert len(method.mesh) == 100
    assert np.abs(np.hypot(*holes) / 200 - 1).max() < 0.01


def test_a_field_without_gradient_has_no_flow():
    position = grid(5, 5)
    flow, _ = flow_of(position, np.tile(np.arange(6) * 0.3, (25, 1)))
    assert np.isnan(flow).all()


def test_charbonnier_withstands_a_broken_electrode():
    position = grid()
    phase = moving(position, "planar", speed=150.0, direction=70.0)
    phase[44] += np.random.default_rng(0).uniform(-np.pi, np.pi, phase.shape[1])
    errors = []
    for robust in (False, True):
        flow, _ = flow_of(position, phase, robust=robust)
        errors.append(np.abs(np.hypot(*flow) / 150 - 1).mean())
    assert errors[1] < 0.8 * errors[0]


# Cobrawap calls the first six of these saddles.
FIELDS = {
    "radial_out": [[1, 0], [0, 1]],
    "radial_in": [[-1, 0], [0, -1]],
    "rotating_ccw": [[0, -1], [1, 0]],
    "rotating_cw": [[0, 1], [-1, 0]],
    "spiral_out": [[1, -1], [1, 1]],
    "spiral_in": [[-1, 1], [-1, -1]],
    "saddle": [[1, 0], [0, -1]],
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("layout", ["without corners", "10 missing", "irregular"])
def test_seven_analytic_flows(name, layout):
    """Case R3: class, one zero, its place; about centres off the grid."""
    mesh = mesh_of(place(LAYOUTS[layout]))
    for centre in (CENTRE, np.array([1.33, 2.47]), np.array([2.61, 2.2])):
        flow = np.array(FIELDS[name], float) @ (mesh.position - centre).T
        found = critical_points(flow[..., None], mesh)
        assert [PATTERNS[i] for i in pattern_of(found.jacobian)] == [name]
        np.testing.assert_allclose(found.position[0], centre, atol=1e-3)
        np.testing.assert_allclose(found.jacobian[0], FIELDS[name], atol=1e-3)
        turns = {"rotating_ccw": 1, "rotating_cw": -1, "spiral_out": 1, "spiral_in": -1}
        assert charge_of(found.jacobian)[0] == turns.get(name, 0)


@pytest.mark.parametrize("name", FIELDS)
def test_seven_phase_fields(name):
    """The same from phase: the zero of its flow within a pitch of the centre, the class right."""
    position = grid(corners=False)
    away = position - CENTRE
    distance, angle = np.hypot(*away.T), np.arctan2(away[:, 1], away[:, 0])
    k = 0.8
    field = {
        "radial_out": -k * distance,
        "radial_in": k * distance,
        "rotating_ccw": -angle,
        "rotating_cw": angle,
        "spiral_out": -angle - k * distance,
        "spiral_in": angle + k * distance,
        "saddle": -0.3 * (away[:, 0] ** 2 - away[:, 1] ** 2),
    }[name]
    phase = 2 * np.pi * 12 * np.arange(4) / RATE + field[:, None]
    flow, method = flow_of(position, phase)
    found = critical_points(flow[..., :1], method.mesh)
    assert [PATTERNS[i] for i in pattern_of(found.jacobian)] == [name]
    assert np.hypot(*(found.position[0] - CENTRE)) < PITCH


def test_a_plane_has_no_critical_point():
    position = grid(corners=False)
    flow, method = flow_of(position, moving(position, "planar", speed=150.0, direction=20.0))
    assert len(critical_points(flow, method.mesh)) == 0


def test_tracks_follow_points_and_break_where_they_must():
    mesh = mesh_of(place(grid()))
    parts = []
    for frame in range(60):
        if 25 <= frame < 28 or 40 <= frame < 50:
            continue
        centre = np.array([1.0 + 0.02 * frame, 2.1])
        turning = np.array(FIELDS["rotating_cw"], float) @ (mesh.position - centre).T
        parts.append(critical_points(turning[..., None], mesh).shifted(frame, 0, 1))
    points = join(parts)
    whole = np.zeros(60, int)
    tracks = tracks_of(points, whole, reach=0.4, gap=4, shortest=8)
    assert [(t.start, t.stop) for t in tracks] == [(0, 40), (50, 60)]
    assert all(PATTERNS[t.pattern] == "rotating_cw" and t.charge == -1 for t in tracks)
    cut = tracks_of(points, (np.arange(60) >= 20).astype(int), reach=0.4, gap=4, shortest=8)
    assert [(t.start, t.stop) for t in cut] == [(0, 20), (20, 40), (50, 60)]


WAVES = [
    (3.0, 5.0, "planar", 0, 70.0, 120.0),
    (8.0, 10.0, "rotating", 1, 0.0, 120.0),
    (13.0, 15.0, "radial", 1, 0.0, 110.0),
    (18.0, 20.0, "radial", -1, 0.0, 110.0),
]


def simulated(*, waves=True, seconds=24.0, seed=0, gap=None):
    rng = np.random.default_rng(seed)
    position = grid(corners=False)
    time = np.arange(round(seconds * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=1.0, shared=0.9, power=1.0)
    for start, stop, kind, sign, direction, speed in WAVES if waves else []:
        phase = phase_of(
            kind, position, frequency=12, speed=speed, direction=direction, centre=CENTRE, sign=sign
        )
        inside = (time >= start) & (time < stop)
        field[:, inside] += 2 * np.cos(2 * np.pi * 12 * time[inside] + phase[:, None])
    lfp = 100 * field.T
    if gap is not None:
        lfp[(time >= gap[0]) & (time < gap[1])] = np.nan
    return recording_of(lfp, position, RATE, start=5.0)


QUICK = Params(surrogates=19, surrogate_length=20.0, bootstrap=40)


@pytest.fixture(scope="module")
def result():
    return analyse(simulated(), None, QUICK, seed=0)


@pytest.mark.slow
def test_waves_in_noise_are_found_with_class_place_and_direction(result):
    expected = ["planar", "rotating_ccw", "radial_out", "radial_in"]
    assert result["class"].values.tolist() == expected
    for i, wave in enumerate(WAVES):
        assert abs(float(result["start"][i]) - 5 - wave[0]) < 0.25
        assert abs(float(result["stop"][i]) - 5 - wave[1]) < 0.25
    assert result["p"].values.max() <= 0.1
    assert float(result["direction"][0]) == pytest.approx(70, abs=3)
    assert 0 < float(result["direction_high"][0] - result["direction_low"][0]) < 15
    assert float(result["speed"][0]) == pytest.approx(120, rel=0.25)
    centres = np.stack([result["centre_x"], result["centre_y"]], axis=1)[1:]
    assert np.hypot(*(centres - CENTRE).T).max() < PITCH
    np.testing.assert_array_equal(result["charge"], [0, 1, 0, 0])


def test_dense_measures_follow_the_wave(result):
    inside = result.sel(time=slice(8.5, 9.5))
    assert float(inside["flow_coherence"].median()) > 0.9
    turned = (inside["flow_direction"].values - 70 + 180) % 360 - 180
    assert abs(np.median(turned)) < 5
    assert result.attrs["null"] == "zero-lag cross-spectrum surrogates"


def test_chunks_change_nothing():
    recording = simulated()
    whole, parts = (
        analyse(
            recording, None, Params(surrogates=0, chunk=chunk, keep_flow=True), seed=0
        ).compute()
        for chunk in (60.0, 5.0)
    )
    assert "p" not in whole
    inner = slice(6.0, 28.0)
    for name in ("flow_x", "flow_y", "flow_coherence", "flow_speed"):
        one, other = (r[name].sel(time=inner).values for r in (whole, parts))
        scale = np.abs(one) + np.abs(one).mean()
        assert np.quantile(np.abs(one - other) / scale, 0.999) < 1e-3
    assert whole["class"].values.tolist() == parts["class"].values.tolist()
    np.testing.assert_allclose(whole["start"], parts["start"])


def test_gaps_are_left_out():
    found = analyse(simulated(gap=(3.8, 4.2)), None, Params(surrogates=0), seed=0)
    inside = found.sel(time=slice(8.9, 9.1))
    assert np.isnan(inside["flow_coherence"]).all()
    assert np.isnan(inside["flow_speed"]).all()
    crossing = (found["start"] < 8.8) & (found["stop"] > 9.2)
    assert not crossing.any()


@pytest.mark.slow
def test_noise_without_waves_has_few_events():
    found = analyse(simulated(waves=False, seconds=40.0, seed=3), None, QUICK, seed=1)
    assert (found["q"] <= 0.05).sum() == 0


def test_a_synchronous_field_is_called_so():
    time = np.arange(round(10 * RATE)) / RATE
    rng = np.random.default_rng(0)
    position = grid(6, 6)
    common = np.cos(2 * np.pi * 12 * time)[:, None]
    lfp = common + 0.1 * rng.normal(size=(len(time), len(position)))
    found = analyse(recording_of(lfp, position, RATE), None, Params(surrogates=0), seed=0)
    length = found["stop"] - found["start"]
    together = found["class"] == "synchronous"
    assert float(length[together].sum()) > 8
    assert length[~together].sum() < 0.5


def test_bad_input_is_refused():
    recording = simulated(seconds=1.0, waves=False)
    with pytest.raises(InputError, match="at least"):
        analyse(recording, None, Params(), seed=0)


def test_derivatives_have_the_sign_of_the_phase():
    position = grid(4, 4)
    phase = moving(position, "planar", speed=100.0, direction=0.0)
    d: Derivatives = horn_schunck(place(position), alpha=1.0).derivatives(phase, RATE)
    np.testing.assert_allclose(d.time, 2 * np.pi * 12, rtol=1e-4)
    np.testing.assert_allclose(d.space[0], -2 * np.pi * 12 / 100, rtol=1e-3)
