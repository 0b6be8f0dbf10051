"""Decoded fields beside recorded ones: planes, spirals, rings, noise; planted and absent."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from conftest import FIELD_WAVE, make_field_recording, make_recording
from driftwave.figures.decoded_waves import draw
from driftwave.latent_waves.decoded import SiteSignal, compare_fields, field_statistics
from driftwave.latent_waves.decoded_sources import gives_field
from driftwave.latent_waves.site_statistics import PlaneSites, RingSites
from driftwave.phase.electrodes import place
from driftwave.waves.phase_gradient import Params, analyse

RATE = 100.0
FREQUENCY = 8.0
TIME = np.arange(300) / RATE
GRID = 0.4 * np.array([(x, y) for y in range(8) for x in range(8)], float)
ANGLE = 2 * np.pi * np.arange(16) / 16
RING = 2.0 * np.stack([np.cos(ANGLE), np.sin(ANGLE)], 1)


def carrier(phase: np.ndarray) -> np.ndarray:
    """A field (site, frame) of one frequency with the phase map given."""
    return np.exp(1j * (2 * np.pi * FREQUENCY * TIME + phase[:, None]))


def plane(degrees: float, speed: float = 50.0) -> np.ndarray:
    k = 2 * np.pi * FREQUENCY / speed
    return carrier(
        -GRID @ (k * np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))]))
    )


@pytest.mark.parametrize("degrees", [-120.0, 0.0, 75.0])
def test_a_plane_has_its_direction_and_wavenumber(degrees: float) -> None:
    frames = PlaneSites(place(GRID))(plane(degrees))
    assert np.degrees(frames.direction) == pytest.approx(degrees, abs=1e-6)
    assert frames.directionality == pytest.approx(1)
    assert frames.wavenumber == pytest.approx(2 * np.pi * FREQUENCY / 50)
    assert not frames.positive.any()
    assert not frames.negative.any()


@pytest.mark.parametrize("charge", [1, -1])
def test_a_spiral_is_one_singularity_of_its_charge(charge: int) -> None:
    away = GRID - [1.33, 1.47]
    frames = PlaneSites(place(GRID))(carrier(-charge * np.arctan2(away[:, 1], away[:, 0])))
    assert (frames.winding == charge).all()
    assert (frames.positive + frames.negative == 1).all()


def test_confirmation_takes_most_singularities_from_noise() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(64, 300)) + 1j * rng.normal(size=(64, 300))
    sites = PlaneSites(place(GRID))
    phase = np.angle(noise)
    corners = sites.singularities.corners
    step = [phase[corners[:, (i + 1) % 3]] - phase[corners[:, i]] for i in range(3)]
    raw = np.rint(sum((s + np.pi) % (2 * np.pi) - np.pi for s in step) / (2 * np.pi)) != 0
    frames = sites(noise)
    assert (frames.positive + frames.negative).mean() < 0.35 * raw.sum(0).mean()


@pytest.mark.parametrize("winding", [-2, -1, 1, 3])
def test_a_ring_winds_exactly_the_way_it_travels(winding: int) -> None:
    shuffle = np.random.default_rng(1).permutation(16)
    frames = RingSites.of(RING[shuffle])(carrier(-winding * ANGLE)[shuffle])
    assert (frames.winding == winding).all()
    assert frames.direction == pytest.approx(0.0 if winding > 0 else np.pi)
    assert frames.wavenumber == pytest.approx(abs(winding) / 2.0, rel=0.02)


def noisy(field: np.ndarray, seed: int, level: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    swell = 1 + 0.5 * rng.normal(size=field.shape[1])
    noise = rng.normal(size=field.shape) + 1j * rng.normal(size=field.shape)
    return (field * swell + level * noise).astype(np.complex64)


@pytest.mark.slow
def test_a_wave_beats_its_zero_lag_null_and_a_standing_map_does_not() -> None:
    sites = PlaneSites(place(GRID))
    travelling = [noisy(plane(30), seed) for seed in range(4)]
    found = field_statistics(SiteSignal("decoded", travelling, RATE, sites), surrogates=39, seed=0)
    assert float(found["p_directionality"]) == pytest.approx(1 / 40)
    assert float(found["field_direction"]) == pytest.approx(30, abs=3)
    standing = plane(30).real.astype(complex) * np.exp(1j * 0.3)
    still = carrier(np.zeros(64)) * np.cos(GRID @ [2.0, 1.0])[:, None]
    for field in (standing, still):
        parts = [noisy(field, seed) for seed in range(4)]
        null = field_statistics(SiteSignal("decoded", parts, RATE, sites), surrogates=39, seed=0)
        assert float(null["p_directionality"]) > 0.05


def test_agreement_is_that_of_the_directions() -> None:
    sites = PlaneSites(place(GRID))
    rng = np.random.default_rng(2)
    maps = [plane(angle)[:, :100] for angle in rng.uniform(-180, 180, 12)]
    one = SiteSignal("recorded", [noisy(m, i, 0.3) for i, m in enumerate(maps)], RATE, sites)
    same = SiteSignal("decoded", [noisy(m, 50 + i, 0.3) for i, m in enumerate(maps)], RATE, sites)
    found = compare_fields([one, same], surrogates=2, seed=0)
    assert found["direction_agreement"].values == pytest.approx([1, 0.99], abs=0.02)
    assert found["null_direction_agreement"].values[1] < 0.6
    assert found["direction_share"].sum("direction_bin").values == pytest.approx(1)


def lattice_latents(recording: xr.DataTree, winding: int) -> xr.Dataset:
    """What a model of coupled oscillators on a ring would give."""
    counts = recording["spikes/counts"]
    time = counts["time"].values
    phase = 2 * np.pi * FREQUENCY * time[None, :, None] - winding * ANGLE
    field = np.exp(1j * np.broadcast_to(phase, (len(counts), *phase.shape[1:])))[:, :, None]
    dims = ("trial", "time", "band", "site")
    return xr.Dataset(
        {
            "decoded_re": (dims, field.real, {"units": "1"}),
            "decoded_im": (dims, field.imag, {"units": "1"}),
        },
        coords={
            "trial": counts["trial"],
            "time": counts["time"],
            "frequency": ("band", [FREQUENCY], {"units": "Hz"}),
            "site_x": ("site", RING[:, 0], {"units": "mm"}),
            "site_y": ("site", RING[:, 1], {"units": "mm"}),
        },
        attrs={"topology": "ring", "model": "planted"},
    )


def test_the_stage_reads_a_decoded_ring_beside_its_units() -> None:
    recording = make_recording(units=16, held_out=0, bins=40, trials=40)
    units = recording["units"].to_dataset()
    for axis, values in zip("xy", RING.T, strict=True):
        units[axis] = ("unit", values, {"units": "mm"})
    rng = np.random.default_rng(4)
    time = recording["spikes/counts"]["time"].values
    rate = 20 * np.exp(1.5 * np.cos(2 * np.pi * FREQUENCY * time[:, None] - 2 * ANGLE))
    counts = rng.poisson(np.broadcast_to(rate * 0.02, (40, 40, 16)))
    recording["spikes/counts"][:] = counts
    recording["units"] = xr.DataTree(units)
    latents = lattice_latents(recording, 2)
    assert gives_field(latents)
    found = analyse(recording, latents, Params(surrogates=19), seed=0)
    assert list(found["signal"].values) == ["recorded", "decoded"]
    share = found["winding_share"].sel(winding=2).isel(band=0)
    assert share.sel(signal="decoded") == pytest.approx(1)
    assert share.sel(signal="recorded") > 0.8
    assert (found["p_winding"] == pytest.approx(0.05)).all()
    assert all(found[name].attrs.get("units") for name in found.data_vars)


def test_windows_of_a_field_are_compared_with_it_at_their_own_times() -> None:
    recording = make_field_recording(seconds=20, side=5)
    field = recording["field"].to_dataset()
    begin, bins, rate = float(field["time"][0]), 100, 125.0
    start = begin + np.arange(20.0)
    time = np.arange(bins) / rate
    angle = np.deg2rad(FIELD_WAVE["direction"])
    hertz = FIELD_WAVE["frequency"]
    k = 2 * np.pi * hertz / FIELD_WAVE["speed"]
    place = 0.8 * np.array([(i, j) for j in range(3) for i in range(3)], float)
    lag = place @ (k * np.array([np.cos(angle), np.sin(angle)]))
    phase = 2 * np.pi * hertz * (start[:, None, None] + time[:, None]) - lag
    dims = ("trial", "time", "band", "site")
    latents = xr.Dataset(
        {
            "decoded_re": (dims, np.cos(phase)[:, :, None], {"units": "1"}),
            "decoded_im": (dims, np.sin(phase)[:, :, None], {"units": "1"}),
            "trial_start": ("trial", start, {"units": "s"}),
        },
        coords={
            "time": time,
            "frequency": ("band", [hertz], {"units": "Hz"}),
            "site_x": ("site", place[:, 0]),
            "site_y": ("site", place[:, 1]),
        },
        attrs={"topology": "lattice"},
    )
    found = analyse(recording, latents, Params(surrogates=19), seed=0)
    assert found.attrs["recorded_from"] == "field"
    assert found["field_direction"].values == pytest.approx(FIELD_WAVE["direction"], abs=3)
    assert float(found["direction_agreement"].sel(signal="decoded").item()) > 0.95


@pytest.mark.parametrize(
    ("prediction", "wave", "expected"), [(0.2, 0.05, True), (-0.01, 0.05, False), (0.2, 0.0, False)]
)
def test_waves_are_claimed_only_where_unseen_units_bear_them_out(
    prediction: float, wave: float, expected: bool
) -> None:
    recording = make_recording(units=6, held_out=0, bins=40, trials=10)
    latents = lattice_latents(recording, 1).assign(
        prediction_gain=((), prediction, {"units": "bits/spike"}),
        prediction_gain_sd=((), 0.01, {"units": "bits/spike"}),
        wave_gain=("band", [wave], {"units": "bits/spike"}),
        wave_gain_sd=("band", [0.01], {"units": "bits/spike"}),
    )
    found = analyse(recording, latents, Params(surrogates=19), seed=0)
    assert bool(found["supported"].item()) is expected
    title = draw(None, {"waves": found}).get_suptitle()
    assert ("is supported" in title) is expected


def test_the_stage_reads_the_field_of_oscillators_beside_the_recorded_one() -> None:
    recording = make_field_recording(seconds=30, side=5)
    field = recording["field"].to_dataset()
    time, position = field["time"].values[::2], np.stack([field["x"], field["y"]], 1)
    angle = np.deg2rad(FIELD_WAVE["direction"])
    k = 2 * np.pi * FIELD_WAVE["frequency"] / FIELD_WAVE["speed"]
    phase = -position @ (k * np.array([np.cos(angle), np.sin(angle)]))
    z = np.exp(2j * np.pi * FIELD_WAVE["frequency"] * time)
    latents = xr.Dataset(
        {
            "frequency": ("oscillator", [FIELD_WAVE["frequency"]], {"units": "Hz"}),
            "loading_amplitude": (("oscillator", "electrode"), np.full((1, 25), 50.0)),
            "loading_phase": (("oscillator", "electrode"), phase[None]),
            "latent": (("time", "latent"), np.stack([z.real, z.imag], 1)),
        },
        coords={
            "time": time,
            "label": ("latent", ["osc0_re", "osc0_im"]),
            "good": ("electrode", np.ones(25, bool)),
            **{name: field[name] for name in ("electrode", "x", "y")},
        },
    )
    found = analyse(recording, latents, Params(surrogates=19), seed=0)
    assert found["field_direction"].values == pytest.approx(FIELD_WAVE["direction"], abs=3)
    assert float(found["direction_agreement"].sel(signal="decoded")) > 0.95
    assert float(found["p_directionality"].sel(signal="recorded")) == pytest.approx(0.05)
    assert "asymmetry" in found
