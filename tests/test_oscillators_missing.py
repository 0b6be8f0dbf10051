"""Fits and predictions with missing data and in trials: planted truth and dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from driftwave.errors import InputError
from driftwave.inference import oscillator_inference as inference
from driftwave.inference.field import field_source
from driftwave.inference.oscillator_field_fit import FieldFit as Fit
from driftwave.inference.oscillator_field_fit import fit_field as fit
from driftwave.inference.oscillator_model import Oscillators
from driftwave.inference.whitening import Whitening, bridged, widened
from driftwave.models.oscillators import Params
from test_oscillators import RATE, WAVES, as_recording, correlated_noise, grid, plane, plant, turned

FACTORS = Params(background="factors", slow_factors=2, iterations=60)


def riddled(lfp: np.ndarray, seed: int = 0) -> np.ndarray:
    """A quarter of every channel, in stretches of 1 s, and 2 s of all channels, are missing."""
    rng = np.random.default_rng(seed)
    lfp = lfp.copy()
    second = int(RATE)
    for channel in range(lfp.shape[1]):
        for start in range(second * int(rng.integers(4)), len(lfp), 4 * second):
            lfp[start : start + second, channel] = np.nan
    lfp[3000:3500] = np.nan
    return lfp


@pytest.mark.slow
@pytest.mark.parametrize("background", ["factors", "whitened"])
def test_planted_waves_are_recovered_with_a_quarter_missing(background):
    lfp = riddled(plant(40, WAVES, slow=(0.99,), position=grid(4)))
    recording = as_recording(lfp, position=grid(4))
    params = FACTORS.model_copy(update={"background": background, "slow_factors": 1})
    found = fit(recording, params, seed=0)
    latents = found.infer(recording)
    assert np.isfinite(latents["latent"]).all()
    assert latents.sizes["oscillator"] == 2
    for k, (frequency, damping, degrees, speed) in enumerate(WAVES):
        direction, found_speed = plane(latents, k)
        assert abs(float(latents["frequency"][k]) - frequency) < 4 * latents["frequency_sd"][k]
        assert float(latents["frequency"][k]) == pytest.approx(frequency, rel=0.03)
        assert abs(float(latents["damping"][k]) - damping) < 4 * latents["damping_sd"][k]
        assert turned(direction, degrees) < 4
        assert found_speed == pytest.approx(speed, rel=0.15)
    np.testing.assert_allclose(latents["noise_variance"], 144, rtol=0.2)


def planted_field(model: Oscillators, samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    states = model.loading.shape[1]
    space = model.state_space(np.zeros((states, states)))
    state, rows = rng.normal(size=states), []
    for _ in range(samples):
        rows.append(model.loading @ state)
        state = space.transition @ state + rng.normal(size=states) * np.sqrt(np.diag(space.noise))
    noise = model.noise_of(np.ones(len(model.loading), bool))
    return np.array(rows) + rng.normal(size=(samples, len(noise))) @ np.linalg.cholesky(noise).T


def toy(full: bool = True) -> Oscillators:
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(4, 4))
    return Oscillators(
        angle=np.array([0.3]),
        damping=np.array([0.96]),
        slow_damping=np.array([0.9]),
        loading=rng.normal(0, 2, (4, 3)),
        noise=mixing @ mixing.T / 4 + np.eye(4) if full else rng.uniform(0.5, 2, 4),
    )


def process_covariance(model: Oscillators, samples: int) -> np.ndarray:
    """Covariance (time x channel, time x channel) of the whitened field."""
    states = model.loading.shape[1]
    transition = model.state_space(np.zeros((states, states))).transition
    powers = [np.linalg.matrix_power(transition, k) for k in range(samples)]
    lags = [model.loading @ p @ model.loading.T for p in powers]
    noise = model.noise_of(np.ones(len(model.loading), bool))
    return np.block(
        [
            [(lags[s - t] if s >= t else lags[t - s].T) + (s == t) * noise for t in range(samples)]
            for s in range(samples)
        ]
    )


def conditional(covariance: np.ndarray, y: np.ndarray, wanted: np.ndarray, given: np.ndarray):
    known = y.ravel()[given]
    return covariance[np.ix_(wanted, given)] @ np.linalg.solve(
        covariance[np.ix_(given, given)], known
    )


@pytest.mark.parametrize("full", [False, True])
def test_fill_and_forecast_equal_the_joint_gaussian(full):
    model, samples = toy(full), 40
    offset = np.array([5.0, -3.0, 0.0, 1.0])
    y = planted_field(model, samples, 0) + offset
    y[5:20, 1] = y[:, 3] = np.nan
    y[25:28] = np.nan
    covariance = process_covariance(model, samples)
    centred, seen = y - offset, ~np.isnan(y).ravel()
    expected = y.copy().ravel()
    filled = conditional(covariance, centred, ~seen, seen) + np.tile(offset, samples)[~seen]
    expected[~seen] = filled
    whitening = Whitening.none(RATE)
    found = inference.fill(y, model, whitening, offset)
    np.testing.assert_allclose(found, expected.reshape(y.shape), atol=1e-8)
    steps = (1, 3)
    ahead = inference.forecast(y, steps, model, whitening, offset)
    for i, h in enumerate(steps):
        assert np.isnan(ahead[i, :h]).all()
        for t in (0, 10, 30):
            past = seen & (np.arange(len(seen)) < 4 * (t + 1))
            wanted = np.arange(len(seen)) // 4 == t + h
            one = conditional(covariance, centred, wanted, past) + offset
            np.testing.assert_allclose(ahead[i, t + h], one, atol=1e-8)


def coloured() -> Whitening:
    """A filter that flattens 1/f power."""
    frequency = np.linspace(1, 67, 200)
    return Whitening.of_background(frequency, -1.2 * np.log(frequency + 2), RATE)


def test_whitening_is_undone_exactly():
    rng = np.random.default_rng(5)
    data = np.cumsum(rng.normal(size=(3000, 3)), axis=0)
    whitening = coloured()
    np.testing.assert_allclose(whitening.undo(whitening.apply(data.copy())), data, atol=1e-8)


def test_causal_filter_has_the_gain_and_is_inverted():
    whitening = coloured()
    taps, inverse = whitening.causal()
    frequency = np.linspace(0.5, 120, 50)
    turn = np.exp(-2j * np.pi / RATE * np.outer(frequency, np.arange(len(taps))))
    np.testing.assert_allclose(np.abs(turn @ taps), np.abs(whitening.gain(frequency)), rtol=1e-3)
    unit = np.convolve(taps, inverse)[:2000]
    np.testing.assert_allclose(unit, np.eye(1, 2000)[0], atol=1e-6)


def coloured_field(model: Oscillators, whitening: Whitening, samples: int, seed: int) -> np.ndarray:
    """A field whose whitened form follows the model."""
    return whitening.undo(planted_field(model, samples, seed))


def white_density(model: Oscillators, frequency: np.ndarray) -> np.ndarray:
    """Spectral density (frequency, channel, channel) at cycles per sample."""
    states = model.loading.shape[1]
    space = model.state_space(np.zeros((states, states)))
    turn = np.exp(-2j * np.pi * frequency)[:, None, None]
    inverse = np.linalg.inv(np.eye(states) - space.transition * turn)
    spectrum = inverse @ space.noise @ inverse.conj().swapaxes(1, 2)
    return model.loading @ spectrum @ model.loading.T + model.noise


def coloured_covariance(model: Oscillators, whitening: Whitening, place: np.ndarray) -> np.ndarray:
    """Covariance (time x channel, time x channel) of a coloured field at the samples given."""
    length = 8192
    frequency = np.fft.fftfreq(length)
    gain = whitening.gain(np.abs(frequency) * RATE)
    lags = np.fft.ifft(white_density(model, frequency) / gain[:, None, None] ** 2, axis=0).real
    blocks = lags[(place[:, None] - place[None]) % length]
    return blocks.transpose(0, 2, 1, 3).reshape(4 * len(place), -1)


def test_hidden_channels_of_a_whitened_field_are_filled_as_wiener_would():
    """Against the conditional mean frequency by frequency, S_mo S_oo^-1, away from the ends."""
    model, whitening, samples = toy(), coloured(), 8000
    y = coloured_field(model, whitening, samples, 1)
    density = white_density(model, np.fft.fftfreq(samples))
    seen, mixed = density[:, :3, :3].swapaxes(1, 2), density[:, 3:, :3].swapaxes(1, 2)
    regression = np.linalg.solve(seen, mixed)
    expected = np.fft.ifft(
        np.einsum("fom,fo->fm", regression, np.fft.fft(y[:, :3], axis=0)), axis=0
    ).real[:, 0]
    hidden = y.copy()
    hidden[:, 3] = np.nan
    found = inference.fill(hidden, model, whitening, np.zeros(4))[:, 3]
    inner = slice(2000, -2000)
    assert np.sqrt(np.mean((found - expected)[inner] ** 2)) < 0.02 * y[inner, 3].std()


@pytest.mark.slow
def test_gaps_of_a_whitened_field_are_filled_nearly_as_well_as_can_be():
    """Error against that of the exact conditional mean given 2 s around the gap."""
    model, whitening, samples = toy(), coloured(), 4000
    window, gap = 500, 50
    covariance = coloured_covariance(model, whitening, np.arange(window))
    wanted = np.zeros((window, 4), bool)
    wanted[window // 2 : window // 2 + gap, 2] = True
    wanted = wanted.ravel()
    ours, exact = [], []
    for seed in range(3):
        y = coloured_field(model, whitening, samples, seed)
        for start in (1200, 1900, 2600):
            holed = y.copy()
            holed[start : start + gap, 2] = np.nan
            part = slice(start - window // 2, start + window // 2)
            best = conditional(covariance, y[part], wanted, ~wanted)
            found = inference.fill(holed, model, whitening, np.zeros(4))
            np.testing.assert_array_equal(found[~np.isnan(holed)], y[~np.isnan(holed)])
            ours.append(found[start : start + gap, 2] - y[start : start + gap, 2])
            exact.append(best - y[start : start + gap, 2])
    ratio = np.sqrt(np.mean(np.square(ours)) / np.mean(np.square(exact)))
    print(f"error over that of the exact conditional mean: {ratio:.3f}")
    assert ratio < 1.15


def test_forecast_of_a_whitened_field_equals_the_joint_gaussian():
    model, whitening, samples = toy(), coloured(), 3000
    y = coloured_field(model, whitening, samples, 2)
    past, h = 500, 5
    place = np.append(np.arange(past), past + h - 1)
    covariance = coloured_covariance(model, whitening, place)
    wanted = np.arange(4 * (past + 1)) >= 4 * past
    found = inference.forecast(y, [h], model, whitening, np.zeros(4))[0]
    for end in (1500, 2500):
        part = np.concatenate([y[end - past : end], np.zeros((1, 4))])
        expected = conditional(covariance, part, wanted, ~wanted)
        np.testing.assert_allclose(found[end + h - 1], expected, atol=0.03 * y.std())


def test_decimation_marks_what_its_filter_mixes_with_a_gap():
    rng = np.random.default_rng(6)
    lfp = rng.normal(size=(20000, 3)).astype(np.float32)
    whole = np.concatenate(
        list(field_source(as_recording(lfp, rate=1000.0), 250, "t", passband=45).blocks())
    )
    holed = lfp.copy()
    holed[8000:8100, 1] = np.nan
    recording = as_recording(holed, rate=1000.0)
    found = np.concatenate(list(field_source(recording, 250, "t", passband=45).blocks()))
    missing = np.isnan(found)
    assert not missing[:, [0, 2]].any()
    raw = np.flatnonzero(missing[:, 1]) * 4
    assert raw.min() == 8000 - 40
    assert raw.max() == 8099 + 40 - 3
    np.testing.assert_allclose(found[~missing], whole[~missing], atol=1e-5)


def test_masks_are_widened_and_gaps_bridged():
    mask = np.zeros((10, 1), bool)
    mask[4] = True
    assert list(np.flatnonzero(widened(mask, 2, 1))) == [2, 3, 4, 5]
    np.testing.assert_allclose(bridged(np.array([1.0, np.nan, np.nan, 4.0])), [1, 2, 3, 4])


def with_trials(lfp: np.ndarray, split: np.ndarray, length: float = 2.0) -> xr.DataTree:
    recording = as_recording(lfp)
    start = length * np.arange(len(split))
    recording["trials"] = xr.Dataset(
        {
            "split": ("trial", split),
            "start": ("trial", start, {"units": "s"}),
            "stop": ("trial", start + 0.9 * length, {"units": "s"}),
        }
    )
    return recording


@pytest.mark.slow
def test_trials_are_fitted_and_test_trials_never_seen():
    lfp = plant(60, WAVES, slow=(0.99,))
    split = np.array((["train"] * 3 + ["valid", "test"]) * 6)
    params = FACTORS.model_copy(update={"stretches": "trials", "iterations": 40})
    recording = with_trials(lfp, split)
    found = fit(recording, params, seed=0)
    assert found.facts["fitted_seconds"] == pytest.approx(18 * 1.8)
    assert found.facts["validation_seconds"] == pytest.approx(6 * 1.8)
    frequency = found.model.angle * RATE / (2 * np.pi)
    np.testing.assert_allclose(frequency, [8, 20], rtol=0.02)
    spoiled = lfp.copy()
    for trial in np.flatnonzero(split == "test"):
        spoiled[int(2 * trial * RATE) : int((2 * trial + 1.8) * RATE)] = 1e4
    again = fit(with_trials(spoiled, split), params, seed=0)
    np.testing.assert_array_equal(again.model.loading, found.model.loading)
    np.testing.assert_array_equal(again.errors.angle, found.errors.angle)


def test_trials_without_validation_are_refused():
    recording = with_trials(plant(20, WAVES[:1]), np.array(["train"] * 10))
    with pytest.raises(InputError, match="no valid trial"):
        fit(recording, Params(stretches="trials"), seed=0)


@pytest.mark.slow
def test_the_test_stretch_never_enters_a_fit():
    lfp = plant(20, WAVES[:1], position=grid(3))
    spoiled = lfp.copy()
    spoiled[int(0.85 * len(lfp)) :] = np.nan
    params = Params(iterations=5, gradient_steps=3)
    one, two = (fit(as_recording(x, position=grid(3)), params, seed=0) for x in (lfp, spoiled))
    np.testing.assert_array_equal(one.model.loading, two.model.loading)
    np.testing.assert_array_equal(one.curves["valid_loss"], two.curves["valid_loss"])


@pytest.mark.slow
def test_selection_finds_three_planted_oscillators():
    waves = [*WAVES, (33.0, 0.95, 100.0, 250.0)]
    recording = as_recording(plant(40, waves, position=grid(4), slow=()), position=grid(4))
    params = Params(
        oscillators="select", background="factors", slow_factors=0, iterations=40, max_oscillators=5
    )
    found = fit(recording, params, seed=0)
    assert len(found.model.angle) == 3
    np.testing.assert_allclose(
        found.model.angle * RATE / (2 * np.pi), [w[0] for w in waves], rtol=0.02
    )
    table = found.infer(recording)
    held_out = table["candidate_log_likelihood_validation"].values
    assert held_out[3] > held_out[2] + 0.01
    assert held_out.max() - held_out[3] < 1e-3
    assert table["candidate_count"].values[np.argmin(table["candidate_bic"].values)] == 3
    assert table["candidate_bic"].attrs["units"] == "nats"


@pytest.mark.parametrize("slow", [0, 1])
def test_selection_finds_nothing_in_noise(slow):
    noise = correlated_noise(int(30 * RATE), grid(3), np.random.default_rng(7)).astype(np.float32)
    params = Params(oscillators="select", max_oscillators=2, iterations=25, slow_factors=slow)
    with pytest.raises(InputError, match="no oscillator that predicts"):
        fit(as_recording(noise, position=grid(3)), params, seed=0)


def test_unstable_parameters_are_refused(tmp_path):
    recording = as_recording(plant(10, WAVES[:1], position=grid(2)), position=grid(2))
    found = fit(recording, Params(oscillators=1, iterations=2, gradient_steps=0), seed=0)
    found.save(tmp_path)
    with np.load(tmp_path / "oscillators.npz") as stored:
        arrays = dict(stored)
    arrays["model_damping"] = np.array([1.02])
    np.savez(tmp_path / "oscillators.npz", **arrays)
    with pytest.raises(InputError, match=r"model_damping: found 1\.02, expected from 0 to below 1"):
        Fit.load(tmp_path)


@pytest.mark.slow
def test_predictions_of_the_test_stretch_beat_the_mean():
    recording = as_recording(plant(30, WAVES, slow=(0.99,)))
    latents = fit(recording, FACTORS, seed=0).infer(recording)
    recorded = latents["field_recorded"]
    variance = float(recorded.var())
    filled = float(((latents["field_filled"] - recorded) ** 2).mean())
    forecast = ((latents["field_forecast"] - recorded) ** 2).mean(("test_time", "electrode"))
    # Noise of 144 microvolt^2 can be predicted by nobody.
    assert 144 * 0.95 < filled < 144 + 0.25 * (variance - 144)
    assert (np.diff(forecast.values) > 0).all()
    assert float(forecast[0]) < 0.85 * variance
