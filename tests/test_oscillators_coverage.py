"""Coverage of the oscillators' intervals over data sets."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.compute import dask_threads
from driftwave.experiments import oscillator_coverage


@pytest.mark.slow
def test_intervals_cover_the_truth():
    params = oscillator_coverage.Params(sets=20, duration=60.0)
    with dask_threads(1):
        result = oscillator_coverage.run(params, seed=0)
    held = np.abs(result["z"]) < oscillator_coverage.Z
    assert 0.90 <= float(held.mean()) <= 0.98
    np.testing.assert_allclose(result["coverage"], held.mean("set"))
    dynamics = held.isel(value=np.isin(result["kind"], ["frequency", "damping"]))
    # Of 80 intervals that hold with probability .95, fewer than 70 do so once in 5,000 times.
    assert dynamics.sum() >= 70
