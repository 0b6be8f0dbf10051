"""Waves along the sites of a lattice of latents, planted and absent."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.latent_waves.lattice import (
    analyse_lattice,
    chain_flow,
    shifted_sites,
    weighted_median,
)
from driftwave.waves.phase_gradient import Params, analyse

WIDTH, FREQUENCY = 0.02, 4.0
SITES, CHANNELS = 5, 4
LAGS = np.array([0.7, -0.4, 0.0, 0.0])  # rad/site; the last channel's sites are independent


def lattice(recording: xr.DataTree, noise: float = 0.1) -> xr.Dataset:
    """Channels: a wave to higher sites, one to lower sites, synchrony, and independent sites."""
    rng = np.random.default_rng(0)
    trials, bins = recording["spikes/counts"].shape[:2]
    time = WIDTH * np.arange(bins)
    start = rng.uniform(0, 2 * np.pi, (trials, 1, CHANNELS, 1))
    own = rng.uniform(0, 2 * np.pi, (trials, 1, 1, SITES)) * (np.arange(CHANNELS) == 3)[:, None]
    lag = LAGS[:, None] * np.arange(SITES)
    phase = 2 * np.pi * FREQUENCY * time[None, :, None, None] - lag + start + own
    parts = [np.cos(phase), -3.0 * np.sin(phase)]
    values = np.concatenate([part.reshape(trials, bins, -1) for part in parts], -1)
    values += noise * rng.normal(size=values.shape)
    index = np.arange(2 * CHANNELS * SITES)
    node = index % (CHANNELS * SITES)
    spikes = recording["spikes"].to_dataset()
    return xr.Dataset(
        {"latent": (("trial", "time", "latent"), values)},
        coords={
            "trial": spikes["trial"],
            "time": spikes["time"],
            "part": ("latent", np.where(index < CHANNELS * SITES, "position", "velocity")),
            "channel": ("latent", node // SITES),
            "site": ("latent", node % SITES),
        },
        attrs={"bin_width": WIDTH, "model": "planted"},
    )


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    recording = make_recording(bins=60)
    return analyse(recording, lattice(recording), Params(surrogates=39), seed=1)


def test_planted_waves_are_found_with_direction_and_speed(found: xr.Dataset):
    assert (found["directionality"][:2] > 0.95).all()
    assert found["direction_index"][0] > 0.95
    assert found["direction_index"][1] < -0.95
    np.testing.assert_allclose(found["frequency"], FREQUENCY, rtol=0.02)
    np.testing.assert_allclose(found["wavenumber"][:2], np.abs(LAGS[:2]), rtol=0.05)
    speed = 2 * np.pi * FREQUENCY / np.abs(LAGS[:2])
    np.testing.assert_allclose(found["speed"][:2], speed, rtol=0.05)
    np.testing.assert_allclose(found["advance"], 1.0, atol=0.02)
    assert (found["q"][:2] < 0.06).all()
    assert (found["p_direction"][:2] < 0.05).all()


def test_synchrony_and_independent_sites_are_no_waves(found: xr.Dataset):
    """Lags of chance without a direction: all that sites in synchrony have."""
    assert abs(float(found["direction_index"][2])) < 0.1
    assert float(found["p"][3]) > 0.05
    assert found["directionality"][2] < found["directionality"][0] - 0.2


def test_independent_sites_reach_p_below_a_tenth_a_tenth_of_the_time():
    recording = make_recording(bins=20, trials=40)
    small = []
    for seed in range(12):
        latents = lattice(recording)
        rng = np.random.default_rng(seed)
        latents["latent"].values[:] = rng.normal(size=latents["latent"].shape)
        result = analyse_lattice(recording, latents, surrogates=19, seed=seed)
        small.append(result["p"].values <= 0.1)
    assert np.mean(small) < 0.3


def test_the_picture_is_a_test_trial_in_seen_bins(found: xr.Dataset):
    recording = make_recording(bins=60)
    test = recording["trials/split"].values == "test"
    assert int(found.attrs["shown_trial"]) in recording["trials/trial"].values[test]
    assert found["position"].dims == ("channel", "site", "time")
    assert found.sizes["time"] == 55
    assert np.abs(found["statistic"]).max() <= 1
    assert all(found[name].attrs.get("units") for name in found.data_vars)


def test_flow_of_a_uniform_lag_is_one():
    signal = np.exp(1j * (0.3 - 0.5 * np.arange(6)))[None, None]
    flow = chain_flow(signal)
    np.testing.assert_allclose(flow.statistic, 1.0)
    np.testing.assert_allclose(flow.gradient, -0.5)
    np.testing.assert_allclose(chain_flow(signal.conj()).statistic, -1.0)


def test_shifted_sites_keep_each_course():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(3, 7, 2, 4)) + 0j
    shifted = shifted_sites(signal, rng)
    np.testing.assert_allclose(np.sort(shifted.real, axis=1), np.sort(signal.real, axis=1))
    assert not np.allclose(shifted, signal)


def test_weighted_median():
    values, weight = np.array([[3.0], [1.0], [2.0]]), np.array([[0.1], [0.2], [0.7]])
    assert weighted_median(values, weight) == pytest.approx([2.0])


def test_latents_without_a_lattice_are_refused():
    recording = make_recording()
    latents = lattice(recording)
    with pytest.raises(InputError, match="no coordinate site"):
        analyse_lattice(recording, latents.drop_vars("site"), surrogates=1, seed=0)
    one = latents.isel(latent=latents["site"] == 0)
    with pytest.raises(InputError, match="found 1 site"):
        analyse_lattice(recording, one, surrogates=1, seed=0)
