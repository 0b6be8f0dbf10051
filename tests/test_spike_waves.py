"""Spikes against the phase of waves: closed forms, calibration of the nulls, planted locking."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter
from scipy.special import i0e, i1e

from driftwave.errors import InputError
from driftwave.spike_waves.circular import (
    direction_interval,
    moments,
    phase_bin,
    rayleigh_p,
    weights_of,
)
from driftwave.spike_waves.coupling import Params, couple
from driftwave.spike_waves.trial_shuffle import derangements
from driftwave.spike_waves.triggered import about_cycles, about_events
from driftwave.wave_events.arrays import per_array
from waves_cases import grid

RATE = 240.0
FAST = Params(surrogates=199, bootstrap=100)


def wandering(seconds: float, seed: int, frequency: float = 12.0, drift: float = 3.0) -> np.ndarray:
    """Phase (frame,) of a wave whose phase diffuses by ``drift`` rad per root second."""
    rng = np.random.default_rng(seed)
    steps = 2 * np.pi * frequency / RATE + drift * rng.normal(size=int(seconds * RATE)) / RATE**0.5
    return np.cumsum(steps)


def waves_of(phase: np.ndarray, position: np.ndarray, events=(), **attrs) -> xr.Dataset:
    """A main analysis with phase (frame, electrode) and events (start, stop, class, q)."""
    wrapped = (phase + np.pi) % (2 * np.pi) - np.pi
    starts, stops, names, q = zip(*events, strict=True) if events else ((), (), (), ())
    return xr.Dataset(
        {
            "phase": (("time", "electrode"), wrapped.astype(np.float32)),
            "start": ("event", np.array(starts, float)),
            "stop": ("event", np.array(stops, float)),
            "class": ("event", np.array(names, "<U16")),
            "q": ("event", np.array(q, float)),
        },
        coords={
            "time": np.arange(len(phase)) / RATE,
            "electrode": np.arange(len(position)),
            "x": ("electrode", position[:, 0]),
            "y": ("electrode", position[:, 1]),
        },
        attrs={"session": "planted", "band": [8.0, 16.0], **attrs},
    )


def recording_of_spikes(trains, place: np.ndarray, *, trials=None) -> xr.DataTree:
    """Spike times (a list of arrays, s) of units at ``place`` (unit, 2) mm."""
    unit = np.arange(len(trains))
    groups = {
        "/": xr.Dataset(attrs={"session": "planted"}),
        "spike_times": xr.Dataset(
            {
                "time": ("spike", np.concatenate(trains)),
                "unit": ("spike", np.repeat(unit, [len(t) for t in trains])),
            }
        ),
        "units": xr.Dataset(
            {"x": ("unit", place[:, 0]), "y": ("unit", place[:, 1])}, coords={"unit": unit}
        ),
    }
    if trials is not None:
        starts, length = trials
        groups["spikes"] = xr.Dataset(
            {
                "counts": (("trial", "time", "unit"), np.zeros((len(starts), 10, len(unit)))),
                "trial_start": ("trial", starts),
            },
            attrs={"bin_width": length / 10, "contiguous": False},
        )
    return xr.DataTree.from_dict(groups)


def drawn(rate: np.ndarray, rng, step: float = 1 / RATE) -> np.ndarray:
    """Poisson spike times for a rate (frame,) in Hz, each frame centred on its time."""
    count = rng.poisson(rate * step)
    frame = np.repeat(np.arange(len(rate)), count)
    return np.sort((frame + rng.uniform(-0.5, 0.5, len(frame))) * step)


def locked(phase: np.ndarray, rate: float, coupling: float, preferred: float) -> np.ndarray:
    """Rate (frame,) whose spikes' phases are von Mises about ``preferred`` rad."""
    depth = coupling * (np.cos(phase - preferred) - 1)
    return rate * np.exp(depth) / i0e(coupling)


def test_moments_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    phase, weight = rng.vonmises(1, 1, 30), rng.uniform(0.5, 2, 30)
    pairs = np.subtract.outer(phase, phase)[~np.eye(30, dtype=bool)]
    both = np.outer(weight, weight)[~np.eye(30, dtype=bool)]
    expected = (both * np.cos(pairs)).sum() / both.sum()
    assert float(moments(phase, weight).ppc) == pytest.approx(expected, rel=1e-10)
    plain = moments(phase, np.ones(30))
    assert float(plain.resultant) == pytest.approx(abs(np.exp(1j * phase).mean()))
    assert np.isnan(moments(phase[:1], np.ones(1)).ppc)


def test_consistency_does_not_depend_on_the_number_of_spikes() -> None:
    rng = np.random.default_rng(1)
    truth = (i1e(1.0) / i0e(1.0)) ** 2
    for count in (5, 200):
        found = [float(moments(rng.vonmises(0, 1, count), np.ones(count)).ppc) for _ in range(4000)]
        error = np.std(found) / 4000**0.5
        assert np.mean(found) == pytest.approx(truth, abs=3.5 * error)


def test_rayleigh_against_simulation() -> None:
    rng = np.random.default_rng(2)
    length = abs(np.exp(1j * rng.uniform(-np.pi, np.pi, (40_000, 25))).mean(axis=1))
    for wanted in (0.1, 0.25, 0.4):
        half = np.arccos(wanted)
        phase = np.tile([half, -half], 13)[:25]
        here = abs(np.exp(1j * phase).mean())
        assert rayleigh_p(phase) == pytest.approx((length >= here).mean(), abs=0.008)


def test_weights_undo_occupancy() -> None:
    occupancy = np.array([10.0, 30.0, 0.0, 20.0])
    weights = weights_of(occupancy)
    np.testing.assert_allclose((weights * occupancy)[[0, 1, 3]], 15.0)
    assert weights[2] == 0
    assert phase_bin(np.array([-np.pi, -0.01, 0.01, np.pi - 1e-9, np.pi]), 4).tolist() == [
        0, 1, 2, 3, 0
    ]  # fmt: skip


def test_direction_interval_covers() -> None:
    rng, hits = np.random.default_rng(3), 0
    for _ in range(200):
        vectors = np.exp(1j * rng.vonmises(2.0, 1.0, (60, 3))).sum(axis=1)
        low, high = direction_interval(vectors, 300, rng)
        hits += low <= 2.0 <= high or low <= 2.0 - 2 * np.pi <= high
    assert 0.9 <= hits / 200 <= 0.99
    assert np.isnan(direction_interval(np.array([1j, 1.0]), 100, rng)).all()
    low, high = direction_interval(np.exp(1j * rng.uniform(-np.pi, np.pi, 50)), 300, rng)
    assert high - low > np.pi / 2


def test_derangements_leave_no_trial_in_place() -> None:
    orders = derangements(9, 500, np.random.default_rng(4))
    assert orders.shape == (500, 9)
    assert (np.sort(orders, axis=1) == np.arange(9)).all()
    assert not (orders == np.arange(9)).any()


@pytest.mark.parametrize("coupling", [0.5, 1.5])
def test_locking_has_its_closed_form(coupling: float) -> None:
    """Rate exp(b cos(phi - mu)): resultant I1(b) / I0(b), preferred phase mu."""
    rng = np.random.default_rng(5)
    position = grid(4, 4)
    own = wandering(300, 5)
    phase = own[:, None] - 2 * position[:, 0]
    wanted = np.linspace(-np.pi, np.pi, 8, endpoint=False)
    host = rng.choice(16, 8, replace=False)
    trains = [
        drawn(locked(phase[:, electrode], 15, coupling, mu), rng)
        for electrode, mu in zip(host, wanted, strict=True)
    ]
    found = couple(
        recording_of_spikes(trains, position[host]), waves_of(phase, position), FAST, seed=0
    ).sel({"class": "recording"})
    truth = i1e(coupling) / i0e(coupling)
    np.testing.assert_allclose(found["resultant"], truth, atol=0.045)
    assert float(found["resultant"].mean()) == pytest.approx(truth, abs=0.015)
    assert float(found["ppc"].mean()) == pytest.approx(truth**2, abs=0.015)
    error = (found["preferred_phase"].values - np.degrees(wanted) + 180) % 360 - 180
    assert np.abs(error).max() < 12
    assert np.abs(error).mean() < 4
    low, high = found["preferred_phase_low"].values, found["preferred_phase_high"].values
    assert (low <= found["preferred_phase"].values).all()
    assert np.median(high - low) == pytest.approx(4 * np.std(error), rel=0.7)
    assert (found["q"] <= 0.05).all()
    # The rates at each phase are those planted.
    centre = np.deg2rad(found["phase_bin"].values)
    planted = 15 * np.exp(coupling * (np.cos(centre - wanted[:, None]) - 1)) / i0e(coupling)
    wrong = (found["phase_rate"].values - planted) / np.sqrt(planted / (300 / 24))
    assert np.sqrt((wrong**2).mean()) == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_spikes_that_know_nothing_of_the_wave() -> None:
    """Of 120 units that bounce on their own, the null rejects about alpha; so do the lags."""
    rng = np.random.default_rng(6)
    position = grid(4, 4)
    phase = wandering(80, 6)[:, None] - 2 * position[:, 0]
    # Log rates wander with a time constant of 2 s about a slow drift.
    wobble = lfilter([1], [1, -(1 - 1 / (2 * RATE))], rng.normal(size=(120, len(phase))))
    drift = rng.normal(size=(120, 1)) * np.linspace(-1, 1, len(phase))
    trains = [drawn(8 * np.exp(w), rng) for w in 0.6 * wobble / wobble.std() + 0.7 * drift]
    events = [(s, s + 2.0, "planar", 0.01) for s in np.arange(1, 75, 4.0)]
    place = position[rng.integers(0, 16, 120)]
    found = couple(
        recording_of_spikes(trains, place), waves_of(phase, position, events), FAST, seed=1
    )
    for name in ("recording", "event"):
        p = found["p"].sel({"class": name}).values
        p = p[np.isfinite(p)]
        assert len(p) > 100
        assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.045)
        assert np.mean(p) == pytest.approx(0.5, abs=0.08)
    event_p = found["event_p"].sel({"class": "event"}).values
    assert np.nanmean(event_p <= 0.05) < 0.11
    cycle_p = found["cycle_p"].sel({"class": "recording"}).values
    assert np.nanmean(cycle_p <= 0.05) < 0.11
    assert np.nanmean(found["q"].sel({"class": "recording"}) <= 0.05) < 0.02


@pytest.mark.slow
def test_a_wave_that_lingers_does_not_lock_spikes() -> None:
    """A wave of one third of its time at its trough: raw phases pile up, corrected ones do not."""
    rng = np.random.default_rng(7)
    position = grid(4, 4)
    turning = wandering(200, 7)
    own = turning + 0.8 * np.sin(turning)
    phase = np.repeat(own[:, None], 16, axis=1)
    trains = [drawn(np.full(len(own), 20.0), rng) for _ in range(30)]
    trains += [drawn(locked(own, 20, 1.0, 0.5), rng) for _ in range(4)]
    host = rng.integers(0, 16, 34)
    found = couple(
        recording_of_spikes(trains, position[host]), waves_of(phase, position), FAST, seed=2
    ).sel({"class": "recording"})
    free, bound = found.isel(unit=slice(30)), found.isel(unit=slice(30, 34))
    frame = np.rint(trains[0] * RATE).astype(int)
    raw = abs(np.exp(1j * own[frame[frame < len(own)]]).mean())
    assert raw > 0.3
    assert (free["rayleigh_p"] < 1e-6).all()
    assert float(free["ppc"].mean()) == pytest.approx(0, abs=0.001)
    assert float(free["resultant"].max()) < 0.06
    assert (free["p"] <= 0.05).mean() < 0.15
    np.testing.assert_allclose(bound["resultant"], i1e(1) / i0e(1), atol=0.04)
    assert np.abs(bound["preferred_phase"] - np.degrees(0.5)).max() < 8
    assert (bound["q"] <= 0.05).all()


def test_a_steady_wave_is_not_beyond_the_null() -> None:
    """With one shift for the whole recording a strictly periodic wave would lock just as well."""
    rng = np.random.default_rng(8)
    position = grid(4, 4)
    phase = np.repeat((2 * np.pi * 12.03 * np.arange(60 * RATE) / RATE)[:, None], 16, axis=1)
    trains = [drawn(locked(phase[:, 0], 10, 0.7, 1.0), rng) for _ in range(5)]
    found = couple(
        recording_of_spikes(trains, position[:5]), waves_of(phase, position), FAST, seed=3
    )
    assert (found["p"].sel({"class": "recording"}) <= 0.02).all()


def test_trials_do_not_take_evoked_rates_for_locking() -> None:
    """A stimulus resets the phase and drives the rate: shuffled trials share that, Rayleigh not."""
    rng = np.random.default_rng(9)
    position = grid(4, 4)
    count, length = 60, 1.0
    starts = 1.0 + 1.5 * np.arange(count)
    own, rates = wandering(95, 9, drift=1.0), np.full(int(95 * RATE), 4.0)
    bound = rates.copy()
    for start in starts:
        first = int(start * RATE)
        window = slice(first, first + int(length * RATE))
        own[window] += -own[first] + 0.3 * rng.normal()
        t = np.arange(window.stop - first) / RATE
        rates[window] = 4 + 80 * np.exp(-(((t - 0.3) / 0.02) ** 2) / 2)
        bound[window] = locked(own[window], 12, 1.0, 0.0)
    phase = np.repeat(own[:, None], 16, axis=1)
    trains = [drawn(rates, rng) for _ in range(40)] + [drawn(bound, rng) for _ in range(4)]
    recording = recording_of_spikes(
        trains, position[rng.integers(0, 16, 44)], trials=(starts, length)
    )
    found = couple(recording, waves_of(phase, position), FAST, seed=4).sel({"class": "recording"})
    assert "of the trials" in found.attrs["null"]
    evoked = found.isel(unit=slice(40))
    assert (evoked["rayleigh_p"] < 0.01).mean() > 0.7
    assert (evoked["p"] <= 0.05).mean() < 0.2
    np.testing.assert_allclose(evoked["seconds"], count * length, rtol=0.01)


def test_each_class_has_its_own_phase() -> None:
    rng = np.random.default_rng(10)
    position = grid(4, 4)
    own = wandering(240, 10)
    phase = own[:, None] - 2 * position[:, 0]
    kinds = ["planar", "rotating_cw"]
    events = [(s, s + 2.0, kinds[k % 2], 0.01) for k, s in enumerate(np.arange(2, 236, 3.0))]
    events.append((0.2, 1.5, "radial_in", 0.6))  # not significant
    time = np.arange(len(own)) / RATE
    rate = np.full(len(own), 12.0)
    for start, stop, name, _ in events:
        inside = (time >= start) & (time < stop)
        if name == "planar":
            rate[inside] = locked(phase[inside, 5], 12, 1.2, 1.0)
        elif name == "rotating_cw":
            rate[inside] = locked(phase[inside, 5], 12, 1.2, -2.0)
    found = couple(
        recording_of_spikes([drawn(rate, rng)], position[[5]]),
        waves_of(phase, position, events), Params(surrogates=199), seed=5,
    ).isel(unit=0)  # fmt: skip
    assert found["class"].values.tolist() == ["recording", "event", "planar", "rotating_cw"]
    truth = i1e(1.2) / i0e(1.2)
    for name, wanted in (("planar", 1.0), ("rotating_cw", -2.0)):
        one = found.sel({"class": name})
        assert float(one["resultant"]) == pytest.approx(truth, abs=0.07)
        assert float(one["preferred_phase"]) == pytest.approx(np.degrees(wanted), abs=10)
        assert float(one["p"]) <= 0.01
        assert float(one["seconds"]) == pytest.approx(78, abs=0.5)
        assert float(one["rate"]) == pytest.approx(12, rel=0.1)
    assert float(found["resultant"].sel({"class": "event"})) < 0.7 * truth
    assert int(found["events"].sel({"class": "event"})) == 78


def test_rates_about_waves_and_cycles() -> None:
    """A burst 0.1 s after each wave starts; spikes a quarter cycle after each peak."""
    rng = np.random.default_rng(11)
    position = grid(4, 4)
    own = wandering(200, 11, drift=0.5)
    phase = np.repeat(own[:, None], 16, axis=1)
    starts = np.sort(rng.uniform(2, 195, 40))
    events = [(s, s + 0.4, "planar", 0.01) for s in starts]
    time = np.arange(len(own)) / RATE
    burst = 5 + 40 * np.exp(-(((time[:, None] - starts - 0.1) / 0.03) ** 2) / 2).sum(axis=1)
    trains = [drawn(burst, rng), drawn(locked(own, 10, 2.0, np.pi / 2), rng)]
    found = couple(
        recording_of_spikes(trains, position[:2]), waves_of(phase, position, events), FAST, seed=6
    )
    about = found.isel(unit=0).sel({"class": "planar"})
    assert float(about["lag"][about["event_rate"].argmax("lag")]) == pytest.approx(0.1, abs=0.03)
    assert float(about["event_rate"].max()) == pytest.approx(45, rel=0.3)
    assert float(about["event_p"]) <= 0.01
    assert (about["event_rate"] > about["event_rate_high"]).sel(lag=slice(0.06, 0.13)).all()
    before = about.sel(lag=slice(-0.45, -0.1))
    assert float(before["event_rate"].mean()) == pytest.approx(5, abs=2)
    cycles = found.isel(unit=1).sel({"class": "recording"})
    period = 1 / found.attrs["frequency"]
    first = cycles["cycle_rate"].sel(cycle_lag=slice(-period / 2, period / 2))
    assert float(first["cycle_lag"][first.argmax("cycle_lag")]) == pytest.approx(
        1 / 12 / 4, abs=0.009
    )
    assert float(cycles["cycle_p"]) <= 0.01
    assert float(found.isel(unit=0).sel({"class": "recording"})["cycle_p"]) > 0.01


def test_rates_about_triggers_are_means_of_windows() -> None:
    rng = np.random.default_rng(12)
    counts, triggers = rng.poisson(0.2, 3000), np.zeros(3000, int)
    triggers[rng.choice(np.arange(100, 2900), 25, replace=False)] = 1
    lags, at = np.arange(-5, 11), np.flatnonzero(triggers)
    expected = np.array([counts[at + lag].mean() for lag in lags]) / 0.1
    options = {"draws": 200, "rng": rng}
    cycles = about_cycles(counts, triggers, lags, 0.1, least=50, **options)
    events = about_events(counts, at, lags, 0.1, jitter=50, **options)
    for found in (cycles, events):
        np.testing.assert_allclose(found.rate, expected, atol=1e-9)
        assert ((found.low <= 2) & (found.high >= 2)).all()
    assert about_cycles(counts, 0 * triggers, lags, 0.1, least=50, **options) is None
    assert about_cycles(counts, triggers, lags, 0.1, least=1500, **options) is None
    assert about_events(counts, at[:0], lags, 0.1, jitter=50, **options) is None


def test_a_units_own_spikes_in_the_field() -> None:
    """Bleed-through: the phase of the own electrode jumps at each spike, others' does not."""
    rng = np.random.default_rng(13)
    position = grid(4, 4)
    phase = wandering(120, 13)[:, None] - 2 * position[:, 0]
    train = drawn(np.full(len(phase), 6.0), rng)
    frame = np.rint(train * RATE).astype(int)
    frame = frame[(frame > 1) & (frame < len(phase) - 2)]
    bled = phase.copy()
    for shift in (-1, 0, 1):
        bled[frame + shift, 5] = 0.4 * rng.normal(size=len(frame))
    recording = recording_of_spikes([train], position[[5]])
    found = {
        source: couple(
            recording, waves_of(bled, position), Params(surrogates=199, phase_from=source), seed=7
        ).sel({"class": "recording", "unit": 0})
        for source in ("own", "neighbours")
    }
    assert float(found["own"]["resultant"]) > 0.5
    assert float(found["own"]["p"]) <= 0.01
    assert float(found["neighbours"]["resultant"]) < 0.08
    assert float(found["neighbours"]["p"]) > 0.01
    # Neighbours on both sides of an inner electrode give its own phase.
    clean = couple(
        recording_of_spikes([drawn(locked(phase[:, 5], 10, 1.5, 1.0), rng)], position[[5]]),
        waves_of(phase, position), Params(surrogates=199, phase_from="neighbours"), seed=8,
    ).sel({"class": "recording"})  # fmt: skip
    assert float(clean["preferred_phase"][0]) == pytest.approx(np.degrees(1.0), abs=8)


def test_gaps_and_unobserved_stretches_are_left_out() -> None:
    rng = np.random.default_rng(14)
    position = grid(4, 4)
    own = wandering(100, 14)
    phase = np.repeat(own[:, None], 16, axis=1)
    phase[: int(30 * RATE)] = np.nan
    recording = recording_of_spikes([drawn(locked(own, 10, 1.0, 0.0), rng)], position[:1])
    recording["spike_times"].attrs["observed"] = [[0.0, 80.0]]
    found = couple(recording, waves_of(phase, position), FAST, seed=9).isel(unit=0)
    one = found.sel({"class": "recording"})
    assert float(one["seconds"]) == pytest.approx(50, abs=0.1)
    assert float(one["resultant"]) == pytest.approx(i1e(1) / i0e(1), abs=0.07)


def test_several_arrays() -> None:
    """Events of one array say nothing of units on the other, and each unit has its own phase."""
    rng = np.random.default_rng(15)
    sizes, shift = {"left": 3, "right": 4}, {"left": 0.0, "right": 10.0}
    position = {name: grid(3, n) + np.array([shift[name], 0.0]) for name, n in sizes.items()}
    own = {"left": wandering(120, 15), "right": wandering(120, 99)}
    starts = np.arange(1, 110, 4.0)

    def one_array(dataset: xr.Dataset) -> xr.Dataset:
        name = str(dataset["group"].values[0])
        events = [(s, s + 2.0, "planar", 0.01) for s in starts[:: 1 if name == "left" else 2]]
        phase = np.repeat(own[name][:, None], len(position[name]), axis=1)
        return waves_of(phase, position[name], events)

    place = np.concatenate(list(position.values()))
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), np.zeros((10, len(place))))},
        coords={
            "x": ("electrode", place[:, 0]), "y": ("electrode", place[:, 1]),
            "good": ("electrode", np.ones(len(place), bool)),
            "group": ("electrode", np.repeat(list(sizes), [9, 12])),
        },
    )  # fmt: skip
    waves = per_array(field, "two", one_array)
    trains = [drawn(locked(own[name], 10, 1.0, 0.0), rng) for name in sizes]
    units = np.array([position["left"][4], position["right"][5]])
    found = couple(recording_of_spikes(trains, units), waves, FAST, seed=10)
    np.testing.assert_allclose(found["distance"], 0, atol=1e-9)
    np.testing.assert_allclose(
        found["resultant"].sel({"class": "recording"}), i1e(1) / i0e(1), atol=0.06
    )
    assert found["events"].sel({"class": "planar"}).values.tolist() == [28, 14]


def test_what_cannot_be_coupled() -> None:
    position = grid(4, 4)
    phase = wandering(20, 16)[:, None] - 2 * position[:, 0]
    waves = waves_of(phase, position)
    train = [np.linspace(0, 19, 200)]
    good = recording_of_spikes(train, position[:1])
    with pytest.raises(InputError, match="among its `fields`"):
        couple(good, waves.drop_vars("phase"), FAST, seed=0)
    with pytest.raises(InputError, match="spikes between 0 and"):
        couple(recording_of_spikes([train[0] + 100], position[:1]), waves, FAST, seed=0)
    with pytest.raises(InputError, match=r"no unit within 0\.4 mm"):
        couple(recording_of_spikes(train, position[:1] * 1000 + 50), waves, FAST, seed=0)
    bare = good.copy()
    bare["units"] = xr.DataTree(good["units"].to_dataset().drop_vars(["x", "y"]))
    with pytest.raises(InputError, match="positions x and y of the units"):
        couple(bare, waves, FAST, seed=0)
    with pytest.raises(InputError, match="spike_times"):
        couple(good.drop_nodes("spike_times"), waves, FAST, seed=0)
    few = couple(recording_of_spikes([train[0][:20]], position[:1]), waves, FAST, seed=0)
    assert np.isnan(few["resultant"].values).all()
    assert float(few["spikes"][0, 0]) == 20
