"""Simulated oscillators and pulses: closed forms, planted waves, twins without lags."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pynwb
import pytest
from pydantic import BaseModel
from scipy.signal import csd, welch

from driftwave.compute import generator
from driftwave.config import load_layout, parse_params
from driftwave.errors import InputError
from driftwave.ingest.simulate import (
    _oscillator_field,
    _sites,
    kuramoto,
    linear_oscillators,
    stuart_landau,
    travelling_pulses,
)
from driftwave.ingest.simulate._field_facts import facts_of
from driftwave.ingest.simulate._lfp import lfp_blocks
from driftwave.ingest.simulate._oscillator_field import FieldParams, Observed
from driftwave.ingest.simulate._trials import STEP, Population, draw_spikes, population
from test_simulate import LAYOUTS, arrays_of, assert_clean

MODULES = {"kuramoto": kuramoto, "stuart_landau": stuart_landau}
CALM = {"trials": 5, "noise": 0.0, "perturbation": 0.0}
SMALL = {"trials": 20, "units": 16, "duration": 0.6, "sites": 16, "winding": 1}
FILES = {
    "kuramoto": ("kuramoto", {**SMALL, "both_ways": True}),
    "stuart_landau": (
        "stuart_landau_field",
        {**SMALL, "field": True, "preferred_phase": "random", "frequency_spread": 0.3},
    ),
    "kuramoto_twin": ("kuramoto", {**SMALL, "null": "zero_lag"}),
    "travelling_pulses": (
        "travelling_pulses",
        {"trials": 20, "units": 16, "duration": 0.6, "sites": 16, "width": 0.5},
    ),
    "travelling_pulses_twin": (
        "travelling_pulses",
        {"trials": 20, "units": 16, "duration": 0.6, "topology": "line", "null": "shifted"},
    ),
    "linear_oscillators": ("linear_oscillators", {"duration": 6, "rows": 5, "columns": 5}),
    "linear_oscillators_twin": (
        "linear_oscillators_spikes",
        {"duration": 6, "rows": 5, "columns": 5, "units": 8, "null": "zero_lag"},
    ),
}


def simulator(name: str):
    every = {
        **MODULES,
        "travelling_pulses": travelling_pulses,
        "linear_oscillators": linear_oscillators,
    }
    return every[name.removesuffix("_twin")]


def made(name: str) -> BaseModel:
    return simulator(name).Params(**FILES[name][1])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("oscillators")
    for name in FILES:
        simulator(name).simulate(folder / f"{name}.nwb", made(name), seed=1)
    return {name: folder / f"{name}.nwb" for name in FILES}


def run(params: FieldParams, seed: int = 0) -> np.ndarray:
    """Field (trial, step + 1, site)."""
    module = kuramoto if isinstance(params, kuramoto.Params) else stuart_landau
    name = module.__name__.rpartition(".")[2]
    frequency = _oscillator_field.natural_frequency(params, seed, name)
    size = 1.0 if module is kuramoto else stuart_landau.start_size(params)
    chunks = _oscillator_field.fields(
        params, lambda z, rng: module.integrate(params, z, frequency, rng), size, seed, name
    )
    return np.concatenate(list(chunks))


def seen(params: FieldParams, units: Population, seed: int = 0) -> Observed:
    frequency = _oscillator_field.natural_frequency(params, seed, "kuramoto")
    return _oscillator_field.observe(
        params,
        lambda z, rng: kuramoto.integrate(params, z, frequency, rng),
        units,
        seed,
        "kuramoto",
    )


def test_neighbours_are_one_pitch_away_on_the_stated_side():
    places = {"west": (-1, 0), "east": (1, 0), "south": (0, -1), "north": (0, 1)}
    for sites in (_sites.lattice(4, 6, 0.4), _sites.disc(1.5, 0.4)):
        for row, name in enumerate(_sites.COMPASS):
            there = np.flatnonzero(sites.neighbour[row] >= 0)
            step = sites.position[sites.neighbour[row, there]] - sites.position[there]
            np.testing.assert_allclose(step, np.tile(places[name], (len(there), 1)) * 0.4)
    assert (_sites.lattice(4, 6, 0.4).neighbour[0] < 0).sum() == 4
    circle = _sites.ring(12, 2.0)
    z = np.exp(-3j * circle.angle())  # omega t - 3 angle
    np.testing.assert_array_equal(_sites.ring_winding(z, circle), 3)
    np.testing.assert_array_equal(circle.neighbour[:, 0], [11, 1])


def test_charge_sits_on_the_plaquette_of_the_centre():
    sites = _sites.disc(2.0, 0.4)
    x, y = sites.position.T
    for sign in (-1, 1):
        found = _sites.charges(np.exp(-1j * sign * np.arctan2(y, x)), sites)
        middle = sites.position[_sites.plaquettes(sites)].mean(1)
        assert found[np.hypot(*middle.T) < 1e-9].tolist() == [sign]
        assert np.abs(found).sum() == 1


def test_inflow_is_the_weighted_sum_of_neighbours():
    sites = _sites.lattice(3, 4, 1.0)
    rng = np.random.default_rng(0)
    z = rng.standard_normal((5, 12)) + 1j * rng.standard_normal((5, 12))
    weight = rng.standard_normal(4) + 1j
    dense = np.zeros((12, 12), dtype=complex)
    for w, row in zip(weight, sites.neighbour, strict=True):
        for here, there in enumerate(row):
            if there >= 0:
                dense[here, there] += w
    np.testing.assert_allclose(_sites.inflow(z, sites.neighbour, weight), z @ dense.T)


@pytest.mark.parametrize("winding", [-4, -1, 0, 2, 5])
def test_twisted_state_stays_and_turns_at_its_closed_form_frequency(winding):
    params = kuramoto.Params(
        **CALM, winding=winding, lag=0.15, asymmetry=0.5, frustration=0.2, duration=0.5
    )
    z = run(params)
    assert np.all(_sites.ring_winding(z, params.place()) == winding)
    step = 2 * math.pi * winding / 32
    expected = 8 + 8 / (2 * math.pi) * (
        1.5 * math.sin(step - 0.15 - 0.2) + 0.5 * math.sin(-step + 0.15 - 0.2)
    )
    assert kuramoto.twisted_frequency(params, winding) == pytest.approx(expected)
    found = facts_of(z, params.place(), STEP, lagged=True)
    np.testing.assert_allclose(found["frequency"], expected, rtol=1e-9)
    assert found["winding"].tolist() == [winding] * 5


def test_perturbed_twisted_state_keeps_its_winding_number():
    params = kuramoto.Params(trials=20, both_ways=True, lag=0.2)
    z = run(params)
    planted = _oscillator_field.windings(params, 0, "kuramoto")
    assert sorted(planted.tolist()) == [-2] * 10 + [2] * 10
    np.testing.assert_array_equal(_sites.ring_winding(z[:, -1], params.place()), planted)


@pytest.mark.parametrize("name", MODULES)
def test_steps_are_fine_enough(name):
    params = MODULES[name].Params(trials=8, start="random", noise=0.0, duration=0.4)
    fields = {n: run(params.model_copy(update={"substeps": n})) for n in (1, 2, 4)}
    scale = np.sqrt(np.mean(np.abs(fields[4]) ** 2))
    coarse, fine = (np.abs(fields[one] - fields[2 * one]).max() / scale for one in (1, 2))
    assert fine < 5e-3
    assert 3 < coarse / fine < 5.5  # second order


@pytest.mark.parametrize("lag", [(0.5, -0.3), (-0.4, 0.0)])
def test_coupling_draws_phases_to_the_wave_of_its_lags(lag):
    params = kuramoto.Params(
        topology="lattice",
        start="plane",
        plane_step=(0.0, 0.0),
        lag=lag[0],
        lag_y=lag[1],
        coupling=20.0,
        trials=5,
        duration=3.0,
        noise=0.0,
        rows=6,
        columns=6,
    )
    z = run(params)
    for axis in (0, 1):
        lead = _sites.advance(z[:, -1], params.place(), axis)
        np.testing.assert_allclose(lead, lag[axis], atol=0.02)
    found = facts_of(z, params.place(), STEP, lagged=True)
    direction = np.rad2deg(np.arctan2(lag[1], lag[0]))
    np.testing.assert_allclose((found["direction"] - direction + 180) % 360, 180, atol=3)
    speed = 2 * np.pi * 8 * 0.4 / np.hypot(*lag)
    np.testing.assert_allclose(found["speed"], speed, rtol=0.05)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("frustration", [0.0, 0.4])
def test_spiral_keeps_its_charge(name, frustration):
    params = MODULES[name].Params(
        topology="disc",
        start="spiral",
        winding=1,
        both_ways=True,
        lag=0.0,
        frustration=frustration,
        trials=8,
        duration=0.5,
    )
    charge = _sites.charges(run(params)[:, -1], params.place())
    planted = _oscillator_field.windings(params, 0, name)
    np.testing.assert_array_equal(charge.sum(-1), planted)
    np.testing.assert_array_equal(np.abs(charge).sum(-1), 1)


def test_phase_diffuses_at_the_stated_rate():
    params = kuramoto.Params(
        trials=200, coupling=0.0, noise=0.7, perturbation=0.0, duration=0.5, sites=16, winding=1
    )
    z = run(params)
    frame = np.exp(-2j * np.pi * 8 * 0.5)
    spread = np.angle(z[:, -1] * z[:, 0].conj() * frame)
    assert spread.var() == pytest.approx(0.7**2 * 0.5, rel=0.08)
    assert np.corrcoef(spread[:, 0], spread[:, 1])[0, 1] == pytest.approx(0, abs=0.25)


def test_uncoupled_oscillators_reach_the_root_of_mu():
    params = stuart_landau.Params(
        trials=5, start="random", coupling=0.0, noise=0.0, mu=30.0, duration=1.0
    )
    start = 0.3 * run(params)[:, 0]
    z = stuart_landau.integrate(params, start, np.full(32, 8.0), np.random.default_rng(0))
    np.testing.assert_allclose(np.abs(z[:, -1]), np.sqrt(30), rtol=1e-4)
    found = facts_of(z, params.place(), STEP, lagged=True)
    np.testing.assert_allclose(found["frequency"], 8, rtol=2e-3)


@pytest.mark.parametrize("winding", [-2, 1, 3])
def test_stuart_landau_wave_has_its_closed_form_amplitude(winding):
    params = stuart_landau.Params(**CALM, winding=winding, lag=0.3)
    z = run(params)
    step = 2 * np.pi * winding / 32
    expected = np.sqrt(20 + 2 * 10 * (np.cos(step - 0.3) - np.cos(0.3)))
    assert stuart_landau.wave_amplitude(params, step) == pytest.approx(expected)
    np.testing.assert_allclose(np.abs(z[:, -1]), expected, rtol=1e-4)


@pytest.mark.parametrize("lag", [0.6, -0.6])
def test_the_wave_of_the_lag_outgrows_the_others(lag):
    params = stuart_landau.Params(
        trials=20, start="random", start_amplitude=0.01, noise=0.0, lag=lag, coupling=20.0
    )
    winding = _sites.ring_winding(run(params)[:, -1], params.place())
    assert winding.mean() == pytest.approx(32 * lag / (2 * np.pi), abs=0.6)
    assert np.all(np.sign(winding) == np.sign(lag))


def test_damped_oscillators_have_the_variance_of_the_linear_process():
    params = stuart_landau.Params(
        trials=60, mu=-50.0, coupling=0.0, noise=1.0, start="random", duration=0.6
    )
    late = run(params)[:, 150:]
    assert late.real.var() == pytest.approx(1 / 100, rel=0.06)
    assert late.imag.var() == pytest.approx(1 / 100, rel=0.06)


def test_rates_are_log_linear_in_the_local_field():
    params = kuramoto.Params(trials=12, preferred_phase="random", sites=20, units=30)
    units = population(params, params.place(), 0, "kuramoto")
    observed = seen(params, units)
    phase = _oscillator_field.preferred_phases(params, 0, "kuramoto")
    rate = _oscillator_field.rates(params, units, phase, observed)
    np.testing.assert_allclose(rate.mean((0, 1)), units.rate, rtol=1e-5)
    z = run(params)
    distance = params.place().distance(units.position)
    weight = np.exp(-(distance**2) / (2 * params.readout_width**2))
    weight /= weight.sum(1, keepdims=True)
    local = (z[:, 1:] + z[:, :-1]) / 2 @ weight.T
    left = np.log(rate) - params.gain * (local * np.exp(-1j * phase)).real
    assert np.ptp(left, axis=(0, 1)).max() < 1e-4
    bins = z[:, :-1].reshape(12, 100, 5, 20).mean(2), z[:, 1:].reshape(12, 100, 5, 20).mean(2)
    np.testing.assert_allclose(observed.site, (bins[0] + bins[1]) / 2, atol=1e-6)
    assert units.rate.min() >= 5
    assert units.rate.max() <= 20
    assert set(np.bincount(units.site, minlength=20)) == {1, 2}


def test_spikes_are_poisson_with_the_true_rate():
    params = kuramoto.Params(trials=40, units=20, sites=16, winding=1)
    units = population(params, params.place(), 0, "kuramoto")
    observed = seen(params, units)
    phase = np.zeros(20)
    rate = _oscillator_field.rates(params, units, phase, observed)
    times = draw_spikes(params, rate, 0, "kuramoto")
    edges = params.starts()[:, None] + np.arange(101) * 0.01
    counts = np.stack([np.diff(np.searchsorted(one, edges), axis=1) for one in times], axis=-1)
    assert counts.sum() == sum(map(len, times))  # no spike outside a trial
    expected = rate.reshape(40, 100, 5, 20).mean(2) * 0.01
    z = (counts.sum((0, 1)) - expected.sum((0, 1))) / np.sqrt(expected.sum((0, 1)))
    assert np.abs(z).max() < 4.5
    high = expected > np.median(expected)
    for rows in (high, ~high):
        assert counts[rows].sum() == pytest.approx(
            expected[rows].sum(), abs=4 * np.sqrt(expected[rows].sum())
        )


def test_twin_keeps_power_and_spectrum_and_has_no_lag():
    params = kuramoto.Params(trials=30, frequency_spread=0.5, start="random")
    wave, twin = run(params), run(params.model_copy(update={"null": "zero_lag"}))
    power = [np.mean(np.abs(z) ** 2, axis=1) for z in (wave, twin)]
    np.testing.assert_allclose(*power)
    spectra = [np.abs(np.fft.fft(z[:, :-1], axis=1)) ** 2 for z in (wave, twin)]
    total = [one.mean((0, 2)) / one.mean() for one in spectra]
    assert np.abs(total[0] - total[1])[:20].sum() < 0.25 * total[0][:20].sum()
    cross = [np.einsum("tsi,tsj->tij", z, z.conj()) for z in (wave, twin)]
    assert np.abs(cross[1].imag).max() < 1e-9 * np.abs(cross[1]).max()
    assert np.abs(cross[0].imag).mean() > 0.2 * np.abs(cross[0]).mean()
    assert 0.2 < np.mean(cross[1].real > 0) < 0.95  # some sites in antiphase


def test_lfp_of_the_twin_has_no_imaginary_coherency():
    found = {}
    for null in ("none", "zero_lag"):
        params = kuramoto.Params(trials=60, field=True, units=16, sites=16, winding=1, null=null)
        units = population(params, params.place(), 0, "kuramoto")
        voltage = np.concatenate(list(lfp_blocks(params, seen(params, units).local, 0, "kuramoto")))
        _, cross = csd(voltage[:, 1], voltage[:, 5], 500, nperseg=250)
        spectra = [welch(voltage[:, one], 500, nperseg=250)[1] for one in (1, 5)]
        found[null] = abs((cross / np.sqrt(spectra[0] * spectra[1])).imag[4])
    assert found["none"] > 0.4
    assert found["zero_lag"] < 0.1


def test_lfp_has_the_stated_amplitude_and_noise():
    params = kuramoto.Params(trials=20, field=True, units=16, sites=16, winding=1, exponent=0.0)
    units = population(params, params.place(), 0, "kuramoto")
    local = seen(params, units).local
    voltage = np.concatenate(list(lfp_blocks(params, local, 0, "kuramoto")))
    assert len(voltage) == 500 * (20 * 1.2 + 0.2)
    clean = params.model_copy(update={"snr": np.inf})
    signal = np.concatenate(list(lfp_blocks(clean, local, 0, "kuramoto")))
    rows = (params.starts()[:, None] * 500 + np.arange(500)).round().astype(int)
    inside = signal[rows]
    assert np.sqrt(np.mean(inside**2)) == pytest.approx(40)
    ratio = inside / local[:, :500].real
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)
    signal[rows.ravel()] = 0
    assert np.abs(signal).max() == 0
    noise = voltage[: rows[0, 0]]
    # White noise with 20 uV RMS in 5-40 Hz of 250.
    assert noise.std() == pytest.approx(20 * np.sqrt(250 / 35), rel=0.05)


@pytest.mark.parametrize("topology", ["ring", "line"])
@pytest.mark.parametrize(("direction", "sign"), [("forward", 1), ("backward", -1)])
def test_pulses_travel_at_the_stated_speed(topology, direction, sign):
    params = travelling_pulses.Params(
        topology=topology, direction=direction, trials=10, speed=12.0, width=0.5
    )
    units = population(params, params.place(), 0, "travelling_pulses")
    track = travelling_pulses.track_of(params, units.position)
    pulses = travelling_pulses.draw_pulses(params, 0)
    course = travelling_pulses.activity(params, pulses, track)
    for trial in range(10):
        ahead = sign * (track - pulses.origin[trial])
        ahead = ahead % (48 * 0.4) if topology == "ring" else ahead
        reach = 12.0 * (0.98 - pulses.onset[trial])
        passed = (ahead > 0.3) & (ahead < reach)
        assert passed.sum() > 8
        peak = (np.argmax(course[trial][:, passed], axis=0) + 0.5) * STEP
        slope, _ = np.polyfit(
            track[passed] if topology == "line" else sign * ahead[passed], peak, 1
        )
        assert 1 / slope == pytest.approx(sign * 12.0, rel=0.01)
        # The argmax is half a step off at most.
        np.testing.assert_allclose(
            peak - pulses.onset[trial], ahead[passed] / 12.0, atol=STEP / 2 + 1e-9
        )
    np.testing.assert_allclose(course.max(), 1, atol=1e-3)


def test_pulse_twin_keeps_each_course_and_travels_nowhere():
    params = travelling_pulses.Params(trials=30)
    pulses = travelling_pulses.draw_pulses(params, 0)
    units = population(params, params.place(), 0, "travelling_pulses")
    track = travelling_pulses.track_of(params, units.position)
    course = travelling_pulses.activity(params, pulses, track)
    twin = travelling_pulses.shifted(course, generator(0, "test"))
    np.testing.assert_array_equal(np.sort(course, axis=1), np.sort(twin, axis=1))
    order = np.argsort(track)
    lags = []
    for one in (course, twin):
        active = one.max(1) > 0.9
        step = np.diff(np.argmax(one, axis=1)[:, order], axis=1).astype(float)
        both = active[:, order][:, 1:] & active[:, order][:, :-1]
        lags.append(np.median(np.abs(step[both])) * STEP)
    assert lags[0] == pytest.approx(0.4 / 16, rel=0.3)
    assert lags[1] > 5 * lags[0]


def test_pulse_is_nowhere_before_its_onset_and_off_the_line():
    params = travelling_pulses.Params(topology="line", trials=40, duration=2.0)
    pulses = travelling_pulses.draw_pulses(params, 0)
    time = np.arange(200) * 0.01
    place = travelling_pulses.pulse_position(params, pulses, time)
    assert np.isnan(place[time[None] < pulses.onset[:, None]]).all()
    assert np.nanmax(place) <= 47 * 0.4 + 3 * params.width
    assert np.isnan(place[:, -1]).any()
    moving = np.diff(place, axis=1)
    np.testing.assert_allclose(moving[np.isfinite(moving)], 16 * 0.01)


def lfp(params: linear_oscillators.Params, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(linear_oscillators.lfp_blocks(params, seed)))


def states(params: linear_oscillators.Params, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(linear_oscillators.state_blocks(params, seed)))


def test_states_have_the_spectrum_of_the_model():
    params = linear_oscillators.Params(duration=400.0, rows=3, columns=3)
    z = states(params)
    np.testing.assert_allclose(z.real.var(0), 1, rtol=0.15)
    np.testing.assert_allclose(z.imag.var(0), 1, rtol=0.15)
    for column, one in enumerate(params.oscillators):
        turn = one.damping * np.exp(2j * np.pi * one.frequency / 250)
        step = (z[1:, column] * z[:-1, column].conj()).mean() / np.mean(np.abs(z[:, column]) ** 2)
        assert abs(step) == pytest.approx(one.damping, abs=3e-3)
        assert np.angle(step) * 250 / (2 * np.pi) == pytest.approx(one.frequency, abs=0.15)
        frequency, power = welch(z[:, column], 250, nperseg=500, return_onesided=False)
        answer = 2 * (1 - one.damping**2) / np.abs(1 - turn * np.exp(-2j * np.pi * frequency / 250))
        answer = answer / np.abs(1 - turn * np.exp(-2j * np.pi * frequency / 250)) / 250
        near = np.abs(frequency - one.frequency) < 5
        ratio = power[near].mean() / answer[near].mean()
        assert ratio == pytest.approx(1, abs=0.15)


def test_lfp_is_the_loadings_times_the_states():
    params = linear_oscillators.Params(
        duration=200.0, rows=4, columns=4, slow=(), snr=(2.0, 2.0), corners=True
    )
    voltage, z, loading = lfp(params), states(params), linear_oscillators.loadings(params, 0)
    design = np.column_stack([z.real, z.imag])
    weights, *_ = np.linalg.lstsq(design, voltage, rcond=None)
    found = weights[:4] - 1j * weights[4:]
    assert np.abs(found - loading).max() < 0.05 * np.abs(loading).mean()
    residual = voltage - design @ weights
    expected = np.sqrt((np.abs(loading) ** 2).sum(0)) / 2
    np.testing.assert_allclose(residual.std(0), expected, rtol=0.02)


def test_planar_loadings_have_the_stated_direction_and_speed():
    params = linear_oscillators.Params(corners=True)
    loading = linear_oscillators.loadings(params, 0)
    for row, one in enumerate(params.oscillators[:2]):
        phase = np.unwrap(np.unwrap(np.angle(loading[row]).reshape(10, 10), axis=1), axis=0)
        ky, kx = (-np.diff(phase, axis=axis).mean() / 0.4 for axis in (0, 1))
        assert np.rad2deg(np.arctan2(ky, kx)) == pytest.approx(one.direction)
        assert 2 * np.pi * one.frequency / np.hypot(kx, ky) == pytest.approx(one.speed)
        assert np.sqrt(np.mean(np.abs(loading[row]) ** 2)) == pytest.approx(one.amplitude)
    middle = params.positions() - 1.8
    turned = loading[2] * np.exp(1j * np.arctan2(middle[:, 1], middle[:, 0]))
    np.testing.assert_allclose(turned, 10, atol=1e-9)
    away = np.hypot(*(params.positions() - [1.0, 1.2]).T)
    outward = loading[3] * np.exp(2j * np.pi * 35 / 400 * away)
    np.testing.assert_allclose(outward, 10, atol=1e-9)


def test_standing_and_twin_loadings_are_real():
    kinds = [
        {"frequency": 9, "damping": 0.97, "kind": "standing", "speed": 30},
        {"frequency": 15, "damping": 0.97, "kind": "random"},
    ]
    params = linear_oscillators.Params(oscillators=kinds)
    standing, random = linear_oscillators.loadings(params, 0)
    assert np.abs(standing.imag).max() == 0
    assert standing.real.min() < 0 < standing.real.max()
    assert np.abs(random.imag).max() > 1
    twin = linear_oscillators.loadings(params.model_copy(update={"null": "zero_lag"}), 0)
    assert np.abs(twin.imag).max() == 0
    np.testing.assert_allclose(np.abs(twin), np.abs([standing, random]))


def test_linear_signal_does_not_depend_on_the_block(monkeypatch):
    params = linear_oscillators.Params(duration=3.0, rows=3, columns=3, exponent=1.0, missing=2)
    whole = lfp(params)
    monkeypatch.setattr(linear_oscillators, "BLOCK", 0.7)
    np.testing.assert_allclose(lfp(params), whole, atol=1e-9)
    gaps = linear_oscillators.missing(params, 0)
    missing = np.zeros_like(whole, dtype=bool)
    for first, stop, electrodes in gaps:
        missing[first:stop, electrodes] = True
    np.testing.assert_array_equal(np.isnan(whole), missing)
    assert 125 <= missing[:, 0].sum() <= 250


def test_linear_rates_have_the_stated_mean_and_follow_the_states():
    params = linear_oscillators.Params(duration=200.0, rows=3, columns=3, units=6, gain=0.4)
    electrode, mean, _ = linear_oscillators.draw_units(params, 0)
    rate = np.concatenate(list(linear_oscillators.rate_blocks(params, electrode, mean, 0)))
    np.testing.assert_allclose(rate.mean(0), mean, rtol=0.1)
    z, loading = states(params), linear_oscillators.loadings(params, 0)
    drive = (z @ (loading[:, electrode] * 0.4 / 10)).real
    left = np.log(rate) - drive
    assert np.ptp(left, axis=0).max() < 1e-9


# Each takes the inspector a second or two; the one that holds most runs always.
RICHEST = ("stuart_landau",)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in RICHEST else pytest.mark.slow) for n in FILES],
)
def test_files_are_valid_and_clean(files, name):
    assert_clean(files[name])


@pytest.mark.parametrize("name", ["stuart_landau", "travelling_pulses", "linear_oscillators_twin"])
def test_seed_decides_the_arrays(files, tmp_path, name):
    for seed in (1, 2):
        simulator(name).simulate(tmp_path / f"{seed}.nwb", made(name), seed=seed)
    first, same, other = (
        arrays_of(path) for path in (files[name], tmp_path / "1.nwb", tmp_path / "2.nwb")
    )
    assert first.keys() == same.keys()
    for path, values in first.items():
        np.testing.assert_array_equal(values, same[path], err_msg=path)
    rates = "processing/ground_truth/firing_rates/data"
    assert not np.allclose(first[rates], other[rates])


@pytest.mark.parametrize("name", FILES)
def test_layouts_read_the_files(files, name):
    from driftwave.ingest.nwb import open_nwb, read_recording

    layout = load_layout(FILES[name][0], LAYOUTS)
    params = made(name)
    if layout.trials is not None:
        window = layout.trials.model_copy(update={"window": (0.0, params.duration)})
        layout = layout.model_copy(update={"trials": window})
    with open_nwb(files[name]) as file:
        tree = read_recording(file, layout, session="small").compute()
    truth = tree["truth"].to_dataset()
    assert truth.attrs["null"] == params.null
    if name.startswith("linear"):
        loading = linear_oscillators.loadings(params, 1)
        found = truth["loading_re"].values + 1j * truth["loading_im"].values
        np.testing.assert_allclose(found, loading)
        assert truth["oscillator_frequency"].values.tolist() == [6, 11, 21, 35]
        assert truth["oscillator_kind"].values[0] == ("zero_lag" if "twin" in name else "planar")
    if "rate" in truth:
        assert truth["rate"].shape == tree["spikes/counts"].shape
        expected = float(truth["rate"].values.sum()) * layout.bin_width
        assert tree["spikes/counts"].values.sum() == pytest.approx(
            expected, abs=4.5 * np.sqrt(expected)
        )
        assert tree["units/x"].values.std() > 0.1
    if name.startswith(("kuramoto", "stuart")):
        field = truth["site_re"].values + 1j * truth["site_im"].values
        sites = params.place()
        np.testing.assert_allclose(truth["site_x"].values, sites.position[:, 0])
        np.testing.assert_allclose(truth["site_y"].values, sites.position[:, 1])
        assert field.shape == (20, 60, 16)
        planted = tree["trials/winding"].values
        if params.null == "none":
            np.testing.assert_array_equal(_sites.ring_winding(field[:, -1], sites), planted)
        else:
            assert set(planted) == {0}
        assert (truth.attrs["topology"], truth.attrs["lag"]) == ("ring", 0.4)
        assert truth.attrs["frequency"] == 8.0
    if name == "linear_oscillators":
        z = states(params, 1)[: truth["state"].shape[0] * 250]
        np.testing.assert_allclose(truth["state"].values.reshape(-1, 8), z.view(float), atol=1e-5)


def test_layout_with_a_wrong_table_says_so(files):
    from driftwave.ingest.nwb import open_nwb, read_recording

    layout = load_layout("kuramoto", LAYOUTS)
    window = layout.trials.model_copy(update={"window": (0.0, 0.6)})
    for field, value in {
        "sites": "processing/x",
        "parameters": "processing/ground_truth/sites",
    }.items():
        truth = layout.truth.model_copy(update={field: value})
        wrong = layout.model_copy(update={"truth": truth, "trials": window})
        with open_nwb(files["kuramoto"]) as file, pytest.raises(InputError, match=f"truth.{field}"):
            read_recording(file, wrong, session="small")


@pytest.mark.parametrize(
    ("name", "params", "named"),
    [
        ("kuramoto", {"topology": "disc"}, "twisted"),
        ("kuramoto", {"start": "spiral"}, "spiral"),
        ("kuramoto", {"winding": 16}, "winding"),
        ("kuramoto", {"duration": 1.006}, "bins"),
        ("kuramoto", {"gap": 0.0013}, "gap"),
        ("stuart_landau", {"rate": [20, 5]}, "rate"),
        ("stuart_landau", {"field": True, "jitter": 0}, "jitter"),
        ("kuramoto", {"topology": "disc", "start": "plane", "radius": 0.2}, "radius"),
        ("travelling_pulses", {"width": 9}, "width"),
        ("travelling_pulses", {"onset": [0.5, 1.5]}, "onset"),
        ("linear_oscillators", {"sampling_rate": 60}, "sampling_rate"),
        ("linear_oscillators", {"oscillators": []}, "oscillators"),
        ("linear_oscillators", {"missing": 100}, "missing"),
        ("linear_oscillators", {"bin_width": 0.0211}, "bin_width"),
    ],
)
def test_params_are_checked(name, params, named):
    with pytest.raises(InputError, match=named):
        parse_params(simulator(name), params, name)


def test_trials_table_says_what_the_wave_does(files):
    with pynwb.NWBHDF5IO(files["kuramoto"], "r") as io:
        table = io.read().trials.to_dataframe()
    assert set(table["winding"]) == {-1, 1}
    assert table["winding"].tolist() == table["condition"].tolist()
    assert np.abs(table["frequency"] - 8).max() < 0.5
    np.testing.assert_allclose(table["speed"], table["frequency"] * 2 * np.pi * 2.0)
    assert table["direction"].isna().all()
