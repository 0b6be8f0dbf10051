"""Alignment of real populations: disjoint units of one recording stand for two sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from driftwave.alignment.compare import compare
from driftwave.alignment.params import Params
from test_recordings_decoding import whole_recording

pytestmark = [pytest.mark.recording, pytest.mark.slow]


def some_units(recording: xr.DataTree, chosen: np.ndarray) -> xr.DataTree:
    """The recording with some of its units only."""
    groups = {name: node.to_dataset() for name, node in recording.children.items()}
    for name in ("spikes", "units"):
        groups[name] = groups[name].isel(unit=chosen)
    root = {"/": recording.to_dataset()}
    return xr.DataTree.from_dict(root | {k: groups[k] for k in ("spikes", "units", "trials")} | {
        k: groups[k] for k in ("stimulus", "behavior") if k in groups
    })  # fmt: skip


def halves_of_units(recording: xr.DataTree) -> dict[str, xr.DataTree]:
    units = recording["spikes"].sizes["unit"]
    order = np.random.default_rng(0).permutation(units)
    return {
        "first": some_units(recording, np.sort(order[: units // 2])),
        "second": some_units(recording, np.sort(order[units // 2 :])),
    }


def test_disjoint_units_of_visual_cortex(recordings: Path) -> None:
    """Twenty units sample the tuning to 16 directions thinly: above chance, below the ceiling."""
    sessions = halves_of_units(whole_recording(recordings, "v1_gratings"))
    params = Params(measures=["cca", "cka"], shuffles=199, splits=1, dims=5)
    found = compare(sessions, {}, {}, params, seed=0).sel(session="first", other="second")
    part = found.sel(score="cca_correlation")
    assert int(found["shared_conditions"]) == 16
    assert part["aligned_score_floor"] < part["aligned_score"] < part["aligned_score_ceiling"]
    assert float(part["aligned_score_p_value"]) < 0.05
    # Scored on conditions that were fitted, permuted ones would correlate too.
    assert abs(float(part["null_aligned_score"].mean())) < 0.1
    assert float(found["p_value"].sel(measure="cka")) < 0.05


def test_disjoint_units_of_motor_cortex_align(recordings: Path) -> None:
    """Conditions are directions of the hand: averages without a time course."""
    sessions = halves_of_units(whole_recording(recordings, "m1_reach"))
    params = Params(measures=["cca", "shape", "rsa", "cka"], shuffles=199, splits=2)
    found = compare(sessions, {}, {}, params, seed=0)
    part = found.sel(session="first", other="second")
    assert "above its median speed" in found.attrs["condition_rules"]
    score = part["aligned_score"].sel(score="cca_correlation")
    assert float(score) > 0.8 * float(part["aligned_score_ceiling"].sel(score="cca_correlation"))
    assert (part["p_value"] < 0.05).all()
