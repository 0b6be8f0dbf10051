"""Statistics of fluxes piece by piece: those of the whole, however it is cut."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from driftwave.nulls.statistics import Scale, multiscale, recording_means, summary
from driftwave.phase.directionality import FAMILIES, Fluxes

TEMPLATES = 52  # 2 planar, 25 radial, 25 rotating
SMOOTHING, WINDOWS = (10, 41, 160), (20, 333)


def fluxes_of(frames: int, *, gaps: bool = False, seed: int = 0) -> Fluxes:
    rng = np.random.default_rng(seed)
    power = rng.gamma(4.0, 1.0, frames).astype(np.float32)
    steepness = rng.gamma(4.0, 1.0, frames).astype(np.float32)
    flux = (rng.normal(size=(TEMPLATES, frames)) * np.sqrt(power * steepness)).astype(np.float32)
    found = Fluxes(flux, power, steepness)
    gap = np.zeros(frames, bool)
    gap[300:420] = gap[995:1003] = True
    return found.without(gap) if gaps else found


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 100, 401, 1999, 5000])
def test_pieces_give_the_statistics_of_the_whole(piece: int, gaps: bool) -> None:
    frames = 300 if piece == 1 else 2000
    whole = fluxes_of(2000, gaps=gaps).cut(slice(0, frames))
    found = summary(whole.pieces(piece), SMOOTHING, WINDOWS)
    smooth = np.concatenate([whole.smooth(one).statistic() for one in SMOOTHING])
    means = np.stack([whole.smooth(one).mean_statistic() for one in WINDOWS])
    np.testing.assert_allclose(found.smooth, smooth, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.means, means, rtol=2e-6)
    np.testing.assert_array_equal(found.power, whole.power)
    np.testing.assert_allclose(multiscale(whole, SMOOTHING), smooth, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(recording_means(whole, WINDOWS), means, rtol=2e-6)


def test_the_score_is_the_largest_standardised_statistic() -> None:
    smooth = multiscale(fluxes_of(500), SMOOTHING)
    scale = Scale.of(smooth, 0.95)
    expected = ((smooth - scale.centre[:, None]) / scale.spread[:, None]).max(axis=0)
    np.testing.assert_array_equal(scale.score(smooth), expected)


def test_memory_holds_families_and_not_templates() -> None:
    """A long recording's fluxes come as they are made; what stays is three families per window."""
    frames, piece = 200_000, 2000
    one = fluxes_of(piece)
    tracemalloc.start()
    found = summary((one for _ in range(frames // piece)), SMOOTHING, WINDOWS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.smooth.shape == (len(SMOOTHING) * len(FAMILIES), frames)
    held = found.smooth.nbytes + found.power.nbytes
    assert peak < 2.5 * held  # once in pieces, once joined
    assert peak < 0.6 * frames * TEMPLATES * 4
