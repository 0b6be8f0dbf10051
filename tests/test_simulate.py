"""Simulated recordings: valid files, repeatable, and truth that agrees with the data."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import kstest

from driftwave import registry
from driftwave.compute import generator
from driftwave.config import load_layout, parse_params
from driftwave.errors import InputError
from driftwave.ingest.simulate import lorenz
from driftwave.ingest.simulate._hand import hand_movement
from driftwave.ingest.simulate._poisson import spike_times

LAYOUTS = Path(__file__).resolve().parents[1] / "config" / "layouts"
SMALL = lorenz.Params(conditions=4, trials_per_condition=10, units=8, held_out=2)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Every number stored in an HDF5 file, by its path."""
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf":
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def assert_clean(path: Path) -> None:
    """Valid NWB, and nothing but suggestions from nwbinspector."""
    inspector = pytest.importorskip("nwbinspector")
    assert not pynwb.validate(path=str(path))
    threshold = inspector.Importance.BEST_PRACTICE_VIOLATION
    messages = list(inspector.inspect_nwbfile(path, importance_threshold=threshold))
    assert messages == []


@pytest.fixture(scope="module")
def lorenz_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lorenz") / "small.nwb"
    lorenz.simulate(path, SMALL, seed=3)
    return path


def expected_bits(rate: np.ndarray) -> float:
    """Expected bits per spike of the true rates (trial, time, unit) over each unit's mean."""
    mean = rate.mean((0, 1))
    return float((rate * np.log2(rate / mean)).sum() / rate.sum())


def test_simulators_are_found_with_a_summary():
    found = registry.plugins("simulators")
    assert {"lorenz", "array"} <= set(found)
    assert all(plugin.summary for plugin in found.values())


def test_spikes_are_poisson_in_number_and_uniform_in_place():
    rng = generator(0, "test")
    rate = np.full((50, 1), 40.0)
    time, unit, repeat = spike_times(rate, 0.01, rng, repeats=4000)
    assert np.all(unit == 0)
    counts = np.bincount(repeat, minlength=4000)
    assert counts.mean() == pytest.approx(20, abs=4 * np.sqrt(20 / 4000))
    assert counts.var() / counts.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / 4000))
    assert kstest(time / 0.5, "uniform").pvalue > 1e-3


def test_spikes_follow_a_changing_rate():
    rate = np.array([[10.0, 0.0], [30.0, 80.0], [0.0, 0.0], [60.0, 20.0]])
    time, unit, _ = spike_times(rate, 0.25, generator(1, "test"), repeats=8000)
    for one in range(2):
        counts = np.histogram(time[unit == one], bins=np.arange(5) * 0.25)[0]
        expected = rate[:, one] * 0.25 * 8000
        assert np.all(np.abs(counts - expected) <= 4 * np.sqrt(expected))


def test_spikes_are_sorted_within_unit_and_repeat():
    time, unit, repeat = spike_times(np.full((5, 3), 200.0), 0.1, generator(2, "t"), repeats=4)
    group = unit * 4 + repeat
    assert np.all(np.diff(group) >= 0)
    assert np.all(np.diff(time)[np.diff(group) == 0] >= 0)


def test_lorenz_integration_agrees_with_scipy():
    start = np.array([[1.0, 2.0, 20.0], [-8.0, -3.0, 30.0]])
    states = lorenz.lorenz_states(start, 301, 0.006, 10.0, 28.0, 8 / 3)

    def slope(_, s):
        return [10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]]

    for initial, ours in zip(start, states, strict=True):
        solved = solve_ivp(slope, (0, 1.8), initial, method="DOP853", rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(ours[-1], solved.y[:, -1], atol=2e-3)


def test_lorenz_fixed_point_stays():
    edge = np.sqrt(8 / 3 * 27)
    states = lorenz.lorenz_states(np.array([[edge, edge, 27.0]]), 200, 0.006, 10, 28, 8 / 3)
    np.testing.assert_allclose(states[0, -1], [edge, edge, 27.0], atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_default_protocol_has_the_stated_rate_and_ceiling(seed):
    rates = lorenz.population(lorenz.Params(), seed)
    binned = lorenz.bin_means(rates.rate, 20)
    assert binned.shape == (65, 50, 29)
    assert binned.mean() == pytest.approx(13.0)
    assert 1.2 < expected_bits(binned) < 1.5
    np.testing.assert_allclose(rates.state.std((0, 1)), 1)


@pytest.mark.recording
def test_default_protocol_resembles_the_benchmark_population(recordings):
    with h5py.File(recordings / "lorenz29.h5") as file:
        rate, state = file["test_rates"][()] / 0.02, file["test_latents"][()]
    params = lorenz.Params()
    ours = lorenz.population(params, 0)
    binned = lorenz.bin_means(ours.rate, 20)
    assert expected_bits(binned) == pytest.approx(expected_bits(rate), abs=0.1)
    assert binned.mean() == pytest.approx(rate.mean(), rel=0.02)
    steps = [
        np.abs(np.diff(one, axis=1)).mean() / one.std()
        for one in (lorenz.bin_means(ours.state[:, ours.time > -1e-4], 20), state)
    ]
    assert steps[0] == pytest.approx(steps[1], rel=0.15)


def test_independent_loadings_lower_the_ceiling():
    binned = [
        lorenz.bin_means(lorenz.population(lorenz.Params(sorted_loadings=s), 0).rate, 20)
        for s in (True, False)
    ]
    assert expected_bits(binned[0]) > expected_bits(binned[1]) + 0.2


def test_lorenz_file_is_valid_and_clean(lorenz_file):
    assert_clean(lorenz_file)


def test_lorenz_seed_decides_the_arrays(lorenz_file, tmp_path):
    for seed in (3, 4):
        lorenz.simulate(tmp_path / f"{seed}.nwb", SMALL, seed=seed)
    first, same, other = (
        arrays_of(path) for path in (lorenz_file, tmp_path / "3.nwb", tmp_path / "4.nwb")
    )
    assert first.keys() == same.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, same[name], err_msg=name)
    for name in ("firing_rates", "lorenz_state"):
        path = f"processing/ground_truth/{name}/data"
        assert not np.allclose(first[path], other[path])
    assert first["units/spike_times"][0] != other["units/spike_times"][0]


def test_lorenz_spikes_are_poisson_with_the_true_rate(tmp_path):
    params = SMALL.model_copy(update={"trials_per_condition": 40})
    lorenz.simulate(tmp_path / "many.nwb", params, seed=0)
    with pynwb.NWBHDF5IO(tmp_path / "many.nwb", "r") as io:
        file = io.read()
        truth = file.processing["ground_truth"]["firing_rates"]
        expected = truth.data[:] * params.bin_width
        edges = truth.timestamps[:]
        times = [file.units["spike_times"][unit] for unit in range(params.units)]
    counts = np.stack(
        [
            np.searchsorted(one, edges + params.bin_width) - np.searchsorted(one, edges)
            for one in times
        ],
        axis=-1,
    )
    assert sum(map(len, times)) == counts.sum()  # no spike outside a trial
    total = float(expected.sum())
    assert counts.sum() == pytest.approx(total, abs=4 * np.sqrt(total))
    np.testing.assert_array_less(
        np.abs(counts.sum(0) - expected.sum(0)), 4 * np.sqrt(expected.sum(0))
    )
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 1), (1, np.inf)):
        rows = (expected >= low) & (expected < high)
        fano = ((counts - expected)[rows] ** 2).mean() / expected[rows].mean()
        # Var((n - m)^2) = 2 m^2 + m for Poisson counts.
        variance = (2 * expected[rows] ** 2 + expected[rows]).sum()
        spread = float(np.sqrt(variance) / expected[rows].sum())
        assert fano == pytest.approx(1, abs=4 * spread)


def test_lorenz_trials_are_apart_and_split_within_each_condition():
    trials = lorenz.plan_trials(lorenz.Params(novel_conditions=3), seed=0)
    assert np.all(np.diff(trials.start) >= 1.6 - 1e-9)
    assert trials.start[0] >= 0.6 - 1e-9
    for condition in range(65):
        names, counts = np.unique(trials.split[trials.condition == condition], return_counts=True)
        found = dict(zip(names.tolist(), counts.tolist(), strict=True))
        assert found == {"train": 17, "valid": 2, "test": 5}
    assert set(trials.split[trials.condition >= 65]) == {"unused"}
    assert np.any(np.diff(trials.condition) < 0)


def test_fewer_conditions_are_the_first_of_more():
    few, many = (
        lorenz.population(lorenz.Params(conditions=n, novel_conditions=0), 5).state
        for n in (10, 20)
    )
    joint = few.reshape(-1, 3), many[:10].reshape(-1, 3)
    for dim in range(3):
        assert np.corrcoef(joint[0][:, dim], joint[1][:, dim])[0, 1] == pytest.approx(1)


def test_hand_has_the_step_response_of_a_critically_damped_system():
    rate, cutoff = 1000.0, 2.0
    position, velocity = hand_movement(np.ones((2000, 1)), rate, cutoff)
    # The bilinear transform sees the step half a sample early.
    time = (np.arange(2000) + 0.5) / rate
    omega = 2 * np.pi * cutoff
    np.testing.assert_allclose(
        position[:, 0], 1 - (1 + omega * time) * np.exp(-omega * time), atol=1e-4
    )
    np.testing.assert_allclose(velocity[:, 0], omega**2 * time * np.exp(-omega * time), atol=2e-3)


def test_hand_follows_the_state_after_the_lag():
    params = SMALL.model_copy(update={"hand_noise": 0.0, "hand_lag": 0.15})
    rates, trials = lorenz.population(params, 0), lorenz.plan_trials(params, 0)
    position, velocity = lorenz.draw_hand(params, rates, trials, 0)
    middle = (velocity[1:] + velocity[:-1]) / 2
    np.testing.assert_allclose(np.diff(position, axis=0) * params.hand_rate, middle, atol=1e-9)
    assert np.sqrt(np.mean(position**2)) == pytest.approx(params.hand_size)
    explained = {}
    for lag in (0.0, 0.15, 0.3):
        moments = (trials.start[:, None] + rates.time[::5] + lag).ravel()
        states = rates.state[trials.condition, ::5].reshape(-1, 3)
        clock = np.arange(len(position)) / params.hand_rate
        drive = np.stack([np.interp(clock, moments, one) for one in states.T], axis=-1)
        filtered, _ = hand_movement(drive, params.hand_rate, params.hand_cutoff)
        design = np.column_stack([filtered, np.ones(len(clock))])[200:]
        weights, *_ = np.linalg.lstsq(design, position[200:], rcond=None)
        residual = position[200:] - design @ weights
        explained[lag] = 1 - residual.var() / position[200:].var()
    assert explained[0.15] > 0.999
    assert max(explained[0.0], explained[0.3]) < 0.98


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"held_out": 29}, "held_out"),
        ({"duration": 1.01}, "whole number of bins"),
        ({"bin_width": 0.0205}, "bin_width"),
        ({"loading": [2, 1]}, "loading"),
        ({"condtions": 3}, "condtions"),
    ],
)
def test_lorenz_params_are_checked(params, named):
    with pytest.raises(InputError, match=named):
        parse_params(lorenz, params, "lorenz")


def test_lorenz_layout_reads_the_file(lorenz_file):
    from driftwave.ingest.nwb import open_nwb, read_recording

    layout = load_layout("lorenz", LAYOUTS)
    with open_nwb(lorenz_file) as file:
        tree = read_recording(file, layout, session="small")
    rates, trials = lorenz.population(SMALL, 3), lorenz.plan_trials(SMALL, 3)
    expected = lorenz.bin_means(rates.rate, 20)[trials.condition]
    np.testing.assert_allclose(tree["truth/rate"].values, expected, rtol=1e-5)
    state = lorenz.bin_means(rates.state[:, rates.time > -1e-4], 20)[trials.condition]
    np.testing.assert_allclose(tree["truth/state"].values, state, atol=1e-5)
    assert tree["trials/split"].values.tolist() == trials.split.tolist()
    assert tree["units/held_out"].values.sum() == 2
    assert tree["spikes"].attrs["forward_bins"] == 5
    spikes = lorenz.draw_spikes(SMALL, rates, trials, 3)
    np.testing.assert_array_equal(
        tree["spikes/counts"].values.sum((0, 1)), [len(one) for one in spikes]
    )
    position, velocity = lorenz.draw_hand(SMALL, rates, trials, 3)
    value = tree["behavior/value"]
    assert value.shape == (40, 50, 4)
    assert np.isfinite(value.values).all()
    clock = np.arange(len(position)) / SMALL.hand_rate
    centres = trials.start[:, None] + (np.arange(50) + 0.5) * 0.02 + SMALL.hand_lag
    found = {
        str(name): value.values[..., number] for number, name in enumerate(value["feature"].values)
    }
    for kind, signal in (("position", position), ("velocity", velocity)):
        for axis, label in enumerate("xy"):
            (name,) = [one for one in found if kind in one and one.endswith(label)]
            direct = np.interp(centres, clock, signal[:, axis])
            assert np.corrcoef(found[name].ravel(), direct.ravel())[0, 1] > 0.99
