"""Binning against numpy's own histogram, at edges and in overlapping trials."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftwave.errors import InputError
from driftwave.ingest.binning import bin_spikes, edge_tolerance, rebin_counts, spikes_per_bin


def ragged(spikes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(spikes), np.cumsum([len(s) for s in spikes])


def by_histogram(
    spikes: list[np.ndarray], starts: np.ndarray, width: float, bins: int
) -> np.ndarray:
    """One np.histogram per unit and trial, edges a tolerance early; last bin right-open."""
    shift = edge_tolerance(np.concatenate(spikes), starts)
    found = np.zeros((len(starts), bins, len(spikes)), dtype=int)
    for u, own in enumerate(spikes):
        for k, start in enumerate(starts):
            edges = start + np.arange(bins + 1) * width - shift
            found[k, :, u] = np.histogram(own[own < edges[-1]], edges)[0]
    return found


@pytest.mark.parametrize("width", [0.01, 0.02, 1 / 30, 0.1])
@pytest.mark.parametrize("step", [0.25, 1.0, 1.7], ids=["overlapping", "abutting", "apart"])
def test_equals_histogram(width: float, step: float) -> None:
    rng = np.random.default_rng(1)
    bins = round(1.0 / width)
    spikes = [rng.uniform(-1, 40, rng.integers(0, 900)) for _ in range(37)]
    starts = 0.5 + step * bins * width * np.arange(20)
    counts = bin_spikes(*ragged(spikes), starts, width, bins)
    assert counts.dtype == np.uint16
    assert counts.shape == (20, bins, 37)
    np.testing.assert_array_equal(counts, by_histogram(spikes, starts, width, bins))


@settings(max_examples=60, deadline=None)
@given(
    start=st.floats(-1e4, 1e5),
    width=st.sampled_from([0.001, 0.005, 0.01, 0.02, 0.03, 0.1, 1 / 3]),
    bins=st.integers(1, 300),
)
def test_spike_on_every_edge_opens_its_bin(start: float, width: float, bins: int) -> None:
    edges = np.array([start + k * width for k in range(bins + 1)])
    counts = bin_spikes(edges, np.array([len(edges)]), np.array([start]), width, bins)
    # One spike in each bin; that on the last edge belongs to no bin of this trial.
    np.testing.assert_array_equal(counts[0, :, 0], 1)


def test_rounded_edge_goes_to_the_later_bin() -> None:
    # 0.1 + 0.2 = 0.30000000000000004 and 3 * 0.1 likewise, but 0.3 is below both.
    times = np.array([0.3, 0.3 - 1e-12, 0.3 - 1e-7])
    counts = bin_spikes(times, np.array([3]), np.array([0.0]), 0.1, 5)
    assert counts[0, :, 0].tolist() == [0, 0, 1, 2, 0]


def test_spike_in_two_overlapping_trials_counts_twice() -> None:
    counts = bin_spikes(np.array([1.05]), np.array([1]), np.array([0.5, 1.0, 1.5]), 0.1, 10)
    assert counts.sum(axis=(1, 2)).tolist() == [1, 1, 0]
    assert counts[0, 5, 0] == counts[1, 0, 0] == 1


def test_unsorted_and_silent_units() -> None:
    rng = np.random.default_rng(2)
    spikes = [rng.uniform(0, 10, 400), np.empty(0), rng.uniform(0, 10, 50), np.empty(0)]
    starts = np.arange(10.0)
    shuffled = bin_spikes(*ragged(spikes), starts, 0.05, 20)
    ordered = bin_spikes(*ragged([np.sort(s) for s in spikes]), starts, 0.05, 20)
    np.testing.assert_array_equal(shuffled, ordered)
    assert shuffled.sum(axis=(0, 1)).tolist() == [400, 0, 50, 0]


def test_abutting_trials_keep_every_spike() -> None:
    times = np.sort(np.random.default_rng(3).uniform(12.591, 12.591 + 300, 20_000))
    starts = 12.591 + 2.5 * np.arange(120)
    assert bin_spikes(times, np.array([20_000]), starts, 0.05, 50).sum() == 20_000


def test_too_many_spikes_for_uint16() -> None:
    with pytest.raises(OverflowError, match="65536 spikes of unit 0"):
        bin_spikes(np.full(65_536, 0.5), np.array([65_536]), np.array([0.0]), 1.0, 1)
    full = bin_spikes(np.full(65_535, 0.5), np.array([65_535]), np.array([0.0]), 1.0, 1)
    assert full.item() == 65_535


def test_far_clock_widens_the_tolerance() -> None:
    assert edge_tolerance(np.array([100.0])) == 1e-8
    assert edge_tolerance(np.array([1.7e9])) == 4 * np.spacing(1.7e9)


def test_rebinning_sums_source_bins() -> None:
    rng = np.random.default_rng(4)
    counts = rng.poisson(3, (100, 4)).astype(np.uint8)
    first = np.array([0, 5, 40])
    found = rebin_counts(counts, first, bins=6, factor=5)
    for k, begin in enumerate(first):
        for b in range(6):
            expected = counts[begin + 5 * b : begin + 5 * b + 5].sum(axis=0)
            np.testing.assert_array_equal(found[k, b], expected)


def test_rebinning_does_not_overflow_the_source_type() -> None:
    counts = np.full((4, 1), 200, dtype=np.uint8)
    assert rebin_counts(counts, np.array([0]), bins=1, factor=4).item() == 800


def test_bin_width_must_be_a_multiple() -> None:
    assert spikes_per_bin(0.05, 0.15, "f.nwb", "bin_width") == 3
    for width in (0.075, 0.02):
        with pytest.raises(InputError, match=r"a multiple of 0\.05 s"):
            spikes_per_bin(0.05, width, "f.nwb", "bin_width")
