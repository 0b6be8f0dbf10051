"""Waves in the loadings of an oscillator model."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from driftwave.errors import InputError
from driftwave.figures import wave_field, waves
from driftwave.store import verify_store, write_tree
from driftwave.waves.phase_gradient import Params, analyse
from waves_cases import grid, noise, phase_of, recording_of

RATE = 200.0
POSITION = grid(8, 8)
PARAMS = Params(surrogates=39)


def _oscillation(rng, count: int, frequency: float) -> np.ndarray:
    """Complex stochastic oscillation of unit variance that keeps its phase for about 0.4 s."""
    decay = np.exp(-1 / (0.4 * RATE)) * np.exp(2j * np.pi * frequency / RATE)
    steps = rng.normal(size=(2, count)) * np.sqrt((1 - abs(decay) ** 2) / 2)
    state = np.zeros(count, complex)
    for t in range(1, count):
        state[t] = decay * state[t - 1] + steps[0, t] + 1j * steps[1, t]
    return state


@pytest.fixture(scope="module")
def recording():
    """12 Hz travels towards 50 degrees at 150 mm/s, 25 Hz is synchronous; 1/f noise."""
    rng = np.random.default_rng(0)
    count = round(60 * RATE)
    phase = phase_of("planar", POSITION, frequency=12, speed=150, direction=50)
    field = noise(rng, POSITION, count, RATE, length=1.0, shared=0.9)
    field = field + np.real(np.exp(1j * phase)[:, None] * _oscillation(rng, count, 12))
    field = field + np.real(_oscillation(rng, count, 25))
    return recording_of(50 * field.T, POSITION, RATE)


def _latents(**phases: np.ndarray) -> xr.Dataset:
    rng = np.random.default_rng(1)
    frequency = [float(name[1:]) for name in phases]
    phase = np.stack(list(phases.values())) + 0.05 * rng.normal(size=(len(phases), len(POSITION)))
    return xr.Dataset(
        {
            "frequency": ("oscillator", frequency, {"units": "Hz"}),
            "loading_amplitude": (("oscillator", "electrode"), 1 + 0.2 * rng.random(phase.shape)),
            "loading_phase": (("oscillator", "electrode"), phase),
        },
        coords={
            "electrode": np.arange(len(POSITION)),
            "x": ("electrode", POSITION[:, 0]),
            "y": ("electrode", POSITION[:, 1]),
            "good": ("electrode", np.ones(len(POSITION), bool)),
        },
        attrs={"model": "oscillators"},
    )


@pytest.fixture(scope="module")
def result(recording):
    latents = _latents(
        f12=phase_of("planar", POSITION, frequency=12, speed=150, direction=50),
        f25=np.zeros(len(POSITION)),
    )
    return analyse(recording, latents, PARAMS, seed=0)


def test_travelling_oscillator_is_recovered_and_synchronous_one_is_not_called_a_wave(result):
    assert result["class"].values.tolist() == ["planar", "synchronous"]
    assert float(result["direction"][0]) == pytest.approx(50, abs=1)
    assert float(result["speed"][0]) == pytest.approx(150, rel=0.02)
    assert float(result["p"][0]) == pytest.approx(1 / 40)
    assert float(result["p"][1]) > 0.05
    assert float(result["p_pgd"][0]) == pytest.approx(1 / 40)
    assert float(result["resultant"][0]) > 0.95


def test_turning_loadings_have_a_centre_and_no_direction(recording):
    centre = (1.3, 1.7)
    latents = _latents(
        f12=phase_of("rotating", POSITION, frequency=12, centre=centre, sign=-1),
        f20=phase_of("radial", POSITION, frequency=20, speed=120, centre=centre, sign=-1),
    )
    found = analyse(recording, latents, PARAMS, seed=0)
    assert found["class"].values.tolist() == ["rotating_cw", "radial_in"]
    assert np.isnan(found["direction"].values).all()
    np.testing.assert_allclose(found["centre_x"].values, centre[0], atol=0.1)
    np.testing.assert_allclose(found["centre_y"].values, centre[1], atol=0.1)
    assert float(found["speed"][1]) == pytest.approx(120, rel=0.03)
    assert float(found["rho"][1]) < -0.9


def test_loadings_are_weighted_by_power(recording):
    latents = _latents(f12=phase_of("planar", POSITION, frequency=12, speed=150, direction=50))
    weak = np.arange(0, len(POSITION), 3)
    latents["loading_amplitude"].values[:, weak] = 0.01
    latents["loading_phase"].values[:, weak] = 2.0
    found = analyse(recording, latents, PARAMS, seed=0)
    assert float(found["direction"][0]) == pytest.approx(50, abs=1.5)


def test_results_are_written_and_drawn(result, tmp_path):
    write_tree(result, tmp_path / "waves.zarr")
    assert verify_store(tmp_path / "waves.zarr") == []
    assert len(waves.draw(None, {"waves": result}).axes) == 2
    assert len(wave_field.draw(None, {"waves": result}).axes) == 3


@pytest.mark.parametrize("lost", ["loading_phase", "x"])
def test_latents_without_loadings_or_positions_are_refused(recording, lost):
    latents = _latents(f12=np.zeros(len(POSITION))).drop_vars(lost)
    with pytest.raises(InputError, match="loadings"):
        analyse(recording, latents, PARAMS, seed=0)
