"""The dynamic functional connectome on planted communities that change in time."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import adjusted_rand_score

from driftwave.connectome.affinity import affinities, square
from driftwave.connectome.analysis import Params, analyse
from driftwave.connectome.communities import communities, renamed
from driftwave.connectome.motifs import shifted
from driftwave.connectome.traces import traces_of
from driftwave.errors import InputError

RATE = 2.0
FAST = Params(surrogates=19, splits=2, restarts=5, starts=2, most_motifs=4)


def smooth_noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = gaussian_filter1d(rng.normal(size=shape), 1.5, axis=0)
    return values / values.std(axis=0)


def recording_of(traces: np.ndarray, time: np.ndarray | None = None, **groups: xr.Dataset):
    time = np.arange(len(traces)) / RATE if time is None else time
    imaging = xr.Dataset(
        {"dff": (("time", "roi"), traces, {"units": "dF/F"})},
        coords={
            "time": ("time", time, {"units": "s"}),
            "roi": np.arange(traces.shape[1]) + 100,
            "good": ("roi", np.ones(traces.shape[1], bool)),
        },
    )
    root = xr.Dataset(attrs={"session": "planted"})
    return xr.DataTree.from_dict({"/": root, "imaging": imaging, **groups})


def planted(seed: int, *, units: int = 45, epochs: int = 3, seconds: int = 200, noise: float = 1.0):
    """Units in three communities that are drawn anew in each epoch: traces and memberships."""
    rng = np.random.default_rng(seed)
    frames = int(seconds * RATE)
    member = np.stack([rng.permutation(np.arange(units) % 3) for _ in range(epochs)])
    traces = np.concatenate([smooth_noise(rng, frames, 3)[:, of] for of in member])
    return traces + noise * smooth_noise(rng, *traces.shape), member


def agreement(found: xr.Dataset, member: np.ndarray, seconds: int = 200) -> float:
    """Adjusted Rand index of the communities in time, away from the changes."""
    values = []
    for epoch, of in enumerate(member):
        inside = slice(epoch * seconds + 15, (epoch + 1) * seconds - 15)
        labels = found["community_in_time"].sel(time=inside).values
        values += [adjusted_rand_score(of, row) for row in labels]
    return float(np.mean(values))


@pytest.fixture(scope="module")
def found():
    traces, member = planted(3)
    return analyse(recording_of(traces), FAST, seed=0), member


def test_communities_that_change_are_found_with_their_times(found):
    result, member = found
    assert result.attrs["rank"] == 3
    assert agreement(result, member) >= 0.9
    epoch = (result["time"].values // 200).astype(int)
    strongest = result["course"].values.argmax(axis=0)
    assert adjusted_rand_score(epoch, strongest) > 0.85
    for motif in range(3):
        own = member[np.bincount(epoch[strongest == motif]).argmax()]
        assert adjusted_rand_score(own, result["community"].values[motif]) >= 0.9
    assert float(result["p_explained"]) == 1 / 20
    assert (result["p_modularity"].values == 1 / 20).all()


def test_result_is_labelled(found):
    result, _ = found
    assert result["affinity"].dims == ("motif", "unit", "other")
    np.testing.assert_array_equal(result["affinity"], result["affinity"].values.swapaxes(1, 2))
    assert result["unit"].values[0] == 100
    assert result["course"].mean("time").values == pytest.approx(1)
    assert all("units" in result[name].attrs for name in result.data_vars)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_communities_in_more_noise(seed):
    traces, member = planted(20 + seed, noise=1.5)
    result = analyse(recording_of(traces), Params(), seed=seed)
    assert agreement(result, member) >= 0.9


@pytest.mark.slow
def test_the_same_seed_gives_the_same_result(found):
    traces, _ = planted(3)
    xr.testing.assert_identical(analyse(recording_of(traces), FAST, seed=0), found[0])


def test_units_that_share_nothing_have_no_motifs_beyond_chance():
    rng = np.random.default_rng(5)
    params = FAST.model_copy(update={"rank": 2, "splits": 1, "restarts": 2})
    p = [
        float(analyse(recording_of(smooth_noise(rng, 400, 14)), params, seed=s)["p_explained"])
        for s in range(6)
    ]
    assert sum(value <= 0.05 for value in p) <= 2
    assert np.mean(p) > 0.2


def test_affinity_is_the_correlation_of_derivatives_while_both_change():
    time = np.arange(0, 400, 0.5)
    wave = np.sin(2 * np.pi * time / 20)
    first = np.where(time < 200, wave, 0)
    traces = np.stack([first, first, -first, np.where(time < 200, 0, wave)], axis=1)
    result = affinities(time, traces, window=15, smoothing=0)
    early = result.values[result.time < 150].mean(axis=0)
    pairs = square(early, 4)
    assert pairs[0, 1] == pytest.approx(1, abs=0.02)
    assert pairs[0, 2] == 0
    assert pairs[0, 3] < 1e-3
    assert square(result.values[result.time > 260], 4).max() < 1e-3


def test_slow_drift_is_no_affinity():
    time = np.arange(0, 600, 0.5)
    rng = np.random.default_rng(0)
    traces = smooth_noise(rng, len(time), 2)
    drift = 10 * np.sin(2 * np.pi * time / 600)[:, None]
    moving = affinities(time, traces + drift, window=15, smoothing=0.5).values.mean()
    alone = affinities(time, traces, window=15, smoothing=0.5).values.mean()
    traced = affinities(time, traces + drift, window=15, smoothing=0.5, kind="correlation")
    assert moving == pytest.approx(alone, abs=0.03)
    assert traced.values.mean() > alone + 0.2


def test_a_motif_of_behaviour_is_named():
    traces, member = planted(4, epochs=2, seconds=300)
    time = np.arange(len(traces)) / RATE
    speed = np.where(time < 300, 0.0, 1.0) + np.random.default_rng(0).normal(0, 0.3, len(time))
    series = xr.Dataset(
        {"speed": (("speed_time", "speed_column"), speed[:, None])},
        coords={"speed_time": time, "speed_column": ["speed"]},
    )
    params = FAST.model_copy(update={"rank": 2, "shifts": 200})
    result = analyse(recording_of(traces, behavior_series=series), params, seed=1)
    late = int(result["course"].values[:, -5].argmax())
    assert float(result["behaviour_correlation"][late, 0]) > 0.7
    assert len(member) == 2


def test_louvain_finds_blocks_and_leaves_lone_units_out():
    weights = np.zeros((9, 9))
    weights[:4, :4] = weights[4:8, 4:8] = 1.0
    np.fill_diagonal(weights, 0)
    label, modularity = communities(weights, resolution=1.0, starts=3, seed=0)
    assert label.tolist() == [0] * 4 + [1] * 4 + [-1]
    assert modularity == pytest.approx(0.5)
    empty, value = communities(np.zeros((3, 3)), resolution=1.0, starts=1, seed=0)
    assert (empty == -1).all()
    assert np.isnan(value)


def test_names_of_communities_are_kept_in_time():
    labels = np.array([[0, 0, 0, 1, 1], [1, 1, 1, 0, 0], [0, 0, 2, 1, 1]])
    kept = renamed(labels)
    assert kept[1].tolist() == [0, 0, 0, 1, 1]
    assert kept[2, 0] == 0
    assert kept[2, 3] == 1
    assert kept[2, 2] not in (0, 1)


def test_shifts_keep_each_trace_and_its_order():
    rng = np.random.default_rng(0)
    traces = rng.normal(size=(50, 3))
    moved = shifted(traces, rng)
    for column in range(3):
        at = int(np.flatnonzero(moved[:, column] == traces[0, column])[0])
        assert 5 <= at <= 45
        np.testing.assert_array_equal(np.roll(traces[:, column], at), moved[:, column])


def test_uneven_stamps_gaps_and_dead_units():
    rng = np.random.default_rng(0)
    stamps = np.cumsum(rng.uniform(0.5, 0.7, 300))
    traces = np.sin(stamps[:, None] / 5 + np.arange(6))
    traces[20:25, 0] = np.nan
    traces[:200, 1] = np.nan
    traces[:, 2] = 3.0
    found = traces_of(recording_of(traces, stamps))
    assert found.labels.tolist() == [100, 103, 104, 105]
    assert found.left_out == {"missing": [101], "constant": [102]}
    np.testing.assert_allclose(np.diff(found.time), found.step)
    np.testing.assert_allclose(found.values[:, 1], np.sin(found.time / 5 + 3), atol=0.01)
    assert np.isfinite(found.values).all()


def test_of_too_many_units_the_most_variable_stay():
    traces = np.random.default_rng(0).normal(size=(200, 8)) * np.arange(1, 9)
    found = traces_of(recording_of(traces), most_units=5)
    assert found.labels.tolist() == [103, 104, 105, 106, 107]


def test_spikes_are_binned_on_the_session_clock():
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(10, 110, 4000))
    unit = rng.integers(0, 5, 4000)
    groups = {
        "units": xr.Dataset(coords={"unit": np.arange(5)}),
        "spike_times": xr.Dataset({"time": ("spike", times), "unit": ("spike", unit)}),
    }
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"session": "s"}), **groups})
    found = traces_of(tree, bin_width=0.5)
    assert (found.values[:, 2] ** 2).sum() == pytest.approx((unit == 2).sum(), abs=10)
    assert found.step == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("traces", "params", "field"),
    [
        (np.ones((200, 6)), FAST, "imaging"),
        (np.random.default_rng(0).normal(size=(40, 6)), FAST, "window"),
        (
            np.random.default_rng(0).normal(size=(400, 6)),
            FAST.model_copy(update={"rank": 30}),
            "rank",
        ),
    ],
)
def test_what_cannot_be_analysed_is_refused(traces, params, field):
    with pytest.raises(InputError, match=field):
        analyse(recording_of(traces), params, seed=0)


def test_a_recording_without_a_signal_is_refused():
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"session": "s"})})
    with pytest.raises(InputError, match="units"):
        analyse(tree, FAST, seed=0)


@pytest.mark.recording
@pytest.mark.slow
def test_the_worm_has_motifs_beyond_chance(recordings):
    from driftwave.config import load_layout
    from driftwave.ingest.nwb import open_nwb, read_recording

    with open_nwb(recordings / "worm.nwb") as file:
        tree = read_recording(file, load_layout("worm"), session="worm").load()
    result = analyse(tree, Params(rank=3), seed=0)
    assert result.sizes["unit"] == 141
    assert float(result["p_explained"]) == 1 / 40
