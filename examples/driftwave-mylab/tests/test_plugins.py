"""The lab's plug-ins keep driftwave's contract, and do what they say."""

from __future__ import annotations

from pathlib import Path

import driftwave_mylab
import numpy as np
from driftwave_mylab import analysis, model

from driftwave.contract import check_analysis, check_layout, check_model
from driftwave.contract.recordings import make_recording

LAYOUT = Path(driftwave_mylab.__file__).parent / "layouts" / "mylab.yaml"


def test_the_model_keeps_the_contract() -> None:
    check_model(model)


def test_the_analysis_keeps_the_contract() -> None:
    check_analysis(analysis, "manifolds")


def test_the_layout_is_valid() -> None:
    check_layout(LAYOUT)


def test_conditions_that_differ_are_found() -> None:
    recording = make_recording()
    different = recording["trials/condition"].values % 2 == 1
    recording["spikes/counts"].values[different] += 1
    found = analysis.analyse(recording, None, analysis.Params(shuffles=99), seed=0)
    assert found["p_value"] == 0.01
    # One spike more per bin of 20 ms in every other condition: 25 Hz from the centre, per unit.
    assert np.isclose(found["spread"], 25 * np.sqrt(9), rtol=0.15)
