"""The oscillator model: planted truth, likelihood, resuming, streaming, errors, figure."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize
from scipy.signal import lfilter, welch

from driftwave.errors import InputError
from driftwave.inference import oscillator_training
from driftwave.inference.field import field_source
from driftwave.inference.oscillator_em import maximise
from driftwave.inference.oscillator_field_fit import FieldFit as Fit
from driftwave.inference.oscillator_field_fit import fit_field as fit
from driftwave.inference.oscillator_likelihood import Observations
from driftwave.inference.oscillator_model import Bounds, Oscillators, fix_gauge
from driftwave.inference.oscillator_results import oscillation_spectrum
from driftwave.inference.oscillator_start import spectral_peaks, spectrum
from driftwave.inference.whitening import Whitening
from driftwave.models.oscillators import Params

RATE = 250.0


def grid(rows: int = 6, pitch: float = 0.4) -> np.ndarray:
    return pitch * np.array([(x, y) for y in range(rows) for x in range(rows)], float)


def oscillation(samples, frequency, damping, rng, rate=RATE):
    noise = (rng.normal(size=samples) + 1j * rng.normal(size=samples)) * np.sqrt(1 - damping**2)
    noise[0] /= np.sqrt(1 - damping**2)
    return lfilter([1], [1, -damping * np.exp(2j * np.pi * frequency / rate)], noise)


def slow_process(samples, damping, rng):
    noise = rng.normal(size=samples) * np.sqrt(1 - damping**2)
    noise[0] /= np.sqrt(1 - damping**2)
    return lfilter([1], [1, -damping], noise)


def plant(seconds, waves, *, seed=0, position=None, noise=12.0, slow=(0.999, 0.99)):
    """LFP (time, electrode), microvolt, of plane waves (Hz, damping, degrees, mm/s)."""
    rng = np.random.default_rng(seed)
    position = grid() if position is None else position
    samples = int(seconds * RATE)
    lfp = noise * rng.normal(size=(samples, len(position)))
    for frequency, damping, degrees, speed in waves:
        direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
        wavevector = 2 * np.pi * frequency / speed * direction
        loading = 10 * np.exp(-1j * position @ wavevector)
        lfp += (oscillation(samples, frequency, damping, rng)[:, None] * loading).real
    for damping in slow:
        lfp += slow_process(samples, damping, rng)[:, None] * rng.normal(5, 3, len(position))
    return lfp.astype(np.float32)


def as_recording(lfp, *, position=None, good=None, rate=RATE, start=0.0) -> xr.DataTree:
    position = grid() if position is None else position
    count = lfp.shape[1]
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp, {"units": "microvolt"})},
        coords={
            "time": ("time", start + np.arange(len(lfp)) / rate, {"units": "s"}),
            "electrode": np.arange(count),
            "x": ("electrode", position[:count, 0], {"units": "mm"}),
            "y": ("electrode", position[:count, 1], {"units": "mm"}),
            "good": ("electrode", np.ones(count, bool) if good is None else good),
        },
        attrs={"sampling_rate": rate},
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"session": "planted"}), "field": field})


def plane(latents: xr.Dataset, oscillator: int) -> tuple[float, float]:
    """Direction of propagation (degrees) and speed (mm/s) of a loading, by a plane fit."""
    one = latents.isel(oscillator=oscillator, electrode=latents["good"].values)
    position = np.stack([one["x"].values, one["y"].values], axis=1)
    weight = one["loading_amplitude"].values ** 2
    phase = one["loading_phase"].values

    def misfit(k):
        return -abs(np.sum(weight * np.exp(1j * (phase + position @ k)))) / weight.sum()

    starts = [(i, j) for i in np.linspace(-2, 2, 21) for j in np.linspace(-2, 2, 21)]
    k = minimize(misfit, min(starts, key=misfit), method="Nelder-Mead").x
    speed = 2 * np.pi * float(one["frequency"]) / np.hypot(*k)
    return float(np.degrees(np.arctan2(k[1], k[0]))), float(speed)


def turned(found: float, planted: float) -> float:
    return abs((found - planted + 180) % 360 - 180)


WAVES = [(8.0, 0.985, 30.0, 120.0), (20.0, 0.97, -110.0, 200.0)]


@pytest.fixture(scope="module")
def planted() -> xr.DataTree:
    return as_recording(plant(60, WAVES))


@pytest.fixture(scope="module")
def fitted(planted) -> Fit:
    return fit(planted, Params(background="factors", slow_factors=2), seed=0)


@pytest.fixture(scope="module")
def latents(planted, fitted) -> xr.Dataset:
    return fitted.infer(planted)


def test_output_keeps_the_contract(planted, latents):
    assert latents["latent"].dims == latents["latent_sd"].dims == ("time", "latent")
    assert list(latents["label"].values) == [
        "osc0_re",
        "osc0_im",
        "osc1_re",
        "osc1_im",
        "slow0",
        "slow1",
    ]
    np.testing.assert_array_equal(latents["time"], planted["field/time"])
    assert latents.attrs["sampling_rate"] == RATE
    assert latents["loading_phase"].dims == ("oscillator", "electrode")
    for name in ("latent", "frequency", "loading_amplitude", "loading_phase", "noise_variance"):
        assert latents[name].attrs["units"]
        assert np.isfinite(latents[name]).all()
    assert latents["train_loss"].dims == latents["valid_loss"].dims == ("epoch",)
    assert np.isfinite(latents.attrs["log_likelihood"])


def test_latents_have_unit_variance_and_reproduce_the_field(planted, latents):
    variance = latents["latent"].var("time") + (latents["latent_sd"] ** 2).mean("time")
    np.testing.assert_allclose(variance[:4], 1, atol=0.25)
    pairs = latents["latent"].values[:, :4]
    z = pairs[:, 0::2] + 1j * pairs[:, 1::2]
    c = (latents["loading_amplitude"] * np.exp(1j * latents["loading_phase"])).values
    slow = latents["latent"].values[:, 4:] @ latents["slow_loading"].values
    left = planted["field/lfp"].values - (z @ c).real - slow - latents["offset"].values
    np.testing.assert_allclose(left.std(0), 12, rtol=0.03)


def test_noise_variance_is_recovered(latents):
    np.testing.assert_allclose(latents["noise_variance"], 144, rtol=0.05)


@pytest.mark.parametrize("k", [0, 1])
def test_planted_waves_are_recovered(latents, k):
    frequency, damping, degrees, speed = WAVES[k]
    found_direction, found_speed = plane(latents, k)
    # Three standard errors of an AR(1)'s phase and damping over the 42 s that are fitted.
    error = np.sqrt((1 - damping**2) / (42 * RATE))
    assert float(latents["frequency"][k]) == pytest.approx(
        frequency, abs=max(0.01 * frequency, 3 * error * RATE / (2 * np.pi))
    )
    assert float(latents["damping"][k]) == pytest.approx(damping, abs=3 * error)
    assert turned(found_direction, degrees) < 2
    assert found_speed == pytest.approx(speed, rel=0.05)
    np.testing.assert_allclose(latents["loading_amplitude"][k], 10, rtol=0.2)


@pytest.mark.slow
def test_four_oscillators_over_seeds_without_bias():
    waves = [
        (6.0, 0.985, 30.0, 100.0),
        (11.0, 0.98, -100.0, 160.0),
        (21.0, 0.96, 160.0, 200.0),
        (35.0, 0.93, 75.0, 300.0),
    ]
    planted = np.array(waves)
    frequencies, dampings, directions, speeds = [], [], [], []
    for seed in range(6):
        recording = as_recording(plant(240, waves, seed=seed))
        model = fit(recording, Params(background="factors", slow_factors=2), seed=0)
        assert len(model.model.angle) == 4
        frequencies.append(model.model.angle * RATE / (2 * np.pi))
        dampings.append(model.model.damping)
        found = model.infer(recording)
        maps = [plane(found, k) for k in range(4)]
        directions.append([turned(maps[k][0], waves[k][2]) for k in range(4)])
        speeds.append([maps[k][1] / waves[k][3] for k in range(4)])
    np.testing.assert_allclose(np.mean(frequencies, 0), planted[:, 0], rtol=0.01)
    error = np.sqrt((1 - planted[:, 1] ** 2) / (0.7 * 240 * RATE * 6))
    assert (np.abs(np.mean(dampings, 0) - planted[:, 1]) < 3 * error).all()
    assert np.median(directions, 0).max() < 1
    np.testing.assert_allclose(np.mean(speeds, 0), 1, atol=0.05)


def small_problem(seed=0, samples=3000, full=False):
    """Standardised float64 data of two oscillators and a slow factor, and a start off the truth."""
    lfp = plant(samples / RATE, WAVES, seed=seed, position=grid(3), slow=(0.99,)).astype(float)
    lfp = (lfp - lfp.mean(0)) / lfp.std(0)
    rng = np.random.default_rng(seed)
    noise = np.full(9, 0.5)
    start = Oscillators(
        angle=2 * np.pi * np.array([7.0, 22.0]) / RATE,
        damping=np.array([0.95, 0.95]),
        slow_damping=np.array([0.95]),
        loading=rng.normal(0, 0.3, (9, 5)),
        noise=np.diag(noise) if full else noise,
    )
    bounds = Bounds((2 * np.pi * 3 / RATE, 2 * np.pi * 45 / RATE), 0.86)
    return Observations(lfp, int(0.8 * samples), full=full), start, bounds


@pytest.mark.parametrize("full", [False, True])
def test_em_never_lowers_the_likelihood(full):
    observations, model, bounds = small_problem(full=full)
    likelihoods = []
    for _ in range(60):
        moments = observations.moments(model)
        likelihoods.append(moments.fitted)
        model = maximise(model, moments, bounds)
    assert np.diff(likelihoods).min() > -1e-7
    assert likelihoods[-1] - likelihoods[0] > 500


@pytest.mark.parametrize("full", [False, True])
def test_likelihood_equals_joint_gaussian(full):
    observations, model, _ = small_problem(samples=40, full=full)
    space = model.state_space(np.zeros((5, 5)))
    powers = [np.linalg.matrix_power(space.transition, k) for k in range(40)]
    noise = model.noise if full else np.diag(model.noise)
    covariance = np.block(
        [
            [
                model.loading @ (powers[s - t] if s >= t else powers[t - s].T) @ model.loading.T
                + (s == t) * noise
                for t in range(40)
            ]
            for s in range(40)
        ]
    )

    def density(rows):
        y, part = observations.data[:rows].ravel(), covariance[: 9 * rows, : 9 * rows]
        logarithm = len(y) * np.log(2 * np.pi) + np.linalg.slogdet(part)[1]
        return -0.5 * (logarithm + y @ np.linalg.solve(part, y))

    moments = observations.moments(model)
    assert moments.fitted == pytest.approx(density(32), abs=1e-7)
    assert moments.validation == pytest.approx(density(40) - density(32), abs=1e-7)


def test_m_step_leaves_the_unit_variance_gauge():
    observations, model, bounds = small_problem()
    model = maximise(model, observations.moments(model), bounds)
    space = model.state_space(np.zeros((5, 5)))
    stationary = space.transition @ space.transition.T + space.noise
    np.testing.assert_allclose(stationary, np.eye(5), atol=1e-12)


def test_gauge_changes_no_likelihood_and_orders_frequencies():
    observations, model, bounds = small_problem()
    model = maximise(model, observations.moments(model), bounds)
    shuffled = Oscillators(
        model.angle[::-1],
        model.damping[::-1],
        model.slow_damping,
        model.loading[:, [2, 3, 0, 1, 4]] * np.array([1, 1, 1, 1, -1]),
        model.noise,
    )
    fixed = fix_gauge(shuffled)
    assert (np.diff(fixed.angle) > 0).all()
    assert observations.moments(fixed).fitted == pytest.approx(observations.moments(model).fitted)
    c = fixed.complex_loading
    weighted = (np.abs(c) * c).sum(1)
    np.testing.assert_allclose(weighted.imag, 0, atol=1e-10)
    assert (weighted.real > 0).all()
    assert fixed.slow_loading.sum() >= 0


@pytest.mark.slow
def test_same_seed_gives_the_same_fit(planted):
    params = Params(background="factors", slow_factors=2, iterations=30, gradient_steps=5)
    first, again = (fit(planted, params, seed=0) for _ in range(2))
    for name, array in first.model.arrays().items():
        np.testing.assert_array_equal(again.model.arrays()[name], array)


@pytest.mark.slow
def test_an_interrupted_fit_resumes_to_the_same_result(planted, tmp_path, monkeypatch):
    params = Params(iterations=35, tolerance=0, gradient_steps=5)
    undisturbed = fit(planted, params, seed=0)
    calls = []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 24:
            raise KeyboardInterrupt
        return maximise(*arguments)

    monkeypatch.setattr(oscillator_training, "maximise", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(planted, params, seed=0, checkpoint=tmp_path)
    resumed = fit(planted, params, seed=0, checkpoint=tmp_path)
    assert len(calls) == 24 + 15
    for name, array in undisturbed.model.arrays().items():
        np.testing.assert_array_equal(resumed.model.arrays()[name], array)
    np.testing.assert_array_equal(resumed.curves["valid_loss"], undisturbed.curves["valid_loss"])


@pytest.mark.slow
def test_a_checkpoint_of_other_settings_is_ignored(planted, tmp_path):
    fit(planted, Params(iterations=12, tolerance=0, gradient_steps=0), seed=0, checkpoint=tmp_path)
    params = Params(iterations=12, tolerance=0, gradient_steps=0, max_bandwidth=8)
    other = fit(planted, params, seed=0, checkpoint=tmp_path)
    np.testing.assert_array_equal(
        other.curves["train_loss"], fit(planted, params, seed=0).curves["train_loss"]
    )


def test_save_and_load_round_trip(planted, fitted, latents, tmp_path):
    fitted.save(tmp_path)
    xr.testing.assert_identical(Fit.load(tmp_path).infer(planted), latents)


def test_validation_stretch_does_not_enter_the_fit(planted):
    changed = planted["field/lfp"].values.copy()
    changed[int(0.7 * len(changed)) :] *= 3
    params = Params(background="factors", iterations=5, patience=50, gradient_steps=0)
    one = fit(planted, params, seed=0)
    two = fit(as_recording(changed), params, seed=0)
    np.testing.assert_array_equal(one.curves["train_loss"], two.curves["train_loss"])
    assert two.curves["valid_loss"][-1] > one.curves["valid_loss"][-1] + 0.5


@pytest.mark.slow
def test_lazy_long_field_gives_the_same_as_one_in_memory():
    rng = np.random.default_rng(0)
    lfp = np.repeat(plant(30, WAVES), 4, axis=0) + rng.normal(0, 1, (30000, 36)).astype("f4")
    lazy = as_recording(da.from_array(lfp, chunks=(1700, 36)), rate=1000.0, start=5.0)
    params = Params(iterations=5)
    memory, streamed = (fit(r, params, seed=0) for r in (as_recording(lfp, rate=1000.0), lazy))
    np.testing.assert_array_equal(memory.model.loading, streamed.model.loading)
    latents = streamed.infer(lazy)
    assert latents.sizes["time"] == 7500
    np.testing.assert_allclose(latents["time"], 5 + np.arange(7500) / 250)


def test_decimation_keeps_the_passband_and_its_phase():
    time = np.arange(20000) / 1000
    lfp = np.stack([np.cos(2 * np.pi * f * time) for f in (5.0, 40.0, 200.0)], axis=1)
    source = field_source(as_recording(lfp, rate=1000.0), 250, "test", passband=45)
    blocks = np.concatenate(list(source.blocks()))
    kept = source.time()
    assert len(blocks) == source.samples == len(kept) == 5000
    np.testing.assert_allclose(blocks[50:-50, 0], np.cos(2 * np.pi * 5 * kept)[50:-50], atol=3e-3)
    np.testing.assert_allclose(blocks[50:-50, 1], np.cos(2 * np.pi * 40 * kept)[50:-50], atol=3e-3)
    assert np.abs(blocks[50:-50, 2]).max() < 3e-3


@pytest.mark.slow
def test_bad_electrodes_are_left_out_and_keep_nan():
    lfp = plant(20, WAVES[:1])
    good = np.ones(36, bool)
    good[[3, 17]] = False
    lfp[:, 3], lfp[:, 17] = np.nan, 0
    recording = as_recording(lfp, good=good)
    latents = fit(recording, Params(iterations=10), seed=0).infer(recording)
    for name in ("loading_amplitude", "loading_phase"):
        np.testing.assert_array_equal(np.isnan(latents[name].values).all(0), ~good)
    np.testing.assert_array_equal(latents["good"], good)


def correlated_noise(samples, position, rng):
    """1/f noise (power falling as f^-1.5) correlated over 1 mm."""
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    mixing = np.linalg.cholesky(0.9 * np.exp(-distance) + 0.1 * np.eye(len(position)))
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    white = np.fft.rfft(rng.normal(size=(samples, len(position))), axis=0)
    shaped = white * np.maximum(frequency, 0.5)[:, None] ** -0.75
    noise = np.fft.irfft(shaped, samples, axis=0)
    return noise / noise.std() @ mixing.T


def burst(samples, frequency):
    time = np.arange(samples) / RATE
    return (np.sin(2 * np.pi * 0.4 * time) > 0) * np.exp(2j * np.pi * frequency * time)


@pytest.mark.slow
def test_whitening_finds_the_wave_in_correlated_noise_and_no_lag_without_one():
    rng = np.random.default_rng(1)
    samples, position = int(40 * RATE), grid()
    noise = 20 * correlated_noise(samples, position, rng)
    wavevector = 2 * np.pi * 12 / 150 * np.array([np.cos(0.7), np.sin(0.7)])
    wave = 15 * burst(samples, 12)[:, None] * np.exp(-1j * position @ wavevector)
    recording = as_recording((noise + wave.real).astype(np.float32))
    latents = fit(recording, Params(iterations=40), seed=0).infer(recording)
    assert latents.sizes["oscillator"] == 1
    assert float(latents["frequency"][0]) == pytest.approx(12, rel=0.015)
    direction, speed = plane(latents, 0)
    assert turned(direction, np.degrees(0.7)) < 3
    assert speed == pytest.approx(150, rel=0.1)

    still = 15 * burst(samples, 12)[:, None] * np.cos(position @ [1.0, 0.4])
    recording = as_recording((noise + still.real).astype(np.float32))
    latents = fit(recording, Params(iterations=40), seed=0).infer(recording)
    c = (latents["loading_amplitude"] * np.exp(1j * latents["loading_phase"])).values[0]
    lagged = np.sum(np.imag(c * np.exp(-0.5j * np.angle(np.sum(c**2)))) ** 2)
    assert lagged / np.sum(np.abs(c) ** 2) < 0.01


@pytest.mark.slow
def test_several_patterns_at_one_peak():
    recording = as_recording(plant(30, [(12.0, 0.985, 0.0, 80.0), (12.0, 0.985, 90.0, 80.0)]))
    latents = fit(recording, Params(per_peak=2, iterations=50), seed=0).infer(recording)
    assert latents.sizes["oscillator"] == 2
    c = (latents["loading_amplitude"] * np.exp(1j * latents["loading_phase"])).values
    position, k = grid(), 2 * np.pi * 12 / 80
    planted = np.exp(-1j * k * position.T)
    # Equal oscillators are known up to their subspace only: compare by principal angles.
    basis, truth = np.linalg.qr(c.T)[0], np.linalg.qr(planted.T)[0]
    assert np.linalg.svd(basis.conj().T @ truth)[1].min() > 0.95


def test_noise_without_oscillation_has_no_peak():
    noise = correlated_noise(int(60 * RATE), grid(), np.random.default_rng(2))
    found = spectrum(noise.astype(np.float32), RATE, 67.5)
    assert len(spectral_peaks(found, (3.0, 45.0), Params().peak_prominence)) == 0


def test_model_spectrum_agrees_with_welch():
    z = oscillation(200_000, 12.0, 0.95, np.random.default_rng(3))
    frequency, power = welch(z.real, RATE, nperseg=1000)
    part = (frequency > 5) & (frequency < 40)
    expected = oscillation_spectrum(frequency[part], 12.0, 0.95, RATE)
    np.testing.assert_allclose(np.log(power[part]), np.log(expected), atol=0.35)
    assert np.mean(power[part] / expected) == pytest.approx(1, abs=0.03)
    fine = np.linspace(0, RATE / 2, 20001)
    area = np.trapezoid(oscillation_spectrum(fine, 12.0, 0.95, RATE), fine)
    assert area == pytest.approx(1, rel=1e-3)


def test_whitening_flattens_without_moving_phase():
    rng = np.random.default_rng(4)
    noise = correlated_noise(100_000, grid(1), rng)
    frequency = np.linspace(1, 125, 300)
    whitening = Whitening.of_background(frequency, -1.5 * np.log(frequency), RATE)
    f, power = welch(whitening.apply(noise.copy())[:, 0], RATE, nperseg=500)
    level = np.log(power[(f > 3) & (f < 120)])
    slope = np.polyfit(np.log(f[(f > 3) & (f < 120)]), level, 1)[0]
    assert abs(slope) < 0.05
    time = np.arange(2500) / RATE
    wave = np.cos(2 * np.pi * 10 * time)
    gain = whitening.gain(np.array([10.0]))[0]
    filtered = whitening.apply(wave[:, None].copy())[:, 0]
    np.testing.assert_allclose(filtered[300:-300], gain * wave[300:-300], atol=1e-3 * abs(gain))
    grid_gain = whitening.gain(np.linspace(0, RATE / 2, 1025))
    assert np.log(np.abs(grid_gain)).mean() == pytest.approx(0, abs=1e-6)


def small(seconds=8, channels=4):
    return plant(seconds, WAVES[:1], position=grid(2))[:, :channels]


@pytest.mark.parametrize(
    ("change", "params", "match"),
    [
        ("nan_channel", {}, "electrode 2 all NaN over the fitted stretch"),
        ("constant", {}, "a constant signal on electrode 0"),
        ("", {"oscillators": 5}, "4 good electrodes, expected at least as many as oscillators"),
        ("", {"band": (3.0, 130.0)}, "expected a rate that carries 130 Hz"),
        ("short", {}, "1.4 s to fit, expected at least 3.5 s"),
        ("noise", {"peak_prominence": 8.0}, "no spectral peak from 3 to 45 Hz"),
        ("no_field", {}, "a group 'field'"),
        ("all_bad", {}, "no good electrode"),
    ],
)
def test_unusable_fields_are_refused(change, params, match):
    lfp = small()
    good = np.ones(4, bool)
    if change == "nan_channel":
        lfp[:, 2] = np.nan
    elif change == "constant":
        lfp[:, 0] = 3
    elif change == "short":
        lfp = lfp[:500]
    elif change == "noise":
        lfp = np.random.default_rng(0).normal(size=lfp.shape).astype(np.float32)
    elif change == "all_bad":
        good[:] = False
    recording = as_recording(lfp, position=grid(2), good=good)
    if change == "no_field":
        del recording["field"]
    with pytest.raises(InputError, match=match):
        fit(recording, Params(**params), seed=0)


def test_infer_refuses_other_electrodes(fitted):
    with pytest.raises(InputError, match="found 4 good of 4 electrodes"):
        fitted.infer(as_recording(small(), position=grid(2)))


def test_figure_marks_frequencies_and_maps(planted, latents):
    import matplotlib.pyplot as plt

    from driftwave.figures.oscillators import draw

    figure = draw(planted, {"latents": latents})
    titles = [axes.get_title() for axes in figure.axes]
    assert sum("of variance" in title for title in titles) == 2
    labels = {axes.get_xlabel() for axes in figure.axes}
    assert {"frequency (Hz)", "time (s)"} <= labels
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.slow
@pytest.mark.recording
def test_seizure_wave_direction(recordings):
    import h5py

    with h5py.File(recordings / "utah_seizure.nwb", "r") as file:
        series = file["processing/ecephys/LFP/ElectricalSeries"]
        lfp = (series["data"][:] * series["data"].attrs["conversion"] * 1e6).astype(np.float32)
        rate = float(series["starting_time"].attrs["rate"])
        table = file["general/extracellular_ephys/electrodes"]
        position = np.stack([table["rel_x"][:], table["rel_y"][:]], axis=1) / 1000
        position = position[series["electrodes"][:]]
    recording = as_recording(lfp, position=position, rate=rate)
    latents = fit(recording, Params(oscillators=1, band=(1.0, 13.0)), seed=0).infer(recording)
    direction, speed = plane(latents, 0)
    assert turned(direction, -161) < 20
    assert 70 < speed < 260
