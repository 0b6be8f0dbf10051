"""The cost experiment measures each step in a process of its own and tells what does not run."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from driftwave.experiments import wave_cost
from driftwave.experiments.wave_cost import STEPS, Params, draw, run


@pytest.mark.slow
def test_steps_are_measured_and_a_peer_that_cannot_run_is_told() -> None:
    # This interpreter holds no peers: their steps fail, which is a result.
    quick = Params(minutes=0.2, short=0.1, repeats=1, steps=("filter",), peers=sys.executable)
    found = run(quick, seed=0)
    assert found["who"].values.tolist() == ["driftwave", "elephant"]
    ours, theirs = found["cpu_frame"].values
    assert 0 < ours < 1
    assert np.isnan(theirs)
    assert "elephant" in str(found["failure"].values[1])
    assert float(found["ratio"][0]) == 1
    assert "does not run" in " ".join(t.get_text() for t in draw(found).axes[0].texts)


def test_every_peer_named_is_there() -> None:
    from driftwave.experiments import _cost_ours, _cost_peers

    for step in STEPS.values():
        assert step.ours in _cost_ours.STEPS
        assert set(step.peers) <= set(_cost_peers.STEPS)
    assert set(wave_cost.QUICK["steps"]) <= set(STEPS)
