"""Direction of pulses on rings: planted pulses, standing patterns, and nulls that hold."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.latent_waves.ring_pulses import (
    RingSignal,
    analyse_rings,
    directed_power,
    nulls,
    pulse_speed,
)

TRIALS, BINS, SITES = 12, 40, 24


def pulse(speed: float, trials: int = TRIALS, sites: int = SITES, seed: int = 0) -> np.ndarray:
    """A Gaussian pulse of constant speed (sites/bin) from random places: (trial, time, 1, site)."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, sites, (trials, 1, 1)) + speed * np.arange(BINS)[None, :, None]
    away = (np.arange(sites) - place + sites / 2) % sites - sites / 2
    return np.exp(-np.square(away) / 8)[:, :, None]


@pytest.mark.parametrize("speed", [0.6, -0.6, 1.8])
def test_a_pulse_has_all_its_power_in_its_direction(speed: float):
    """Trials are a whole number of turns long, which leaves no leakage: D is 1 or -1."""
    planted = pulse(speed)
    found = directed_power(planted)
    assert found.ratio[0] == pytest.approx(np.sign(speed), abs=1e-5)
    assert pulse_speed(planted)[0] == pytest.approx(speed, rel=0.01)


def test_a_standing_pattern_has_none():
    rng = np.random.default_rng(0)
    standing = rng.normal(size=(TRIALS, 1, 1, SITES)) * rng.normal(size=(TRIALS, BINS, 1, 1))
    assert directed_power(standing).ratio[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("bins", "sites"), [(40, 24), (41, 24), (40, 25), (41, 25)])
def test_mirroring_the_ring_turns_the_direction_round(bins: int, sites: int):
    """For even and odd lengths: every row with a direction is counted once on each side."""
    activity = np.random.default_rng(1).normal(size=(3, bins, 2, sites))
    one, other = directed_power(activity), directed_power(activity[..., ::-1])
    np.testing.assert_allclose(one.forward, other.backward)
    np.testing.assert_allclose(one.ratio, -directed_power(activity[:, ::-1]).ratio)


def test_rings_that_run_opposite_ways_do_not_cancel():
    both = np.concatenate([pulse(0.6), pulse(-0.6)], axis=2)
    found = directed_power(both)
    np.testing.assert_allclose(found.ratio, [1, -1], atol=1e-6)
    assert found.overall == pytest.approx(1, abs=1e-6)


def p_values(rows: np.ndarray, weights: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    rings = (1, rows.shape[2] if weights is None else weights.shape[2])
    signal = RingSignal(rows, weights, rings)
    found = directed_power(signal.activity(rows)).overall
    null = nulls(signal, 19, seed, "test")
    return (1 + (null >= found).sum(1)) / 20


def test_a_planted_pulse_beats_all_nulls():
    assert p_values(pulse(0.6)[:, :, 0]).max() == pytest.approx(1 / 20)


def sharing_without_lags(rng: np.random.Generator) -> np.ndarray:
    """Sites that mix three slow signals, without any lag."""
    slow = np.cumsum(rng.normal(size=(TRIALS, BINS, 3)), axis=1)
    return slow @ rng.normal(size=(3, SITES)) + rng.normal(size=(TRIALS, BINS, SITES))


def following_in_any_order(rng: np.random.Generator) -> np.ndarray:
    """A pulse along the sites in a random order: lags, but no wave along the ring."""
    return pulse(0.6, seed=int(rng.integers(1000)))[:, :, 0, rng.permutation(SITES)]


@pytest.mark.slow
@pytest.mark.parametrize("course", [sharing_without_lags, following_in_any_order])
def test_what_is_no_wave_along_the_ring_is_not_credited(course):
    """Largest p of the three nulls: at most .05 in 5 % of 40 recordings; were the rate .05, the
    test would fail by chance once in 300."""
    small = [p_values(course(np.random.default_rng(s)), seed=s).max() <= 0.05 for s in range(40)]
    assert np.sum(small) <= 6


def test_shifted_sites_are_not_credited():
    small = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        signal = RingSignal(pulse(0.6, seed=seed)[:, :, 0], None, (1, SITES))
        small.append(p_values(signal.shifted(rng)[:, :, 0], seed=seed).max() <= 0.05)
    assert np.sum(small) <= 6


def labelled(recording: xr.DataTree, sites: int = 24) -> xr.Dataset:
    """Latents that carry a pulse, whatever the spikes say, with random loadings."""
    trials, bins, units = recording["spikes/counts"].shape
    activity = pulse(0.6, trials, sites)[:, :bins, 0]
    loading = np.random.default_rng(0).normal(size=(units, sites))
    return xr.Dataset(
        {
            "latent": (("trial", "time", "latent"), activity),
            "loading": (("unit", "latent"), loading),
        },
        coords={
            "part": ("latent", np.full(sites, "activity")),
            "channel": ("latent", np.zeros(sites, int)),
            "site": ("latent", np.arange(sites)),
        },
        attrs={"bin_width": 0.02},
    )


def test_a_network_alone_credits_no_recording_with_a_wave():
    """Its activity travels; the spikes, which know nothing of it, do not."""
    recording = make_recording()
    result = analyse_rings(recording, labelled(recording), surrogates=19, seed=0)
    assert result["p"].sel(source="activity") == 0.05
    assert result["p"].sel(source="spikes") > 0.05
    assert result["speed"].sel(source="activity", channel=0) == pytest.approx(0.6 / 0.02, rel=0.01)


def test_latents_without_rings_are_refused():
    recording = make_recording()
    latents = labelled(recording)
    for wrong in (latents.drop_vars("site"), latents.drop_vars("loading")):
        with pytest.raises(InputError, match="wave_rnn"):
            analyse_rings(recording, wrong, surrogates=1, seed=0)
