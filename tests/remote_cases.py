"""What the tests of remote files share, as a plugin: recordings, a server, little patience."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from driftwave.ingest import remote_web
from driftwave.ingest.remote_web import Patience
from nwb_builder import grid, task_file
from range_server import RangeServer, range_server

QUICK = Patience(attempts=3, pause=0.01, connect=2.0, silence=0.4, slowest=1e5)


def write_large(path: Path) -> Path:
    """The task of ``task_file`` beside 26 MB of LFP: 16 channels at 16 kHz that no layout names."""
    builder = task_file().electrodes(grid(4, 4))
    noise = np.random.default_rng(0).integers(-999, 999, (52 * 16000, 16)).astype(np.int16)
    return builder.field(noise, rate=16000.0).write(path)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large(tmp_path_factory.mktemp("remote") / "large.nwb")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return task_file().write(tmp_path_factory.mktemp("remote") / "small.nwb")


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with range_server() as made:
        yield made


@pytest.fixture
def nwb_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, no proxy between, and no waiting."""
    monkeypatch.setenv("DRIFTWAVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote_web, "PATIENCE", QUICK)
    return tmp_path / "cache"
