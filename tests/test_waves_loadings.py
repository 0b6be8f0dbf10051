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
    frequency = [float(name[1:].replace("_", ".")) for name in phases]
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


def test_bayes_factor_and_wavevector_of_each_oscillator(result):
    travelling, standing = result["log_bayes_factor"].values
    assert travelling > np.log(20)
    assert standing < -np.log(20)
    np.testing.assert_allclose(result["travelling_probability"].values, [1, 0], atol=0.05)
    k = 2 * np.pi * 12 / 150
    for axis, part in (("x", np.cos(np.radians(50))), ("y", np.sin(np.radians(50)))):
        apart = float(result[f"wavevector_{axis}"][0]) - k * part
        assert abs(apart) < min(0.25 * k, 3 * float(result[f"wavevector_{axis}_sd"][0]))
    assert result["log_bayes_factor"].attrs["units"] == "nats"
    assert result["wavevector_x"].attrs["units"] == "rad/mm"


def test_without_standard_errors_there_are_no_intervals_and_no_groups(result):
    assert np.isnan(result["direction_low"].values).all()
    assert np.isnan(result["centre_x_high"].values).all()
    assert "loading_re_sd" in result.attrs["intervals"]
    assert result["group"].values.tolist() == [0, 1]


@pytest.mark.slow
def test_loadings_that_are_not_identified_have_no_intervals(recording):
    """A fit whose information is singular gives NaN as standard errors."""
    plane = phase_of("planar", POSITION, frequency=12, speed=150, direction=50)
    latents = _latents(f12=plane, f25=plane)
    both = ("oscillator", "electrode")
    size = np.full(latents["loading_phase"].shape, 0.2)
    size[1] = np.nan
    latents = latents.assign(
        loading_re_sd=(both, size),
        loading_im_sd=(both, size),
        frequency_sd=("oscillator", [0.1, np.nan]),
    )
    found = analyse(recording, latents, PARAMS, seed=0)
    for name in ("direction", "speed"):
        for end in ("low", "high"):
            assert np.isfinite(found[f"{name}_{end}"].values).tolist() == [True, False]
    assert np.isfinite(found["direction"].values).all()


@pytest.mark.slow
def test_standard_errors_give_intervals_and_groups(recording):
    """The plane's direction has a standard error of 0.2 / (1.1 |k| sqrt(sum x^2)), 2.8 degrees."""
    centre = (1.3, 1.7)
    latents = _latents(
        f12=phase_of("planar", POSITION, frequency=12, speed=150, direction=50),
        f12_1=phase_of("radial", POSITION, frequency=12.1, speed=120, centre=centre),
        f25=np.zeros(len(POSITION)),
    )
    size = np.full(latents["loading_phase"].shape, 0.2)
    both = ("oscillator", "electrode")
    latents = latents.assign(
        loading_re_sd=(both, size),
        loading_im_sd=(both, size),
        frequency_sd=("oscillator", [0.1, 0.1, 0.1]),
        damping=("oscillator", [0.98, 0.981, 0.98]),
        damping_sd=("oscillator", [0.002] * 3),
        bandwidth=("oscillator", [1.0, 9.0, 1.0]),
        noise_variance=("electrode", np.ones(len(POSITION))),
    )
    found = analyse(recording, latents, PARAMS, seed=0)
    assert found.attrs["intervals"].startswith("95 %")
    assert found["group"].values.tolist() == [0, 0, 1]
    truth = {"direction": (0, 50, 14), "speed": (0, 150, 36), "wavelength": (0, 12.5, 3)}
    truth |= {"centre_x": (1, centre[0], 0.4), "centre_y": (1, centre[1], 0.4)}
    for name, (k, value, widest) in truth.items():
        low, high = float(found[f"{name}_low"][k]), float(found[f"{name}_high"][k])
        assert low < float(found[name][k]) < high
        assert low < value < high
        assert high - low < widest
        assert found[f"{name}_low"].attrs["units"] == found[name].attrs["units"]
    assert np.isnan(found["direction_low"].values[1:]).all()
    assert np.isnan(found["speed_high"].values[2])
    # Broader than the band analysed: not judged.
    assert np.isfinite(found["log_bayes_factor"].values).tolist() == [True, False, True]
    again = analyse(recording, latents, PARAMS, seed=0)
    xr.testing.assert_identical(found, again)


@pytest.mark.slow
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


@pytest.mark.slow
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
