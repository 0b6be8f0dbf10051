"""Coverage of the oscillators' intervals over seeds, with the benchmark's own data."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "oscillators_coverage.py"


@pytest.mark.slow
def test_intervals_cover_the_truth():
    spec = importlib.util.spec_from_file_location("oscillators_coverage", BENCHMARK)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    scores = benchmark.run(20, 60.0, False)
    held = np.concatenate([np.abs(z).ravel() < 1.96 for z in scores.values()])
    assert 0.90 <= held.mean() <= 0.98
    dynamics = np.concatenate([scores["frequency"], scores["damping"]], axis=1)
    # Of 80 intervals that hold with probability .95, fewer than 70 do so once in 5,000 times.
    assert (np.abs(dynamics) < 1.96).sum() >= 70
