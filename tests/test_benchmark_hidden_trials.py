"""The benchmark's test phase: trials of another file, without held-out units and behaviour."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from conftest import ROOT
from driftwave.cli import main
from driftwave.config import load_layout
from driftwave.errors import InputError
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.models.run import fit_and_write
from driftwave.scores.hidden_trials import hidden_rates, hidden_recording
from driftwave.store import write_tree
from nwb_builder import Builder, poisson_units

SECONDS, TRAIN, TEST = 60.0, 24, 5
HELDOUT = np.array([False, True, False, False, True, False])
SHOWN = [5, 0, 2, 3]  # the test file lists the held-in units in an order of its own


def spike_times(seed: int) -> list[np.ndarray]:
    return poisson_units(6, SECONDS, 15.0, seed=seed)


def training_file(path: Path) -> Path:
    start = 1.0 + 2.2 * np.arange(TRAIN)
    words = np.where(np.arange(TRAIN) % 4 == 1, "val", "train")
    hand = np.random.default_rng(0).normal(size=(int(SECONDS * 1000), 2)).cumsum(0)
    file = Builder().units(
        spike_times(0), heldout=list(HELDOUT), obs_intervals=[np.array([[0.0, SECONDS]])] * 6
    )
    file.trials(
        start,
        start + 1.8,
        move_onset_time=start + 0.5,
        trial_type=np.arange(TRAIN) % 2,
        trial_version=np.zeros(TRAIN, int),
        split=list(words),
    )
    file.series("behavior", "hand_vel", hand, "mm/s", rate=1000.0, starting_time=0.0)
    return file.write(path)


def hidden_file(path: Path, shown: list[int] = SHOWN, observed: float = 0.45) -> Path:
    """Trials observed from 250 ms before to 450 ms after the onset, and nowhere else."""
    onset = 2.0 + 3.0 * np.arange(TEST)
    seen = np.stack([onset - 0.25, onset + observed], 1)
    times = [own[((own[:, None] >= seen[:, 0]) & (own[:, None] < seen[:, 1])).any(1)]
             for own in spike_times(1)]  # fmt: skip
    file = Builder()
    for name in ("heldout",):
        file.nwb.add_unit_column(name, "of a test")
    for unit in shown:
        file.nwb.add_unit(spike_times=times[unit], obs_intervals=seen, heldout=False, id=unit)
    file.trials(onset - 0.5, onset + 1.0, move_onset_time=onset, split=["test"] * TEST)
    return file.write(path)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recording and latents of a small fit, and both NWB files."""
    folder = tmp_path_factory.mktemp("phase")
    names = ("train.nwb", "test.nwb", "recording.zarr", "latents.zarr", "fit")
    paths = {name: folder / name for name in names}
    training_file(paths["train.nwb"])
    hidden_file(paths["test.nwb"])
    layout = load_layout("nlb_mc_maze", ROOT / "config" / "layouts")
    with open_nwb(paths["train.nwb"]) as file:
        recording = read_recording(
            file, layout.model_copy(update={"bin_width": 0.02}), session="maze"
        )
        write_tree(recording, paths["recording.zarr"])
    fit_and_write(
        paths["recording.zarr"],
        model="smoothing",
        plugin="smoothing",
        params={},
        fit_folder=paths["fit"],
        latents_path=paths["latents.zarr"],
    )
    return paths


def opened(stores: dict[str, Path]) -> xr.DataTree:
    from driftwave.recording import open_recording

    return open_recording(stores["recording.zarr"])


def test_hidden_trials_are_seen_as_the_fit_saw_its_own(stores: dict[str, Path]) -> None:
    recording = opened(stores)
    found = hidden_recording(recording, stores["test.nwb"])
    np.testing.assert_array_equal(found["spikes/counts"][:TRAIN], recording["spikes/counts"])
    np.testing.assert_array_equal(found["trials/split"][:TRAIN], recording["trials/split"])
    counts = found["spikes/counts"].values[TRAIN:]
    assert counts.shape == (TEST, 45, 6)
    assert (found["trials/split"].values[TRAIN:] == "test").all()
    assert not counts[:, 35:].any()
    assert not counts[..., HELDOUT].any()
    starts = found["spikes/trial_start"].values[TRAIN:]
    np.testing.assert_allclose(starts, 2.0 + 3.0 * np.arange(TEST) - 0.25, atol=0.02)
    times = spike_times(1)
    for unit in np.flatnonzero(~HELDOUT):
        for trial, start in enumerate(starts):
            onset = 2.0 + 3.0 * trial
            own = times[unit][(times[unit] >= onset - 0.25) & (times[unit] < onset + 0.45)]
            expected = np.histogram(own, start + 0.02 * np.arange(36))[0]
            np.testing.assert_array_equal(counts[trial, :35, unit], expected)


def test_the_submission_holds_all_public_and_all_hidden_trials(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "submission.h5"
    both = str(stores["recording.zarr"]), str(stores["latents.zarr"])
    phase = "--test", str(stores["test.nwb"]), "--fit", str(stores["fit"])
    main(["benchmark", "export", *both, *phase, "--out", str(out)])
    rates = hidden_rates(opened(stores), stores["test.nwb"], stores["fit"], "smoothing") * 0.02
    with h5py.File(out) as file:
        (group,) = file.values()
        assert group.name == "/mc_maze_20"
        assert group["train_rates_heldin"].shape == (TRAIN, 35, 4)
        np.testing.assert_allclose(
            group["eval_rates_heldin"][()], rates[:, :35][..., ~HELDOUT], rtol=1e-6
        )
        np.testing.assert_allclose(
            group["eval_rates_heldout"][()], rates[:, :35][..., HELDOUT], rtol=1e-6
        )
        assert group["eval_rates_heldout_forward"].shape == (TEST, 10, 2)
        assert (group["eval_rates_heldout"][()] > 0).all()
    record = json.loads((tmp_path / "submission.h5.provenance.json").read_text())
    used = {Path(entry["path"]).name for entry in record["inputs"]}
    assert used == {"recording.zarr", "latents.zarr", "fit", "test.nwb"}


def test_files_that_are_not_of_the_test_phase_are_refused(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    recording = opened(stores)
    with pytest.raises(InputError, match=r"units/id: found 3 units, 3 of them held-in"):
        hidden_recording(recording, hidden_file(tmp_path / "few.nwb", shown=[0, 2, 3]))
    with pytest.raises(InputError, match=r"units/id: found 4 units, 3 of them held-in"):
        hidden_recording(recording, hidden_file(tmp_path / "other.nwb", shown=[0, 1, 2, 3]))
    with pytest.raises(InputError, match="no such folder"):
        hidden_rates(recording, stores["test.nwb"], tmp_path / "nothing", "smoothing")
    fit = tmp_path / "fit"
    shutil.copytree(stores["fit"], fit)
    changed = next(path for path in fit.iterdir() if path.suffix != ".sha256")
    changed.write_bytes(changed.read_bytes() + b" ")
    with pytest.raises(InputError, match="other bytes than were written"):
        hidden_rates(recording, stores["test.nwb"], fit, "smoothing")


def test_a_test_phase_needs_a_fit(stores: dict[str, Path], tmp_path: Path) -> None:
    recording, out = str(stores["recording.zarr"]), str(tmp_path / "x.h5")
    with pytest.raises(SystemExit):
        main(["benchmark", "export", recording, "--test", str(stores["test.nwb"]), "--out", out])
