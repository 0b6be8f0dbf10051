"""What a plan asks of waves in recordings beside the main analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from driftwave.errors import DriftwaveError
from driftwave.preflight import checked_plan
from driftwave.workflow_plan import Plan
from test_workflow_plan import content, stages, write_sessions  # noqa: F401  content is a fixture

ARRAY = {
    "name": "spiking_array",
    "description": "units on a grid",
    "spikes": {"positions": {"x": "rel_x", "y": "rel_y"}},
    "windows": {"length": 1.0},
}


def add_session(folder: Path, layout: dict[str, Any], name: str = "c") -> None:
    (folder / f"{layout['name']}.yaml").write_text(yaml.safe_dump(layout))
    (folder / f"{name}.nwb").write_bytes(b"\0")
    write_sessions(folder, f"{name}\t{name}.nwb\t{layout['name']}\t\t")


def test_detectors_run_on_recordings_and_their_agreement_is_drawn(
    content: dict[str, Any],  # noqa: F811
) -> None:
    detectors = {"plane_fit": {}, "narrow": {"plugin": "plane_fit", "params": {"band": [8, 16]}}}
    plan = checked_plan(content | {"detectors": detectors})
    found = stages(plan, "b")
    assert found["detect"] == ["plane_fit", "narrow"]
    assert "detector_agreement" in found["figure"]
    agree = next(job for job in plan.jobs("b") if job.stage == "agree")
    assert [Path(path).name for path in agree.inputs] == [
        "recording.zarr",
        "plane_fit.zarr",
        "narrow.zarr",
    ]
    assert plan.detector_params("b", "narrow") == {"band": [8, 16]}
    assert not {"detect", "agree", "wave_film"} & set(stages(plan, "a"))


def test_without_detectors_there_is_no_agreement(content: dict[str, Any]) -> None:  # noqa: F811
    found = stages(Plan.read(content), "b")
    assert "agree" not in found
    assert "detector_agreement" not in found["figure"]
    assert {"wave_table", "wave_film"} <= set(found)


@pytest.mark.parametrize("suited", [None, {"band": [0.05, 0.5]}])
def test_spikes_alone_are_searched_only_if_the_layout_says_how(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
    suited: dict[str, Any] | None,
) -> None:
    add_session(tmp_path, ARRAY | ({"waves": suited} if suited else {}))
    plan = checked_plan(content)
    assert ("waves" in stages(plan, "c")) == bool(suited)
    if suited:
        assert plan.analysis_params("c", "waves") == suited
        override = content | {"waves": {"plugin": "phase_gradient", "params": {"band": [1, 2]}}}
        assert Plan.read(override).analysis_params("c", "waves") == {"band": [1, 2]}


def test_a_layout_may_speak_to_one_analysis(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    suited = {"band": [1, 2], "wave_fronts": {"band": None, "reach": 4}}
    add_session(tmp_path, ARRAY | {"waves": suited})
    plan = checked_plan(content | {"detectors": {"wave_fronts": {}, "plane_fit": {}}})
    assert plan.detector_params("c", "wave_fronts") == {"band": None, "reach": 4}
    assert plan.detector_params("c", "plane_fit") == {"band": [1, 2]}
    assert plan.detectors("c") == ["wave_fronts", "plane_fit"]
    add_session(tmp_path, ARRAY | {"waves": {"wave_fronts": None}})
    plan = checked_plan(content | {"detectors": {"wave_fronts": {}, "plane_fit": {}}})
    assert plan.detectors("c") == ["plane_fit"]


def test_spikes_beside_a_field_are_held_against_its_waves(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add_session(tmp_path, ARRAY | {"name": "both", "field": {"series": "acquisition/lfp"}})
    found = stages(Plan.read(content), "c")
    assert found["spike_waves"] == [""]
    assert "spike_phase" in found["figure"]


def test_a_parameter_that_no_analysis_has_is_named(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add_session(tmp_path, ARRAY | {"waves": {"bnad": [1, 2]}})
    with pytest.raises(DriftwaveError, match=r"waves\.bnad.*none of.*Did you mean 'band'"):
        checked_plan(content)


def test_an_unknown_detector_is_named(content: dict[str, Any]) -> None:  # noqa: F811
    with pytest.raises(DriftwaveError, match=r"detectors\.plain_fit.*Did you mean 'plane_fit'"):
        checked_plan(content | {"detectors": {"plain_fit": {}}})
