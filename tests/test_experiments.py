"""Experiments: exact intervals, planted fields, and what the figures say."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binomtest

from driftwave.compute import dask_threads
from driftwave.experiments import oscillator_coverage as coverage
from driftwave.experiments import travelling_calibration as travelling
from driftwave.experiments._chance import binomial_interval
from driftwave.experiments._travelling_fields import (
    Condition,
    conditions,
    in_band,
    planted,
)


def test_the_binomial_interval_is_that_of_scipy():
    hits, trials = np.array([0, 1, 7, 39, 40]), 40
    low, high = binomial_interval(hits, trials)
    for k, a, b in zip(hits, low, high, strict=True):
        expected = binomtest(int(k), trials).proportion_ci(method="exact")
        assert (a, b) == pytest.approx((expected.low, expected.high))


def test_the_binomial_interval_covers():
    """At any probability, at least as often as it says."""
    probability, trials = np.array([0.02, 0.05, 0.5, 0.95]), 30
    hits = np.random.default_rng(0).binomial(trials, probability, (4000, 4))
    low, high = binomial_interval(hits, trials)
    held = ((low <= probability) & (probability <= high)).mean(0)
    assert (held > 0.945).all()


def test_planted_waves_travel_as_told():
    """The phase of the field at the wave's frequency falls along its direction."""
    condition = Condition("wave", 30.0, "independent", "whitened")
    recording, direction = planted(condition, 8, 30.0, np.random.default_rng(3))
    field = recording["field/lfp"].values
    spectrum = np.fft.rfft(field, axis=0)
    peak = spectrum[np.argmax((np.abs(spectrum) ** 2).sum(1))]
    phase = np.angle(peak.reshape(8, 8))  # row along y
    step_x = np.angle(np.exp(1j * np.diff(phase, axis=1))).mean()
    step_y = np.angle(np.exp(1j * np.diff(phase, axis=0))).mean()
    found = np.degrees(np.arctan2(-step_y, -step_x))
    assert abs((found - direction + 180) % 360 - 180) < 3


@pytest.mark.parametrize("snr", [0.5, 2.0])
def test_planted_fields_have_their_ratio(snr):
    rng = np.random.default_rng([int(10 * snr)])
    state = rng.bit_generator.state
    with_wave, _ = planted(Condition("wave", snr, "shared", "whitened"), 5, 40.0, rng)
    rng.bit_generator.state = state
    alone, _ = planted(Condition("noise", 0.0, "shared", "whitened"), 5, 40.0, rng)
    noise = alone["field/lfp"].values
    signal = with_wave["field/lfp"].values - noise
    assert in_band(signal) / in_band(noise) == pytest.approx(snr, rel=1e-3)


@pytest.mark.parametrize("kind", ["noise", "band", "bursts", "standing", "wave"])
def test_only_waves_have_lags(kind):
    """Size of the imaginary part of the cross-spectrum by that of the real part, 8 to 16 Hz."""
    condition = [one for one in conditions() if one.kind == kind][-1]
    ratios = []
    for number in range(8):
        recording, direction = planted(condition, 5, 60.0, np.random.default_rng([7, number]))
        assert np.isnan(direction) == (kind != "wave")
        spectrum = np.fft.rfft(recording["field/lfp"].values, axis=0)
        band = spectrum[8 * 60 : 16 * 60]
        cross = band.T @ band.conj()
        ratios.append(np.linalg.norm(cross.imag) / np.linalg.norm(cross.real))
    if kind == "wave":
        assert min(ratios) > 0.1
    else:
        assert max(ratios) < 0.1


def test_scores_of_the_truth_are_zero():
    params = coverage.Params(sets=1, duration=30.0, electrodes=3)
    truth = coverage.planted(params)
    found = coverage.refitted(truth, params, 0, 0)
    z = coverage.scores(found, truth)
    assert z.shape == (2 + 2 + 6 + 6,)
    np.testing.assert_allclose(coverage.scores(found, found.model), 0)
    hertz = params.rate / (2 * np.pi)
    assert hertz * found.model.angle == pytest.approx(coverage.FREQUENCY, abs=0.5)
    assert z[0] == (found.model.angle[0] - truth.angle[0]) / found.errors.angle[0]


def test_a_quarter_is_missing():
    params = coverage.Params(sets=1, duration=80.0, missing=True)
    rng = np.random.default_rng(0)
    lfp = coverage.simulated(coverage.planted(params), params, rng)["field/lfp"]
    assert np.isnan(lfp.values).mean(0) == pytest.approx(np.full(8, 0.25), abs=0.01)


def test_claims_need_evidence():
    factor = np.array([np.nan, -1.0, 0.5, 0.5, 4.0])
    p = np.array([0.05, 0.05, 0.05, 0.5, 0.5])
    expected = [[False, False, False, False, True], [False, False, True, False, False]]
    np.testing.assert_array_equal(travelling.claims(factor, p), expected)


@pytest.fixture(scope="module")
def calibration() -> xr.Dataset:
    params = travelling.Params(
        sets=2, duration=30.0, side=6, kinds=("wave",), backgrounds=("whitened",)
    )
    with dask_threads(1):
        return travelling.run(params, seed=0)


@pytest.mark.slow
def test_a_clear_wave_is_found(calibration):
    clear = calibration.isel(condition=calibration["snr"].values == 2)
    assert (clear["log_bayes_factor"] > travelling.STRONG).all()
    assert np.abs(clear["direction_error"]).max() < 20
    assert float(clear["claimed"].sel(rule="log BF > ln 20").item()) == 1
    low, _ = binomial_interval(2, 2)
    assert float(clear["claimed_low"].isel(rule=0).item()) == pytest.approx(float(low))


@pytest.mark.slow
def test_the_figure_shows_every_share(calibration):
    shares, factors = travelling.draw(calibration).axes
    labels = [label.get_text() for label in shares.get_yticklabels()]
    assert labels == ["wave, SNR 0.5", "wave, SNR 1", "wave, SNR 2"]
    shown = {float(x) for line in shares.lines for x in np.atleast_1d(line.get_xdata())}
    assert set(calibration["claimed"].values.ravel()) <= shown
    assert "nats" in factors.get_xlabel()
    low, high = factors.get_xlim()
    known = calibration["log_bayes_factor"].values
    assert low < np.nanmin(known)
    assert np.nanmax(known) < high


def test_the_coverage_figure_counts_misses():
    """Drawn from a table with a known number of misses."""
    sets, electrodes = 10, 2
    z = np.zeros((sets, 12))
    z[:3, 0] = 5.0
    frequency = np.full((sets, 2), 7.0)
    frequency[:3, 0] = 9.0
    hits = (np.abs(z) < coverage.Z).sum(0)
    low, high = binomial_interval(hits, sets)
    result = xr.Dataset(
        {
            "z": (("set", "value"), z),
            "coverage": ("value", hits / sets),
            "coverage_low": ("value", low),
            "coverage_high": ("value", high),
            "frequency": (("set", "oscillator"), frequency),
            "frequency_sd": (("set", "oscillator"), np.full((sets, 2), 0.1)),
            "frequency_true": ("oscillator", [7.0, 18.0]),
        },
        coords=coverage._labels(electrodes),
        attrs={"level": 0.95, "sets": sets},
    )
    axes = coverage.draw(result).axes
    texts = [text.get_text() for text in axes[2].get_legend().get_texts()]
    assert texts == ["7 hold it", "3 miss it"]
    lowest = min(np.min(line.get_ydata()) for line in axes[0].lines if len(line.get_ydata()) == 2)
    assert lowest == pytest.approx(0.7)
