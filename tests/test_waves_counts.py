"""Surrogates of spike counts: what they keep, and whether sparse counts seem to travel."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.nulls.counts import Counts, Ranked, coherence, corrected, ranked_source
from driftwave.phase.frames import open_field
from driftwave.phase.passes import read_frames
from driftwave.waves.phase_gradient import Params, analyse
from test_wave_signal import spiking
from waves_cases import grid, recording_of

RATE, SECONDS, BAND = 2.0, 900.0, (0.05, 0.25)
PLACE = grid(6, 6)
FAST = Params(band=BAND, surrogates=19, bootstrap=20, fields=("phase",))
TIME = np.arange(round(RATE * SECONDS)) / RATE


def slow(rng: np.random.Generator, most: float) -> np.ndarray:
    """Gaussian noise (time,) below ``most`` Hz, unit variance."""
    spectrum = np.fft.rfft(rng.normal(size=len(TIME)))
    spectrum[np.fft.rfftfreq(len(TIME), 1 / RATE) > most] = 0
    found = np.fft.irfft(spectrum, len(TIME))
    return found / found.std()


def counts_of(kind: str, seed: int) -> np.ndarray:
    """Counts (site, bin): 0.02 to 0.5 per bin, independent, in common bursts, or travelling."""
    rng = np.random.default_rng(seed)
    rate = np.geomspace(0.02, 0.5, len(PLACE))[rng.permutation(len(PLACE)), None]
    if kind == "bursts":
        rate = rate * np.exp(1.2 * slow(rng, 0.3) - 0.7)
    if kind == "waves":
        phase = 2 * np.pi * 0.1 * (TIME - PLACE[:, :1] / 0.4)
        rate = rate * np.exp(1.5 * np.cos(phase) - 0.5)
    return rng.poisson(np.broadcast_to(rate, (len(PLACE), len(TIME)))).astype(float)


def recording(counts: np.ndarray):
    return spiking([], PLACE, counts=counts.T[None], width=1 / RATE)


def source_of(counts: np.ndarray) -> Ranked:
    tree = recording_of(counts.T, PLACE, RATE)
    reader = open_field(tree, tree["field"].to_dataset(), band=BAND, frame_rate=None)
    frames, _ = read_frames(reader, chunk=FAST.chunk, generalized=False)
    gain = np.ones(len(frames.fluxes.power), np.float32)
    return ranked_source(frames, gain, len(gain), seed=0)


def test_each_site_keeps_its_counts():
    source = source_of(counts_of("bursts", 0))
    moved = source.whole(np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(moved), np.sort(source.counts.value))
    assert (moved != source.counts.value).any(axis=1).all()
    (signal,) = source.pieces(np.random.default_rng(1))
    assert signal.shape == (len(PLACE), len(source.gain))


def test_common_bursts_stay_and_lags_go():
    for kind in ("bursts", "waves"):
        source = source_of(counts_of(kind, 0))
        drawn = [source.whole(np.random.default_rng(seed)) for seed in range(4)]
        filtered = [source.counts.analytic(one) for one in (source.counts.value, *drawn)]
        cross = [one @ one.conj().T for one in filtered]
        # Real parts, the coherence without lags, are like the recording's; imaginary ones vanish.
        kept = np.mean([coherence(one.real[None])[0] for one in cross[1:]], axis=0)
        true = coherence(cross[0].real[None])[0]
        assert np.corrcoef(kept.ravel(), true.ravel())[0, 1] > 0.8
        assert np.abs(kept).mean() == pytest.approx(np.abs(true).mean(), rel=0.4)
        if kind == "waves":
            lagged = np.mean([one.imag for one in cross[1:]], axis=0)
            assert np.abs(lagged).mean() < 0.35 * np.abs(cross[0].imag).mean()


def test_bins_that_were_not_observed_stay_empty():
    counts = counts_of("bursts", 0)
    counts[:, 700:720] = np.nan
    source = source_of(counts)
    assert not source.counts.seen[700:720].any()
    moved = source.whole(np.random.default_rng(1))
    seen = source.counts.seen
    np.testing.assert_array_equal(np.sort(moved[:, seen]), np.sort(source.counts.value[:, seen]))


def test_narrow_bins_are_summed_to_frames():
    fine = np.random.default_rng(0).poisson(0.1, (len(PLACE), 4 * len(TIME) + 1)).astype(float)
    tree = recording_of(fine.T, PLACE, 4 * RATE)
    reader = open_field(tree, tree["field"].to_dataset(), band=BAND, frame_rate=RATE)
    frames, _ = read_frames(reader, chunk=FAST.chunk, generalized=False)
    found = Counts.of(frames)
    assert (found.rate, found.every) == (RATE, 4)
    sums = fine[:, :-1].reshape(len(PLACE), -1, 4).sum(axis=2)
    np.testing.assert_array_equal(found.value[:, :-1], sums)
    assert found.seen.tolist() == [True] * len(TIME) + [False]


def test_correction_finds_the_input_of_a_known_loss():
    shared = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 5, 5)) * (1 - np.eye(5))
    target = 2 * np.eye(5) + shared + shared.swapaxes(1, 2)
    # Of power .7 is left, of coherence one half.
    lost = np.where(np.eye(5) == 1, 0.7, 0.35) * target
    given = corrected(target, lost, target)
    np.testing.assert_allclose(np.einsum("fnn->fn", given), 2 / 0.7)
    np.testing.assert_allclose(coherence(given), 2 * coherence(target), rtol=1e-6)
    # More than can be: nearest to it that is a covariance.
    np.linalg.cholesky(corrected(np.full((1, 5, 5), 0.8) + 0.2 * np.eye(5), lost[:1], target[:1]))


@pytest.mark.slow
def test_spikes_take_the_null_of_counts_and_travelling_rates_are_found():
    found = analyse(recording(counts_of("waves", 0)), None, FAST, seed=0)
    assert found.attrs["null"] == "zero-lag surrogates with each site's own counts"
    assert found.attrs["signal"] == "spikes"
    assert "sparse" in found.attrs["null_question"]
    assert float(found["p_recording_any"]) == 0.05
    longest = int(np.argmax(found["stop"].values - found["start"].values))
    assert found["class"].values[longest] == "planar"
    assert abs(float(found["direction"][longest])) < 10
    assert float(found["speed"][longest]) == pytest.approx(0.4, rel=0.1)


def test_bins_and_sites_are_parameters_and_the_null_may_be_chosen():
    options = {"null": "zero_lag", "bin_width": 1.0, "site": 0.8}
    found = analyse(
        recording(counts_of("bursts", 0)), None, FAST.model_copy(update=options), seed=0
    )
    assert found.attrs["null"] == "zero-lag cross-spectrum surrogates"
    assert found.attrs["bin_width"] == 1.0
    assert found.attrs["site"] == 0.8
    assert "0.8 mm" in found.attrs["sites"]
    assert found.sizes["electrode"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["independent", "bursts"])
def test_counts_that_do_not_travel_are_rejected_at_the_nominal_rate(kind):
    """At most 3 of 12 at p <= .05: more have a probability of .002 at a true rate of .05."""
    p = [
        float(analyse(recording(counts_of(kind, seed)), None, FAST, seed=seed)["p_recording_any"])
        for seed in range(12)
    ]
    assert sum(one <= 0.05 for one in p) <= 3
    assert np.median(p) > 0.2
