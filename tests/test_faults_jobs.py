"""Jobs that are killed, starved of disk or fed damaged inputs, at the command line."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import make_recording
from driftwave.store import verify_store, write_tree
from fault_cases import (
    assert_same,
    flip,
    kill,
    make_read_only,
    partial,
    refused,
    run,
    small_disk,
    start_held,
)

pytestmark = pytest.mark.slow

FIT = {"latents": 8, "hidden": 16, "feedforward": 32, "steps": 400, "samples": 2}


@pytest.fixture(scope="module")
def nwb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated NWB file."""
    path = tmp_path_factory.mktemp("nwb") / "lorenz.nwb"
    params = {"conditions": 4, "trials_per_condition": 5, "units": 8, "held_out": 2}
    answer = run("simulate", "lorenz", "--out", path, "--params", json.dumps(params))
    assert answer.returncode == 0, answer.stdout
    return path


def ingest(nwb: Path, out: Path) -> list[object]:
    layouts = Path(__file__).resolve().parents[1] / "config" / "layouts"
    command = ["ingest", nwb, "--layout", "lorenz", "--layouts", layouts]
    return [*command, "--session", "lorenz", "--out", out]


@pytest.fixture(scope="module")
def undisturbed(nwb: Path) -> Path:
    """The recording that an undisturbed ingest makes."""
    out = nwb.parent / "recording.zarr"
    answer = run(*ingest(nwb, out))
    assert answer.returncode == 0, answer.stdout
    return out


@pytest.fixture
def recording(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(undisturbed, tmp_path / "recording.zarr"))


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording that is fast to fit."""
    path = tmp_path_factory.mktemp("trials") / "recording.zarr"
    write_tree(make_recording(trials=24, bins=12, units=8), path)
    return path


def test_killed_in_the_middle_of_a_zarr_write(nwb: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "recording.zarr"
    kill(start_held("chunk", tmp_path / "mark", *ingest(nwb, out)))
    assert not out.exists()
    (left,) = partial(tmp_path)
    assert any(path.is_file() for path in left.rglob("*/c/**/*"))
    answer = run("verify", tmp_path)
    assert f"leftover {left}: left by a job that was killed; delete it." in answer.stdout
    assert "1 of 1 results" in refused(answer)
    assert run(*ingest(nwb, out)).returncode == 0
    assert_same(out, undisturbed)
    assert partial(tmp_path) == []
    assert run("verify", tmp_path).returncode == 0


def test_interrupted_in_the_middle_of_a_zarr_write(nwb: Path, tmp_path: Path) -> None:
    job = start_held("chunk", tmp_path / "mark", *ingest(nwb, tmp_path / "recording.zarr"))
    job.send_signal(signal.SIGINT)
    shown = job.communicate()[0]
    assert job.returncode == 130
    assert "Traceback" not in shown
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".used"] == ["mark"]


def test_two_writers_on_one_output(nwb: Path, undisturbed: Path, tmp_path: Path) -> None:
    """The orphan of a killed workflow writes on while its replacement comes and goes."""
    out, mark = tmp_path / "recording.zarr", tmp_path / "mark"
    orphan = start_held("chunk", mark, *ingest(nwb, out))
    assert run(*ingest(nwb, out)).returncode == 0
    assert_same(out, undisturbed)
    assert len(partial(tmp_path)) == 1  # the orphan is alive, so its part is not taken from it
    mark.unlink()
    shown = orphan.communicate()[0]
    assert orphan.returncode == 0, shown
    assert_same(out, undisturbed)
    assert verify_store(out) == []
    assert partial(tmp_path) == []


def fit(trials: Path, folder: Path) -> list[object]:
    outputs = ["--out-fit", folder / "fit", "--out", folder / "latents.zarr"]
    command = ["fit", trials, "--model", "langevinflow", "--params", json.dumps(FIT)]
    return [*command, *outputs, "--checkpoint", folder / "fit.checkpoint"]


@pytest.fixture(scope="module")
def fitted(trials: Path) -> Path:
    """What an undisturbed fit makes."""
    folder = trials.parent / "undisturbed"
    answer = run(*fit(trials, folder))
    assert answer.returncode == 0, answer.stdout
    return folder


def assert_same_fit(first: Path, second: Path) -> None:
    assert_same(first / "latents.zarr", second / "latents.zarr")
    weights = [torch.load(f / "fit" / "weights.pt", weights_only=True) for f in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.fixture(scope="module")
def half_fitted(trials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of a fit that was killed while it wrote its second checkpoint."""
    folder = tmp_path_factory.mktemp("killed") / "models" / "langevinflow"
    folder.mkdir(parents=True)
    kill(start_held("checkpoint", folder / "mark", *fit(trials, folder)))
    assert not (folder / "fit").exists()
    assert not (folder / "latents.zarr").exists()
    assert len(partial(folder)) == 1
    return folder


def test_a_damaged_checkpoint_of_a_fit(
    trials: Path, fitted: Path, half_fitted: Path, tmp_path: Path
) -> None:
    """Refused by name; deleted, the fit starts afresh and ends the same."""
    folder = Path(shutil.copytree(half_fitted, tmp_path / "langevinflow"))
    path = folder / "fit.checkpoint" / "training.pt"
    flip(path, 8 * (path.stat().st_size // 2))
    assert "training.pt: checkpoint: found other numbers than were written" in refused(
        run(*fit(trials, folder))
    )
    assert f"checkpoint {path}: found other numbers" in run("verify", tmp_path).stdout
    assert not (folder / "latents.zarr").exists()
    path.unlink()
    assert run(*fit(trials, folder)).returncode == 0
    assert_same_fit(folder, fitted)


def test_killed_in_the_middle_of_a_fit(trials: Path, fitted: Path, half_fitted: Path) -> None:
    begun = half_fitted / "fit.checkpoint" / "training.pt"
    state = torch.load(begun, weights_only=True)
    assert len(state["history"]["train_loss"]) == 10
    assert run(*fit(trials, half_fitted)).returncode == 0
    assert_same_fit(half_fitted, fitted)
    assert not begun.parent.exists()
    assert partial(half_fitted) == []


def test_killed_in_the_middle_of_a_figure(undisturbed: Path, tmp_path: Path) -> None:
    def draw(folder: str) -> list[object]:
        (tmp_path / folder).mkdir(exist_ok=True)
        out = tmp_path / folder / "recording"
        return ["figure", "recording", "--recording", undisturbed, "--out", out]

    assert run(*draw("whole")).returncode == 0
    kill(start_held("figure", tmp_path / "mark", *draw("killed")))
    assert [path.suffix for path in (tmp_path / "killed").iterdir()] == [".partial"]
    assert run(*draw("killed")).returncode == 0
    for suffix in ("png", "svg"):
        first, second = (tmp_path / f / f"recording.{suffix}" for f in ("whole", "killed"))
        assert first.read_bytes() == second.read_bytes()
    assert len(list((tmp_path / "killed").iterdir())) == 2


def test_a_damaged_recording_is_refused_by_the_jobs_that_read_it(
    recording: Path, undisturbed: Path, nwb: Path, tmp_path: Path
) -> None:
    chunk = next((recording / "spikes" / "counts" / "c").rglob("0"))
    while chunk.is_dir():
        chunk = chunk / "0"
    flip(chunk, 8 * (chunk.stat().st_size // 2))
    command = ["fit", recording, "--model", "smoothing", "--out-fit", tmp_path / "fit"]
    said = refused(run(*command, "--out", tmp_path / "latents.zarr"))
    assert "recording.zarr: spikes/counts/c/0/0/0: found other bytes than were written" in said
    assert not (tmp_path / "latents.zarr").exists()
    assert not (tmp_path / "fit").exists()
    answer = run("verify", tmp_path)
    assert "spikes/counts/c/0/0/0: other bytes than were written; delete it" in answer.stdout
    shutil.rmtree(recording)
    assert run(*ingest(nwb, recording)).returncode == 0
    assert_same(recording, undisturbed)


@pytest.mark.parametrize("kept", [0.0, 0.97])
def test_a_truncated_nwb_file_is_refused(nwb: Path, tmp_path: Path, kept: float) -> None:
    cut = tmp_path / "cut.nwb"
    cut.write_bytes(nwb.read_bytes()[: int(kept * nwb.stat().st_size)])
    said = refused(run(*ingest(cut, tmp_path / "recording.zarr")))
    assert "cut.nwb" in said
    assert not (tmp_path / "recording.zarr").exists()
    answer = run("verify", tmp_path)
    assert f"NWB file {cut}: cannot be read" in answer.stdout


def test_a_flipped_bit_in_an_nwb_file_is_found_by_its_checksum(nwb: Path, tmp_path: Path) -> None:
    """HDF5 has no checksums of its own here: the table of sessions brings one."""
    from driftwave.contents import sha256_of

    copy = tmp_path / "copy.nwb"
    shutil.copy(nwb, copy)
    shutil.copy(f"{nwb}.provenance.json", f"{copy}.provenance.json")
    flip(copy, 8 * (copy.stat().st_size // 2))
    command = [*ingest(copy, tmp_path / "recording.zarr"), "--sha256", sha256_of(nwb)]
    assert "copy.nwb: sha256: found " in refused(run(*command))
    assert not (tmp_path / "recording.zarr").exists()
    said = run("verify", tmp_path).stdout
    assert f"NWB file {copy}: other bytes than were written" in said


def test_a_full_and_a_read_only_disk(nwb: Path, undisturbed: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        out, log = disk / "recording.zarr", disk / "logs" / "ingest.jsonl"
        command = [*ingest(nwb, out), "--log", log]
        for leave in (0, 30_000):
            filler = disk / "ballast"
            filler.write_bytes(b"\1" * (shutil.disk_usage(disk).free - leave))
            assert "no space left on the disk" in refused(run(*command))
            assert not out.exists()
            assert partial(disk) == []
            filler.unlink()
        assert run(*command).returncode == 0
        assert_same(out, undisturbed)
        make_read_only(disk)
        assert "read-only file system" in refused(run(*command))
        assert_same(out, undisturbed)
        assert run("verify", disk).returncode == 0


def test_a_simulation_on_a_full_disk(tmp_path: Path) -> None:
    params = json.dumps({"conditions": 40, "trials_per_condition": 20, "units": 60})
    with small_disk(tmp_path / "disk", 2) as disk:
        command = ["simulate", "lorenz", "--out", disk / "a.nwb", "--params", params]
        assert "a.nwb: disk: found no space left on the disk" in refused(run(*command))
        assert list(disk.iterdir()) == []


def test_verify_names_each_kind_of_damage(recording: Path, tmp_path: Path) -> None:
    from driftwave.figures.style import new_figure, save_figure

    save_figure(new_figure()[0], tmp_path / "a")
    (tmp_path / "scores.tsv").write_text("metric\tvalue\nco_bps\t0.1\n")
    (tmp_path / "page.html").write_text("<html><body></body></html>\n")
    np.savez(tmp_path / "other.npz", a=np.arange(3))  # nobody's business
    answer = run("verify", tmp_path, "--threads", 2, "--list")
    assert answer.returncode == 0, answer.stdout
    assert f"whole    store {recording}" in answer.stdout
    assert json.loads(answer.stdout.splitlines()[-1])["figure"] == {"found": 2, "damaged": 0}
    for path in (tmp_path / "a.png", tmp_path / "a.svg", tmp_path / "page.html"):
        path.write_bytes(path.read_bytes()[:-20])
    (tmp_path / "scores.tsv").write_text("metric\tvalue\nco_bps\nmore\t1")
    shutil.rmtree(recording / "trials" / "split")
    answer = run("verify", tmp_path)
    assert "5 of 5 results are damaged or left over" in refused(answer)
    for said in (
        "figure {}/a.png: cannot be read",
        "figure {}/a.svg: cannot be read",
        "page {}/page.html: cut before its end",
        "table {}/scores.tsv: line 2: 1 columns, the header has 2",
        "table {}/scores.tsv: cut in its last line",
        "store {}/recording.zarr: trials/split/zarr.json: lost",
    ):
        assert f"damaged  {said.format(tmp_path)}" in answer.stdout
    assert "no such folder" in refused(run("verify", tmp_path / "none"))
