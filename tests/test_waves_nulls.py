"""Nulls of travelling waves: what each keeps and destroys, and that their p values hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.experiments._calibration_fields import BAND, CONDITIONS, field
from driftwave.nulls.cross_spectrum import CrossSpectrum, zero_lag_factors
from driftwave.nulls.filter_shape import FilterShape
from driftwave.nulls.kinds import COUNTS, NULLS, QUESTIONS, common_phase, independent_phase, shifted
from driftwave.nulls.multiplicity import p_maximum, p_value
from driftwave.nulls.of_field import field_nulls, recording_windows
from driftwave.nulls.statistics import recording_means
from driftwave.nulls.surrogates import matched_course, smoothed, surrogate
from driftwave.phase.directionality import directionality_of
from driftwave.phase.electrodes import place
from driftwave.phase.filters import analytic
from driftwave.phase.frames import open_field
from driftwave.phase.passes import read_frames
from driftwave.phase.reference import reference_of
from driftwave.wave_events.spans import SpanFinder
from driftwave.waves.phase_gradient import Params, analyse
from waves_cases import grid, noise, phase_of, recording_of

RATE = 250.0


def test_p_values_by_hand():
    null = np.array([[1.0, 5.0], [2.0, 1.0], [3.0, 4.0]])
    np.testing.assert_allclose(p_value(null, np.array([2.0, 6.0])), [3 / 4, 1 / 4])
    # Of 9, 1, 2, 3 the 9 stands out by 1.69 SD; of 1, 5, 1, 4 the 5 by 1.26.
    assert p_maximum(null, np.array([9.0, 1.0])) == 1 / 4
    assert p_maximum(null, np.array([0.0, 1.0])) == 1


def test_p_of_exchangeable_draws_is_uniform():
    """Each rank is as likely as any other: P(p <= k / 20) = k / 20 exactly, whatever the scales."""
    rng = np.random.default_rng(0)
    draws = rng.gamma(0.5, [1.0, 10.0, 0.1], size=(4000, 20, 3)) + rng.normal(size=(4000, 20, 1))
    p = np.array([p_maximum(one[1:], one[0]) for one in draws])
    counts = np.bincount(np.round(20 * p).astype(int), minlength=21)[1:]
    assert counts.sum() == 4000
    assert stats.chisquare(counts).pvalue > 0.001


def test_the_band_keeps_its_edges():
    """Filtered white noise: Welch's segments widen its band, surrogates must not be wider."""
    rng = np.random.default_rng(1)
    every, length, count = 6, 42, 120_000
    samples = rng.normal(size=(4, count))
    field_ = analytic(samples, rate=RATE, band=BAND, before=600, after=600, every=every)
    factors = zero_lag_factors(CrossSpectrum.of(field_.astype(np.complex64), length).mean)
    frames = field_.shape[1]
    shape = FilterShape(BAND, RATE, RATE / every, length)

    def spread(signal: np.ndarray) -> float:
        """Variance of the power spectrum about its mean frequency, Hz^2."""
        power = (np.abs(np.fft.fft(signal, axis=1)) ** 2).sum(axis=0)
        frequency = np.arange(frames) * RATE / every / frames
        mean = (power * frequency).sum() / power.sum()
        return float((power * (frequency - mean) ** 2).sum() / power.sum())

    plain = np.mean([spread(surrogate(factors, frames, rng)) for _ in range(8)])
    shaped = np.mean([spread(surrogate(factors, frames, rng, shape)) for _ in range(8)])
    assert shaped == pytest.approx(spread(field_), rel=0.02)
    assert plain > 1.03 * shaped


def test_gain_follows_modulation_and_not_chance():
    rng = np.random.default_rng(2)

    def power(count: int = 3000) -> np.ndarray:
        return (np.abs(rng.normal(size=(3, count)) + 1j * rng.normal(size=(3, count))) ** 2).sum(0)

    pilots = [power() for _ in range(6)]
    still = np.array([matched_course(power(), pilots, 10).std() for _ in range(20)])
    assert np.mean(still < 0.12) >= 0.9
    course = np.exp(np.sin(np.arange(3000) / 100))
    gain = matched_course(course * power(), pilots, 10)
    assert np.corrcoef(gain**2, course)[0, 1] > 0.9
    drawn = np.mean([smoothed(gain**2 * power(), 10).var() for _ in range(10)])
    assert drawn == pytest.approx(smoothed(course * power(), 10).var(), rel=0.15)


def test_common_phase_keeps_lags_and_independent_phase_does_not():
    rng = np.random.default_rng(3)
    position = grid(4, 4)
    phase = phase_of("planar", position, frequency=12, speed=100)
    carrier = rng.normal(size=400) + 1j * rng.normal(size=400)
    signal = np.exp(1j * phase)[:, None] * carrier
    before = np.fft.fft(signal, axis=1)
    for kind, same in ((common_phase, True), (independent_phase, False)):
        after = np.fft.fft(kind(signal, rng), axis=1)
        np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-3)
        change = np.abs(after[1] * after[0].conj() - before[1] * before[0].conj())
        assert (change.max() < 1e-2) == same


def test_grid_shift_rolls_the_array():
    electrodes = place(grid(5, 4))
    number = np.arange(20).reshape(4, 5)
    steps = [(i, j) for i in range(4) for j in range(5) if i + j]
    rolls = {tuple(np.roll(number, (-i, -j), (0, 1)).ravel().tolist()) for i, j in steps}
    found = {tuple(shifted(electrodes, np.random.default_rng(s)).tolist()) for s in range(200)}
    assert found == rolls


def test_every_null_says_what_it_asks():
    assert set(QUESTIONS) == {*NULLS, COUNTS}
    assert all("?" in text for text in QUESTIONS.values())
    for legacy in ("independent_phase", "channel_shuffle", "grid_shift"):
        assert "rejects spatially correlated noise" in QUESTIONS[legacy]


def p_of(condition: str, number: int, *kinds: str) -> dict[str, float]:
    """p of a recording of the calibration's kind, by null."""
    rng = generator(90_000, condition, str(number))
    recording = field(CONDITIONS[condition], 20.0, rng)
    reader = open_field(recording, recording["field"].to_dataset(), band=BAND, frame_rate=None)
    frames, measure = read_frames(reader, chunk=60, generalized=False)
    finder = SpanFinder(window=21, shortest=11, longest_gap=4, longest=1250)
    common = {"surrogates": 19, "smoothing": (21,), "quantile": 0.95, "chunk": 60, "seed": number}
    nulls = field_nulls(frames, measure, finder, kinds=("zero_lag", *kinds), **common)
    means = recording_means(frames.fluxes, recording_windows(frames.reader))
    return {null.kind: null.p_any(means) for null in nulls}


@pytest.mark.slow
def test_legacy_nulls_take_correlated_noise_for_waves():
    """Channel shuffle and independent phases, as peers use them, reject where nothing travels."""
    found = [p_of("2 mm, 90 % shared", number, *NULLS[1:]) for number in range(2)]
    for legacy in ("independent_phase", "channel_shuffle", "grid_shift"):
        assert all(p[legacy] == 0.05 for p in found)
    assert all(p["zero_lag"] > 0.05 for p in found)


def test_a_steady_wave_is_seen_by_the_zero_lag_null_only():
    found = [p_of("steady, SNR 1", number, "common_phase") for number in range(2)]
    assert all(p["zero_lag"] == 0.05 for p in found)
    assert all(p["common_phase"] > 0.05 for p in found)


def test_bursts_of_waves_are_found():
    assert all(p_of("bursts, SNR 1", number)["zero_lag"] == 0.05 for number in range(2))


@pytest.mark.slow
def test_p_is_uniform_for_surrogates_of_a_surrogate():
    """A field that is itself a surrogate: its own surrogates cannot tell it from their kind."""
    position = grid(6, 6)
    measure = directionality_of(place(position))
    rng = np.random.default_rng(5)
    samples = noise(rng, position, 9000, RATE, length=1.0, shared=0.7)
    settings = {"rate": RATE, "band": BAND, "before": 600, "after": 600, "every": 6}
    factors = zero_lag_factors(
        CrossSpectrum.of(analytic(samples, **settings).astype(np.complex64), 84).mean
    )
    p = []
    for _ in range(120):
        seen = surrogate(factors, 840, rng)
        own = zero_lag_factors(CrossSpectrum.of(seen, 84).mean)
        means = [
            recording_means(measure(one), (42, 333))
            for one in (seen, *(surrogate(own, 840, rng) for _ in range(19)))
        ]
        p.append(float(p_maximum(np.stack(means[1:]).reshape(19, -1), means[0].ravel())))
    rejected = np.mean(np.array(p) <= 0.05)
    # 14 of 120 or more have probability .003 at .05.
    assert rejected < 14 / 120
    assert stats.kstest(np.array(p) - 0.025, "uniform").pvalue > 0.001


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["white", "2 mm, 90 % shared", "common reference"])
def test_false_positives_stay_at_the_level(condition):
    hits = sum(p_of(condition, number)["zero_lag"] <= 0.05 for number in range(40))
    # 7 of 40 or more have probability .003 at .05.
    assert hits < 7


def test_further_nulls_stand_beside_the_default():
    rng = np.random.default_rng(6)
    position = grid(6, 6)
    time = np.arange(round(12 * RATE)) / RATE
    samples = noise(rng, position, len(time), RATE, length=1.0, shared=0.9)
    phase = phase_of("planar", position, frequency=12, speed=120)
    inside = (time > 4) & (time < 8)
    samples += 2 * inside * np.cos(2 * np.pi * 12 * time + phase[:, None])
    params = Params(
        band=BAND, surrogates=19, bootstrap=20, delay_band=None, fields=(),
        further_nulls=("common_phase", "channel_shuffle"),
    )  # fmt: skip
    found = analyse(recording_of(samples.T, position, RATE), None, params, seed=0)
    assert found.attrs["null"] == "zero-lag cross-spectrum surrogates"
    assert list(found.attrs["further_nulls"]) == ["common_phase", "channel_shuffle"]
    for ending in ("", "_common_phase", "_channel_shuffle"):
        assert found[f"p_recording{ending}"].dims == ("family",)
        assert found[f"null_mean{ending}"].shape == (19, 3)
        assert found[f"p{ending}"].dims == ("event",)
        question = found[f"p_recording{ending}"].attrs["question"]
        assert question == QUESTIONS[ending[1:] or "zero_lag"]
    assert float(found["p_recording_any"]) == 0.05
    assert not np.array_equal(found["null_mean"].values, found["null_mean_common_phase"].values)
    with pytest.raises(ValueError, match="further_nulls"):
        Params(further_nulls=("bootstrap",))


def test_references_remove_what_is_shared_and_keep_waves():
    electrodes = place(grid(8, 8, corners=False))
    samples = np.random.default_rng(7).normal(size=(len(electrodes), 30))
    average = reference_of(electrodes, "common_average")
    np.testing.assert_allclose(average(samples), samples - samples.mean(0), atol=1e-5)
    np.testing.assert_array_equal(reference_of(electrodes, "none")(samples), samples)


@pytest.mark.parametrize("layout", ["grid", "irregular"])
def test_current_source_density_keeps_the_phase_of_a_plane_wave(layout):
    position = grid(8, 8)
    if layout == "irregular":
        position = position + np.random.default_rng(8).uniform(-0.1, 0.1, position.shape)
    electrodes = place(position)
    density = reference_of(electrodes, "csd")
    assert len(electrodes) / 2 < len(density.kept) < len(electrodes)
    shared = 3.0 + position @ [1.0, -2.0]
    assert np.abs(density(shared[:, None])).max() < 1e-4
    wave = np.exp(1j * phase_of("planar", position, frequency=12, speed=60, direction=30))
    turned = np.angle(density(wave[:, None])[:, 0] * wave[density.kept].conj())
    assert np.median(np.abs(turned)) < (1e-4 if layout == "grid" else 0.3)


def test_a_reader_takes_a_reference():
    rng = np.random.default_rng(9)
    position = grid(6, 6)
    samples = rng.normal(size=(36, 1500)) + 50 * rng.normal(size=1500)
    recording = recording_of(samples.T, position, RATE)
    dataset = recording["field"].to_dataset()
    common = {"band": BAND, "frame_rate": None}
    plain = open_field(recording, dataset, **common).signal(0, 400)
    average = open_field(recording, dataset, **common, reference="common_average")
    np.testing.assert_allclose(average.signal(0, 400), plain - plain.mean(axis=0), atol=1e-3)
    density = open_field(recording, dataset, **common, reference="csd")
    # All but the corners, each where it stood: electrode 7 is the fifth after 0.
    corners = [0, 5, 30, 35]
    assert density.electrodes.index.tolist() == [i for i in range(36) if i not in corners]
    np.testing.assert_array_equal(density.electrodes.position, np.delete(position, corners, axis=0))
    inside = plain[7] - (plain[1] + plain[13] + plain[6] + plain[8]) / 4
    np.testing.assert_allclose(density.signal(0, 400)[5], inside, atol=1e-3)


def test_too_few_electrodes_for_a_reference_are_named():
    position = grid(2, 2)
    recording = recording_of(np.random.default_rng(0).normal(size=(1500, 4)), position, RATE)
    with pytest.raises(InputError, match="reference csd"):
        open_field(
            recording, recording["field"].to_dataset(), band=BAND, frame_rate=None, reference="csd"
        )
