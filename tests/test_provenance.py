"""Every result tells what it was made from; the chain is followed back to the NWB file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from conftest import make_recording
from driftwave import provenance
from driftwave.cli import cli
from driftwave.contents import sha256_of
from driftwave.errors import InputError
from driftwave.figures.style import new_figure, save_figure
from driftwave.provenance import (
    SIDECAR,
    content_id,
    describe,
    git_state,
    ledger,
    own_record,
    packages,
    stamp_folder,
    stamp_table,
    used,
)
from driftwave.provenance_chain import as_text, chain, verdict
from driftwave.store import open_dataset, write_text, write_tree


def result(seed: int = 0) -> xr.Dataset:
    values = np.random.default_rng(seed).normal(size=(4, 3))
    return xr.Dataset({"value": (("trial", "time"), values, {"units": "1"})})


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of another program, a recording, latents of it, a table and a figure of those."""
    monkeypatch.chdir(tmp_path)
    nwb = tmp_path / "data" / "a.nwb"
    nwb.parent.mkdir()
    nwb.write_bytes(b"spikes" * 1000)
    make_from(nwb)
    return tmp_path / "results"


def make_from(nwb: Path, seed: int = 0) -> None:
    folder = Path("results")
    facts = {"source_file": "data/a.nwb", "source_sha256": sha256_of(nwb)}
    with ledger("ingest", {"layout": "lorenz"}):
        write_tree(result(seed).assign_attrs(facts), folder / "recording.zarr")
    with ledger("fit", {"params": {"steps": 2}, "seed": 5, "recording": folder}):
        describe(threads=2)
        open_dataset(folder / "recording.zarr")
        write_tree(result(seed + 1), folder / "latents.zarr", facts={"plugin": "gpfa"})
        fit = folder / "fit"
        fit.mkdir(exist_ok=True)
        (fit / "weights.npy").write_bytes(b"w")
        stamp_folder(fit, fit)
    with ledger("score"):
        open_dataset(folder / "latents.zarr")
        open_dataset(folder / "recording.zarr")
        write_text(folder / "scores.tsv", f"metric\tvalue\nbps\t{seed}\n")
        stamp_table(folder / "scores.tsv")
    with ledger("figure"):
        used(folder / "scores.tsv")
        figure, axes = new_figure()
        axes[0].plot([0, 1], [0, seed])
        save_figure(figure, folder / "scores")


def states(path: Path, **options: Any) -> dict[str, str]:
    return {link.path.name: link.state for link in chain(path, **options).walk()}


def test_a_store_carries_what_decided_it(made: Path) -> None:
    record = own_record(made / "latents.zarr")
    expected = {"stage": "fit", "seed": 5, "threads": 2, "device": "cpu", "plugin": "gpfa"}
    assert expected.items() <= record.items()
    assert record["params"] == record["options"]["params"] == {"steps": 2}
    assert record["packages"]["numpy"] == np.__version__
    assert record["git_hash"] == git_state()
    assert {"driftwave_version", "written", "seconds", "platform", "command"} <= record.keys()
    (entry,) = record["inputs"]
    assert entry["id"] == own_record(made / "recording.zarr")["id"]
    assert entry["from_here"] == "recording.zarr"
    assert record["sources"] == [{"file": "data/a.nwb", "sha256": sha256_of("data/a.nwb")}]
    assert "recording" not in record["options"]


@pytest.mark.parametrize("name", ["scores.png", "scores.svg"])
def test_figures_and_what_they_show_name_the_nwb_file(made: Path, name: str) -> None:
    links = states(made / name)
    assert set(links) == {name, "scores.tsv", "latents.zarr", "recording.zarr", "a.nwb"}
    assert set(links.values()) == {"unchanged"}
    text = as_text(chain(made / name))
    assert sha256_of("data/a.nwb") in text
    assert text.endswith("The chain is whole, back to data/a.nwb.")


def test_the_fit_folder_is_followed_too(made: Path) -> None:
    assert states(made / "fit") == {
        "fit": "unchanged",
        "recording.zarr": "unchanged",
        "a.nwb": "unchanged",
    }


def test_figures_made_again_are_the_same_bytes(made: Path) -> None:
    before = {p.name: p.read_bytes() for p in made.glob("scores.?[nv]g")}
    assert set(before) == {"scores.png", "scores.svg"}
    make_from(Path("data/a.nwb"))
    assert {p.name: p.read_bytes() for p in made.glob("scores.?[nv]g")} == before


def test_identity_is_of_the_content(made: Path, tmp_path: Path) -> None:
    first = own_record(made / "recording.zarr")["id"]
    assert content_id(made / "recording.zarr") == first
    for seed, same in ((0, True), (1, False)):
        write_tree(result(seed).assign_attrs(wall_seconds=seed + 9.0), tmp_path / "b.zarr")
        assert (own_record(tmp_path / "b.zarr")["id"] == first) is same


def test_what_was_made_from_a_changed_input_is_stale(made: Path) -> None:
    with ledger("ingest"):
        write_tree(result(9), made / "recording.zarr")
    links = states(made / "scores.png")
    assert links["recording.zarr"] == "changed"
    assert links["latents.zarr"] == "unchanged"
    assert "recording.zarr" in verdict(chain(made / "scores.png"))
    with ledger("ingest"):  # made again as it was
        write_tree(result(0), made / "recording.zarr")
    assert states(made / "latents.zarr")["recording.zarr"] == "unchanged"


@pytest.mark.parametrize("change", [b"spikes" * 999, b"Spikes" + b"spikes" * 999])
def test_a_changed_nwb_file_is_seen(made: Path, change: bytes) -> None:
    Path("data/a.nwb").write_bytes(change)
    assert states(made / "latents.zarr")["a.nwb"] == "changed"
    quick = states(made / "latents.zarr", check="quick")["a.nwb"]
    assert quick == ("unchanged" if len(change) == 6000 else "changed")


def test_a_table_edited_by_hand_is_seen(made: Path) -> None:
    (made / "scores.tsv").write_text("metric\tvalue\nbps\t1e9\n")
    assert states(made / "scores.png")["scores.tsv"] == "changed"
    assert chain(made / "scores.tsv").state == "changed"


def test_bytes_changed_in_place_are_found_when_asked_for(made: Path) -> None:
    chunk = next(p for p in (made / "recording.zarr").rglob("0") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    assert states(made / "latents.zarr")["recording.zarr"] == "unchanged"
    assert states(made / "latents.zarr", check="all")["recording.zarr"] == "damaged"


def test_results_that_move_together_stay_a_chain(made: Path, tmp_path: Path) -> None:
    shutil.move(made, tmp_path / "archive")
    assert states(tmp_path / "archive" / "scores.png")["recording.zarr"] == "unchanged"


def test_inputs_that_moved_are_found_by_their_identity(made: Path, tmp_path: Path) -> None:
    away = tmp_path / "elsewhere"
    away.mkdir()
    shutil.move(made / "recording.zarr", away / "session1.zarr")
    shutil.move("data/a.nwb", away / "renamed.nwb")
    (away / "stray.tsv").write_text("a\n1\n")
    (away / "stray.tsv.provenance.json").write_text("{")
    assert states(made / "latents.zarr")["recording.zarr"] == "missing"
    found = states(made / "latents.zarr", search=[away])
    assert found["session1.zarr"] == "moved"
    assert found["renamed.nwb"] == "moved"


def test_what_is_not_of_driftwave_is_refused(made: Path) -> None:
    del made
    with pytest.raises(InputError, match="no record of provenance"):
        chain("data/a.nwb")
    with pytest.raises(InputError, match="no such file or folder"):
        chain("results/nothing.zarr")
    Path("bad.tsv").write_text("x")
    Path(f"bad.tsv{SIDECAR}").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        chain("bad.tsv")
    for suffix in ("png", "svg"):
        Path(f"empty.{suffix}").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
        with pytest.raises(InputError, match="no record"):
            chain(f"empty.{suffix}")


def test_the_command_prints_a_tree_or_json(made: Path) -> None:
    told = CliRunner().invoke(cli, ["provenance", "results/scores.svg"], catch_exceptions=False)
    assert told.output.splitlines()[0] == "results/scores.svg"
    assert "fit, gpfa, with {\"steps\": 2}, seed 5" in told.output  # fmt: skip
    told = CliRunner().invoke(cli, ["provenance", str(made / "scores.tsv"), "--json"])
    nested = json.loads(told.output)
    assert nested["inputs"][0]["inputs"][0]["record"]["stage"] == "ingest"


FIT = ("--params", '{"widths": [0.05], "penalties": [100.0], "draws": 1}')
FIT += ("--out", "latents.zarr", "--out-fit", "fit")
DECODE = ("--params", '{"shuffles": 19}', "--latents", "latents.zarr", "--out", "decoded.zarr")


def test_a_session_of_commands_leaves_a_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tree(make_recording(), "recording.zarr")
    for command in (
        ["fit", "recording.zarr", "--model", "m", "--plugin", "smoothing", *FIT],
        ["score", "recording.zarr", "latents.zarr", "--out", "m.tsv"],
        ["compare", "--scores", "m.tsv", "--out", "comparison.tsv"],
        ["figure", "scores", "--result", "m=m.tsv", "--out", "scores"],
        ["decode", "recording.zarr", "--plugin", "ridge", *DECODE],
    ):
        answer = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert answer.exit_code == 0, answer.output
    everything = {"recording.zarr", "latents.zarr", "m.tsv"}
    assert set(states(Path("comparison.tsv"))) == everything | {"comparison.tsv"}
    assert set(states(Path("scores.png"))) == everything | {"scores.png"}
    assert set(states(Path("decoded.zarr"))) == everything - {"m.tsv"} | {"decoded.zarr"}
    assert own_record(Path("fit"))["options"]["params"]["draws"] == 1


GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]


def test_the_commit_is_that_of_the_code_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "src" / "driftwave"
    package.mkdir(parents=True)
    for name in ("__init__.py", "provenance.py"):
        (package / name).write_text("")
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    monkeypatch.setattr(provenance, "_installed_commit", lambda: "")

    def state() -> str:
        return git_state.__wrapped__()

    def git(*arguments: str) -> str:
        command = [*GIT, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert state() == "not a git checkout"
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "another repository, whose folder it lies in")
    assert state() == "not a git checkout"
    git("add", ".")
    git("commit", "-q", "-m", "all")
    assert state() == git("rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("outside the package")
    assert state() == git("rev-parse", "HEAD")
    (package / "model.py").write_text("x = 1")
    assert state() == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))  # without git
    assert state() == "not a git checkout"


def test_versions_are_known_without_importing() -> None:
    code = (
        "import sys; from driftwave.provenance import packages; packages()['torch'];"
        "print([m for m in ('torch', 'pynwb', 'sklearn', 'numpy', 'xarray') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]"
    assert packages()["python"] == sys.version.split()[0]
