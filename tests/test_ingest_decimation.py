"""Filter and decimation in one: the filter's own values, and missing samples where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from driftwave.ingest.decimation import decimated
from driftwave.ingest.field import low_pass


def plain(block: np.ndarray, taps: np.ndarray, factor: int, frames: int) -> np.ndarray:
    """The same by a filter along each column, in double precision."""
    skip = (len(taps) - 1) // factor
    found = signal.upfirdn(taps, block.astype(float), 1, factor, axis=0)
    return found[skip : skip + frames]


@pytest.mark.parametrize("factor", [2, 5, 8])
@pytest.mark.parametrize("frames", [1, 31, 32, 33, 200])
def test_frames_are_those_of_a_filter(factor: int, frames: int) -> None:
    taps = low_pass(factor)
    rng = np.random.default_rng(0)
    block = rng.normal(0, 100, (factor * (frames - 1) + len(taps), 7)).astype(np.float32)
    found = decimated(block, taps, factor, frames)
    assert found.dtype == np.float32
    assert found.shape == (frames, 7)
    np.testing.assert_allclose(found, plain(block, taps, factor, frames), atol=100 * 2e-6)


def test_a_missing_sample_spoils_only_the_frames_that_need_it() -> None:
    factor, frames = 4, 120
    taps = low_pass(factor)
    block = np.random.default_rng(1).normal(size=(factor * (frames - 1) + len(taps), 3))
    whole = decimated(block, taps, factor, frames)
    sample = 300
    block[sample, 1] = np.nan
    found = decimated(block, taps, factor, frames)
    first = factor * np.arange(frames)
    needs = (first <= sample) & (sample < first + len(taps))
    assert 0 < needs.sum() < frames
    np.testing.assert_array_equal(np.isnan(found[:, 1]), needs)
    np.testing.assert_array_equal(np.isnan(found[:, [0, 2]]), False)
    np.testing.assert_allclose(found[~needs, 1], whole[~needs, 1], atol=1e-5)
    np.testing.assert_allclose(found[:, 0], whole[:, 0], atol=1e-5)
