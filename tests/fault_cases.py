"""What the tests of faults share: jobs held in the middle of something, disks, flipped bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import xarray as xr

from driftwave.errors import InputError
from driftwave.store import open_tree

# Attributes that differ between two runs of the same job.
OF_ONE_RUN = ("provenance", "cpu_seconds", "wall_seconds")

# Runs a subcommand that stops, with half of a chunk, checkpoint or figure on disk, until its mark
# is taken away.
HELD = """
import sys, time
from pathlib import Path

point, mark, *arguments = sys.argv[1:]
mark, until = Path(mark), time.monotonic() + 200

def holding():
    return mark.exists() and time.monotonic() < until

def hold():
    mark.touch()
    while holding():
        time.sleep(0.02)

def in_chunk():
    import asyncio
    from zarr.storage import LocalStore
    put = LocalStore.set
    seen = []

    async def held(self, key, value):
        if "/c" in key:
            seen.append(key)
        if len(seen) == 3:
            seen.append("")
            path = self.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value.to_bytes()[: max(1, len(value.to_bytes()) // 2)])
            mark.touch()
            while holding():
                await asyncio.sleep(0.02)
        await put(self, key, value)

    LocalStore.set = held

def in_figure():
    import io
    from matplotlib.figure import Figure
    save = Figure.savefig

    def held(self, file, **options):
        drawn = io.BytesIO()
        save(self, drawn, **options)
        Path(file).write_bytes(drawn.getvalue()[: len(drawn.getvalue()) // 2])
        hold()
        Path(file).write_bytes(drawn.getvalue())

    Figure.savefig = held

def in_checkpoint():
    import io, torch
    save, seen = torch.save, []

    def held(state, file):
        seen.append(file)
        if len(seen) == 2:
            whole = io.BytesIO()
            save(state, whole)
            Path(file).write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
            hold()
        save(state, file)

    torch.save = held

if mark.with_suffix(".used").exists() is False and point != "none":
    mark.with_suffix(".used").touch()
    {"chunk": in_chunk, "figure": in_figure, "checkpoint": in_checkpoint}[point]()

from driftwave.cli import main
sys.argv[1:] = arguments
main(arguments)
"""


def start_held(point: str, mark: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start a subcommand that stops at a point; returns once it has come there."""
    job = subprocess.Popen(
        [sys.executable, "-c", HELD, point, str(mark), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(mark, job)
    return job


def wait_for(mark: Path, job: subprocess.Popen[str], seconds: float = 200.0) -> None:
    """Wait until a mark is there, and fail if the job ends first."""
    until = time.monotonic() + seconds
    while not mark.exists():
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)


def kill(job: subprocess.Popen[str]) -> None:
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert job.returncode == -signal.SIGKILL


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a subcommand to its end; stdout and stderr together."""
    return subprocess.run(
        [sys.executable, "-m", "driftwave.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def refused(answer: subprocess.CompletedProcess[str]) -> str:
    """The sentence of a job that was refused; it is the whole of what the user is shown."""
    assert answer.returncode == 1, answer.stdout
    lines = [line for line in answer.stdout.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, answer.stdout
    assert "Traceback" not in answer.stdout
    return lines[0]


def refusal_of(read: Callable[[], object]) -> InputError | None:
    """How a reader refuses; None if it does not."""
    try:
        read()
    except InputError as error:
        return error
    return None


def partial(folder: Path) -> list[Path]:
    """Everything unfinished below a folder."""
    return sorted(folder.rglob("*.partial"))


def assert_same(first: Path, second: Path) -> None:
    """Two stores are identical but for what tells one run from another."""
    xr.testing.assert_identical(comparable(first), comparable(second))


def comparable(store: Path) -> xr.DataTree:
    """A store in memory, without what tells one run from another."""
    tree = open_tree(store).load()
    tree.attrs = {k: v for k, v in tree.attrs.items() if k not in OF_ONE_RUN}
    return tree


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file in place."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of a few MB mounted at a folder; skips where this process may mount none."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(["mount", *options], capture_output=True, check=False).returncode
    )
    if not mounted:
        pytest.skip("only root can mount a small disk, and in some containers not even root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
