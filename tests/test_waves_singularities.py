"""Phase singularities: found with charge and radius, followed, and told from noise."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.errors import InputError
from driftwave.frame_fits.loops import in_order, spiral_finder
from driftwave.frame_fits.sketch import SketchedSpectrum
from driftwave.frame_fits.tracks import link, summarise
from driftwave.nulls.cross_spectrum import CrossSpectrum
from driftwave.phase.electrodes import place
from driftwave.waves import singularities
from waves_cases import PITCH, grid, noise, phase_of, recording_of

RATE = 250.0


def vortices(position, frames, centres):
    """Unit phasors (electrode, frame) of turning vortices: (charge, path (frame, 2)) each."""
    phase = np.repeat(2 * np.pi * 12 * np.arange(frames)[None] / 120, len(position), axis=0)
    for charge, path in centres:
        away = position[:, None] - path[None]
        phase -= charge * np.arctan2(away[..., 1], away[..., 0])
    return np.exp(1j * phase).astype(np.complex64)


def finder(position, smoothing=1.0):
    return spiral_finder(place(position), largest=None, step=1, smoothing=smoothing)


def followed(found, distance=2 * PITCH, missed=2):
    track = link(found, distance=distance, missed=missed)
    return track, summarise(found, track)


@pytest.mark.parametrize("charge", [1, -1])
@pytest.mark.parametrize("noisy", [0.0, 0.5])
def test_a_drifting_vortex_is_followed(charge, noisy):
    position = grid(corners=False, missing=5)
    rng = np.random.default_rng(0)
    path = np.linspace([1.0, 2.4], [2.6, 1.2], 200)
    signal = vortices(position, 200, [(charge, path)])
    signal += (
        noisy * np.sqrt(0.5) * (rng.normal(size=signal.shape) + 1j * rng.normal(size=signal.shape))
    )
    found = finder(position).find(signal)
    track, tracks = followed(found)
    longest = int(np.argmax(tracks["lifetime"]))
    inside = track == longest
    frame = found["frame"][inside]
    error = np.hypot(found["x"][inside] - path[frame, 0], found["y"][inside] - path[frame, 1])
    assert np.median(error) < PITCH / 2
    assert np.quantile(error, 0.95) < PITCH
    assert tracks["lifetime"][longest] >= 180
    assert tracks["charge"][longest] == charge
    assert tracks["radius"][longest] >= 3 * PITCH
    assert (found["charge"] == charge).mean() > 0.97


def test_a_pair_is_born_and_annihilated():
    position = grid(20, 14)
    middle, height = 3.8, 2.6
    apart = 2.4 * np.sin(np.linspace(0, np.pi, 160))
    one = np.column_stack([middle - apart, np.full(160, height)])
    other = np.column_stack([middle + apart, np.full(160, height)])
    found = finder(position, smoothing=0).find(vortices(position, 160, [(1, one), (-1, other)]))
    _, tracks = followed(found)
    alive = tracks["lifetime"] >= 10
    assert sorted(tracks["charge"][alive].tolist()) == [-1, 1]
    birth, death = tracks["birth"][alive], tracks["death"][alive]
    # Two pitches apart neither has a loop of its own.
    assert np.abs(np.diff(birth)).max() <= 3
    assert (birth > 0).all()
    assert (birth < 60).all()
    np.testing.assert_allclose(birth + death, 159, atol=4)
    left = tracks["x"][alive][np.argmax(tracks["charge"][alive])]
    assert left < middle


@pytest.mark.parametrize("charge", [1, -1])
@pytest.mark.parametrize("pull", [-0.8, 0.0, 0.8])
def test_charges_of_disc_spirals_are_exact(charge, pull):
    position = grid(21, 21)
    position = position[np.hypot(*(position - 4.0).T) <= 4.0]
    centre = np.array([4.13, 3.91])
    distance = np.hypot(*(position - centre).T)
    phase = phase_of("rotating", position, frequency=12, centre=centre, sign=charge)
    signal = np.exp(1j * (phase - pull * distance))[:, None] * np.exp(0.3j * np.arange(20))
    found = finder(position).find(signal.astype(np.complex64))
    assert (found["charge"] == charge).all()
    assert np.bincount(found["frame"], minlength=20).tolist() == [1] * 20
    assert np.hypot(found["x"] - centre[0], found["y"] - centre[1]).max() < PITCH / 2
    assert found["radius"].min() >= 5 * PITCH


def test_planes_and_sources_hold_no_singularity():
    position = grid(corners=False)
    for kind in ("planar", "radial"):
        phase = phase_of(kind, position, frequency=12, speed=60, direction=20)
        signal = np.exp(1j * phase)[:, None] * np.exp(0.3j * np.arange(20))
        assert len(finder(position).find(signal.astype(np.complex64))["frame"]) == 0


def test_all_four_quadrants_in_order():
    angle = np.arange(16) * 2 * np.pi / 16 + 0.1
    back = angle.copy()
    back[5] -= 1.2  # into the quadrant before
    loops = np.array([angle, -angle, 2 * angle, 0 * angle, back])
    assert in_order(np.exp(1j * loops)).tolist() == [-1, 1, 0, 0, 0]


def test_raw_winding_is_everywhere_in_noise_and_spirals_are_rare():
    position = grid(corners=False)
    rng = np.random.default_rng(1)
    find = finder(position)
    signal = rng.normal(size=(len(position), 1000)) + 1j * rng.normal(size=(len(position), 1000))
    assert (find.cells(np.angle(signal)) != 0).any(axis=0).mean() > 0.99
    found = find.find(signal.astype(np.complex64))
    assert len(np.unique(found["frame"])) < 0.3 * 1000
    # White in time, none lives.
    _, tracks = followed(found, missed=0)
    assert np.quantile(tracks["lifetime"], 0.9) <= 2


def test_linking_keeps_charge_distance_and_missed_frames():
    rows = [(0, 0.0, 1), (1, 0.1, 1), (1, 0.1, -1), (2, 2.0, 1), (4, 0.2, 1), (9, 0.2, 1)]
    frame, x, charge = (np.array(column) for column in zip(*rows, strict=True))
    points = {"frame": frame, "x": x, "y": 0 * x, "charge": charge, "radius": 0 * x + 1}
    track = link(points, distance=0.3, missed=2)
    assert track.tolist() == [0, 0, 1, 2, 0, 3]
    tracks = summarise(points, track)
    assert tracks["lifetime"].tolist() == [5, 1, 1, 1]
    np.testing.assert_allclose(tracks["path"], [0.2, 0, 0, 0])
    empty = {name: value[:0] for name, value in points.items()}
    assert len(summarise(empty, link(empty, distance=1, missed=0))["birth"]) == 0


def test_a_sketch_is_exact_while_its_segments_fit():
    rng = np.random.default_rng(2)
    signal = (rng.normal(size=(12, 300)) + 1j * rng.normal(size=(12, 300))).astype(np.complex64)
    sketch = SketchedSpectrum.of(signal, 50, width=16, rng=rng)
    factors = sketch.factors()
    exact = CrossSpectrum.of(signal, 50).mean.real
    np.testing.assert_allclose(factors @ factors.swapaxes(1, 2), exact, rtol=1e-3, atol=1e-2)
    folded = [
        SketchedSpectrum.of(signal, 50, width=4, rng=np.random.default_rng(s)).factors()
        for s in range(400)
    ]
    mean = np.mean([one @ one.swapaxes(1, 2) for one in folded], axis=0)
    np.testing.assert_allclose(mean, exact, atol=0.15 * np.abs(exact).max())


def recording(waves=True, seed=0, side=8, seconds=12.0, pitch=PITCH):
    """A vortex of charge -1 from 4 to 7 s in correlated noise, or none."""
    rng = np.random.default_rng(seed)
    position = grid(side, side) * pitch / PITCH
    time = np.arange(round(seconds * RATE)) / RATE
    if side > 16:
        coarse = rng.normal(size=(len(time), side * side)).T
        field = coarse
    else:
        field = noise(rng, position, len(time), RATE, length=0.8, shared=0.9, power=1.0)
    if waves:
        inside = (time >= 4) & (time < 7)
        centre = position.mean(axis=0) + 0.1
        phase = phase_of("rotating", position, frequency=12, centre=centre, sign=-1)
        field[:, inside] += 2 * np.cos(2 * np.pi * 12 * time[inside] + phase[:, None])
    return recording_of(100 * field.T, position, RATE)


def test_the_detector_finds_a_vortex_with_its_lifetime():
    found = singularities.analyse(recording(), None, singularities.Params(surrogates=19), seed=0)
    best = found.isel(event=int(found["lifetime"].values.argmax()))
    assert str(best["class"].values) == "rotating_cw"
    assert float(best["charge"]) == -1
    assert float(best["start"]) == pytest.approx(4, abs=0.2)
    assert float(best["stop"]) == pytest.approx(7, abs=0.2)
    assert float(best["p"]) <= 0.05
    assert np.hypot(best["centre_x"] - 1.5, best["centre_y"] - 1.5) < PITCH / 2
    inside = found["track"].values == int(found["lifetime"].values.argmax())
    assert found["track_time"].values[inside].min() == pytest.approx(float(best["start"]))
    assert (found["track_charge"].values[inside] == -1).all()
    assert (np.diff(found["track"].values) >= 0).all()


def test_noise_has_no_significant_track():
    found = singularities.analyse(
        recording(waves=False), None, singularities.Params(surrogates=19), seed=0
    )
    assert not (found["q"].values <= 0.05).any()


def test_a_probe_is_refused():
    position = np.column_stack([np.arange(16) * 0.1, np.zeros(16)])
    lfp = np.random.default_rng(0).normal(size=(2000, 16))
    with pytest.raises(InputError, match="all good electrodes on one line"):
        singularities.analyse(
            recording_of(lfp, position, RATE), None, singularities.Params(), seed=0
        )


@pytest.mark.slow
def test_a_large_array_runs_in_bounded_memory():
    params = singularities.Params(surrogates=9, band=(8.0, 16.0), phase="narrowband", largest=4.0)
    found = singularities.analyse(recording(side=64, seconds=9.0), None, params, seed=0)
    best = found.isel(event=int(found["lifetime"].values.argmax()))
    assert float(best["charge"]) == -1
    assert float(best["lifetime"]) == pytest.approx(3, abs=0.4)
    assert float(best["p_familywise"]) <= 0.1
