"""Every recording of the folder runs with a shipped layout, or is refused with the right words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from driftwave.config import load_layout, parse_layout
from driftwave.errors import InputError
from driftwave.ingest.inspect import first_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.recording import check_recording

pytestmark = [pytest.mark.recording, pytest.mark.slow]
LAYOUTS = Path(__file__).resolve().parents[1] / "config" / "layouts"
REFUSED = {"invalid_photoreceptor": r"NWB version 1\.2\.0, expected an NWB 2 file"}

# The layout `lorenz` is that of the simulated recording, which says which units are held out.
LAYOUT_OF = {"lorenz": "lorenz_tutorial"}


def names(recordings: Path) -> list[str]:
    return sorted(path.stem for path in recordings.glob("*.nwb"))


def test_every_file_runs_or_is_refused(recordings: Path) -> None:
    found = names(recordings)
    assert len(found) >= 12
    for name in found:
        path = recordings / f"{name}.nwb"
        if name in REFUSED:
            with pytest.raises(InputError, match=REFUSED[name]), open_nwb(path):
                pass
            continue
        with open_nwb(path) as file:
            tree = read_recording(
                file, load_layout(LAYOUT_OF.get(name, name), LAYOUTS), session=name
            )
        check_recording(tree, path)
        assert {"spikes", "field", "imaging"} & set(tree.children), name


def test_the_first_layout_of_every_file_runs(recordings: Path) -> None:
    for name in names(recordings):
        path = recordings / f"{name}.nwb"
        if name in REFUSED:
            with pytest.raises(InputError, match=REFUSED[name]):
                first_layout(path)
            continue
        layout = parse_layout(yaml.safe_load(first_layout(path)), path)
        with open_nwb(path) as file:
            check_recording(read_recording(file, layout, session=name), path)


def test_boundaries_of_clips(recordings: Path) -> None:
    with open_nwb(recordings / "human_mtl.nwb") as file:
        tree = read_recording(file, load_layout("human_mtl", LAYOUTS), session="s").compute()
        units = file.nwbfile.units
        times = [np.asarray(units["spike_times"][k]) for k in range(len(units))]
    assert tree["spikes/counts"].shape[:2] == (90, 50)
    assert set(tree["stimulus/stimCategory"].values) == {0, 1, 2}
    regions = set(tree["units/region"].values)
    assert all(region.startswith(("hippocampus", "amygdala")) or region for region in regions)
    for unit, own in enumerate(tree["units/id"].values):
        inside = sum(
            int(((times[own] >= start - 1e-9) & (times[own] < start + 2.5 - 1e-9)).sum())
            for start in tree["trials/start"].values
        )
        assert tree["spikes/counts"].values[:, :, unit].sum() == inside


def test_trials_without_light_and_early_licks(recordings: Path) -> None:
    name = "thalamus_delay_response"
    with open_nwb(recordings / f"{name}.nwb") as file:
        tree = read_recording(file, load_layout(name, LAYOUTS), session="s").compute()
    assert set(tree["trials/response"].values) == {"correct", "incorrect"}
    assert set(tree["trials/stim_present"].values) == {0}
    assert set(tree["stimulus/type"].values) == {"lick left", "lick right"}
    assert 180 < len(tree["trials/start"]) <= 255
    split = tree["trials/split"].values
    assert min((split == s).sum() for s in ("train", "valid", "test")) > 15
