"""Synthetic recordings with known truth, shared by the tests."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr

from driftwave.contract.recordings import FIELD_WAVE, make_field_recording, make_recording

__all__ = ["FIELD_WAVE", "ROOT", "make_field_recording", "make_recording"]

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = Path(os.environ.get("DRIFTWAVE_RECORDINGS", ROOT.parent / "shared" / "data"))

# A shell starts what runs in the background with interrupts ignored, and every child inherits that:
# the jobs that tests interrupt must hear them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Files that take minutes for few tests: begun last, they would leave the other core idle.
LONGEST = (
    "test_slurm.py",
    "test_workflow.py",
    "test_faults_workflow.py",
    "test_oscillators.py",
    "test_decoders.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those with the most tests."""
    tests = Counter(item.path.name for item in items)
    order = {name: place - len(LONGEST) for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (order.get(item.path.name, 0), -tests[item.path.name]))


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Figures of one test do not pile up in the next."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of the real recordings, or a skip with the reason."""
    if not RECORDINGS.is_dir():
        pytest.skip(
            f"the real recordings are not at {RECORDINGS}; set DRIFTWAVE_RECORDINGS to their folder"
        )
    return RECORDINGS


@pytest.fixture
def synthetic() -> xr.DataTree:
    """A small recording with spikes, behaviour and truth."""
    return make_recording()
