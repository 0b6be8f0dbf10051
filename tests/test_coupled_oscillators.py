"""Coupled oscillators: planted waves, resuming, fields, and what is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch
import xarray as xr

from conftest import FIELD_WAVE, make_field_recording, make_recording
from driftwave.compute import blas_threads
from driftwave.errors import InputError
from driftwave.inference.coupled_evidence import lagged_mode
from driftwave.inference.coupled_network import SiteInputs
from driftwave.inference.coupled_reading import (
    KINDS,
    SLOW_FUTURE,
    Demodulator,
    SiteReading,
    spatial_basis,
    wiener,
)
from driftwave.inference.coupled_results import (
    complex_field,
    decoded_frequency,
    split_lag,
    winding_number,
)
from driftwave.inference.coupled_start import coherent_power, start_frequencies
from driftwave.inference.field_prediction import split_samples
from driftwave.inference.lattice_geometry import Topology, build_lattice
from driftwave.inference.sequential_task import SequentialTask
from driftwave.models import coupled_oscillators as module
from network_cases import assert_same_fit

SMALL: dict[str, Any] = {"sites": 8, "hidden": 8, "steps": 32, "samples": 2}


def place_units(recording: xr.DataTree, position: np.ndarray) -> xr.DataTree:
    """The recording with positions (unit, 2), mm."""
    units = recording["units"].to_dataset().assign(x=("unit", position[:, 0]))
    recording["units"] = xr.DataTree(units.assign(y=("unit", position[:, 1])))
    return recording


def on_circle(count: int) -> np.ndarray:
    turn = 2 * np.pi * (np.arange(count) * 0.382 % 1)
    return 1.5 * np.column_stack([np.cos(turn), np.sin(turn)])


def ring_recording(winding: int, *, trials: int = 60, seed: int = 0) -> xr.DataTree:
    """Poisson units on a circle that a wave with that winding number runs round at 5 Hz.

    Every trial has its own phase. The true wave is exp(i (omega t - winding angle)).
    """
    rng = np.random.default_rng(seed)
    recording = make_recording(trials=trials, bins=50, units=30, held_out=6, forward=10, seed=seed)
    position = on_circle(30)
    angle = np.arctan2(position[:, 1], position[:, 0])
    time = recording["spikes/time"].values[None, :, None]
    phase = rng.uniform(0, 2 * np.pi, (trials, 1, 1))
    rate = 12 * np.exp(1.2 * np.cos(2 * np.pi * 5 * time - winding * angle + phase))
    recording["spikes/counts"][:] = rng.poisson(rate * 0.02)
    return place_units(recording, position)


def fit(recording: xr.DataTree, checkpoint: Path | None = None, **given: Any) -> Any:
    params = module.Params(**(SMALL | given))
    options = {"seed": 1, "device": "cpu", "progress": None, "checkpoint": checkpoint}
    with blas_threads(1):
        return module.fit(recording, params, **options)


@cache
def of_ring() -> tuple[xr.DataTree, Any]:
    recording = ring_recording(1)
    return recording, fit(recording)


@cache
def of_field() -> tuple[xr.DataTree, Any]:
    recording = make_field_recording(seconds=12.0)
    given = {"observations": "field", "rate": 60.0, "window": 0.5, "sites": 9}
    return recording, fit(recording, **given)


@pytest.mark.slow
@pytest.mark.parametrize("winding", [1, -2])
def test_a_planted_winding_number_and_frequency_are_found(winding: int) -> None:
    recording = ring_recording(winding)
    result = fit(recording, steps=160, sites=16, hidden=16, samples=8).infer(recording)
    assert result.attrs["topology"] == "ring"
    seen = result["winding"].isel(time=slice(0, 40), band=0)
    assert (seen == winding).all()
    assert float(result["frequency"][0]) == pytest.approx(5.0, rel=0.05)


@pytest.mark.slow
def test_lags_that_hidden_spikes_confirm_are_told_from_those_they_do_not() -> None:
    waves = ring_recording(1)
    moved = waves.copy(deep=True)
    shift = np.random.default_rng(1).integers(0, 50, (60, 1, 30))
    index = (np.arange(50)[None, :, None] + shift) % 50
    moved["spikes/counts"][:] = np.take_along_axis(waves["spikes/counts"].values, index, 1)
    given = {"steps": 160, "sites": 16, "samples": 8}
    real, still, noise = (
        fit(recording, **given).infer(recording) for recording in (waves, ring_recording(0), moved)
    )

    def told(result: xr.Dataset, name: str) -> bool:
        return bool((result[name] > 2 * result[f"{name}_sd"]).all())

    assert told(real, "wave_gain")
    assert real["wave_gain"] > 0.1
    assert not told(still, "wave_gain")
    assert not told(noise, "wave_gain")
    assert told(real, "prediction_gain")
    assert told(still, "prediction_gain")
    assert not told(noise, "prediction_gain")


@pytest.mark.slow
def test_nothing_winds_where_all_units_oscillate_together() -> None:
    recording = ring_recording(0)
    result = fit(recording, steps=160, sites=16, hidden=16, samples=8).infer(recording)
    assert (result["winding"].isel(time=slice(0, 40)) == 0).all()


def test_a_frequency_is_found_where_the_population_sum_cancels() -> None:
    counts = ring_recording(1)["spikes/counts"].values.astype(float)
    assert start_frequencies(counts, 0.02, 1)[0] == pytest.approx(5.0, rel=0.02)
    total = counts.sum(-1, keepdims=True)
    _, own = coherent_power(np.concatenate([total, total[::-1]], -1), 0.02)
    assert own.max() < 0.2 * coherent_power(counts, 0.02)[1].max()


def test_two_bands_start_at_two_frequencies() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(200) * 0.01
    phase = rng.uniform(0, 2 * np.pi, (20, 2, 1, 6))
    wave = sum(np.cos(2 * np.pi * f * time[None, :, None] + phase[:, k])
               for k, f in enumerate((4.0, 11.0)))  # fmt: skip
    phase_free = wave + 0.3 * rng.standard_normal((20, 200, 6))
    found = start_frequencies(phase_free, 0.01, 2)
    np.testing.assert_allclose(found, [4.0, 11.0], rtol=0.02)


def test_demodulation_of_a_rotation_keeps_its_phase() -> None:
    """Of cos(w t + p), the slower filter gives about half of e^{i (w t + p)} times its gain."""
    bins, turn = 400, 0.3
    time = torch.arange(bins).float()
    demodulator = Demodulator(torch.tensor([turn]), bins)
    signal = torch.cos(turn * time + 0.7)[None, :, None]
    found = demodulator(signal)[0, 200, 0, ..., 0].view(2, 2, 2)
    for side in range(2):
        z = complex(*found[1, side].tolist())
        angle = np.angle(z * np.exp(-1j * (turn * 200 + 0.7)))
        assert abs(angle) < 0.1
        assert abs(z) > 1


def test_a_wiener_reading_is_the_conditional_mean() -> None:
    """Against the conditional mean of the joint Gaussian of field and channels."""
    rng = np.random.default_rng(0)
    loading = rng.standard_normal((7, 4)) + 1j * rng.standard_normal((7, 4))
    half = rng.standard_normal((4, 4))
    prior = half @ half.T
    cross = prior @ loading.conj().T
    joint = loading @ prior @ loading.conj().T + np.eye(7)
    np.testing.assert_allclose(wiener(loading, prior, prior), cross @ np.linalg.inv(joint))


@pytest.mark.parametrize("topology", ["ring", "lattice"])
def test_a_fresh_reading_finds_a_slow_field(topology: Topology) -> None:
    """Channels without noise give back a field that varies little between neighbours."""
    points = on_circle(60) if topology == "ring" else np.random.default_rng(0).random((60, 2))
    lattice = build_lattice(points, topology, sites=12, pitch=None)
    turn, bins = 0.3, 160
    kernel = np.exp(-0.5 * (lattice.distance(points) / lattice.pitch) ** 2)
    loading = kernel / kernel.sum(1, keepdims=True)
    basis, start = spatial_basis(lattice, 3 * loading[None].astype(complex), [turn], 1.0)
    assert basis.shape[:2] == (1, KINDS)
    assert start[0, SLOW_FUTURE].abs().sum() == 1
    field = np.exp(1j * (0.4 * (lattice.position - lattice.centre)[:, 0] + 0.5))
    time = np.arange(bins)
    seen = (3 * (loading @ field)[None] * np.exp(1j * turn * time)[:, None]).real
    found = Demodulator(torch.tensor([turn]), bins)(torch.from_numpy(seen)[None].float())
    read = SiteReading(basis, learned=False, start=start)(found)[0, 0].detach().numpy()
    z = complex_field(read[None], 1)[0, 0]
    assert np.abs(np.vdot(z, field)) > 0.98 * np.linalg.norm(z) * np.linalg.norm(field)
    assert np.vdot(z, field).real / np.vdot(field, field).real == pytest.approx(1, abs=0.15)


def test_a_reading_is_the_same_at_every_site_of_a_ring() -> None:
    """Moving what is seen by one site moves what is read by one site."""
    lattice = build_lattice(on_circle(9), "ring", sites=8, pitch=None)
    loading = np.eye(8, dtype=complex)[None]
    basis, start = spatial_basis(lattice, loading, [0.3], 1.0)
    reading = SiteReading(basis, learned=False, start=torch.randn(start.shape) + 1j)
    found = torch.randn(2, 3, 1, KINDS, 2, 8)
    one = reading(found).view(2, 3, 8, 2)
    other = reading(found.roll(1, -1)).view(2, 3, 8, 2)
    torch.testing.assert_close(other, one.roll(1, 2), atol=1e-5, rtol=1e-4)


def test_lags_are_split_into_directed_and_common() -> None:
    kappa = np.exp(-1j * np.array([[0.6 + 0.2, -0.6 + 0.2, 0.1, -0.3]])) * [2, 1, 3, 3]
    directed, common = split_lag(kappa)
    np.testing.assert_allclose(directed, [[0.6, 0.2]])
    np.testing.assert_allclose(common, [[0.2, -0.1]])


def test_the_decoded_frequency_is_that_of_the_strongest() -> None:
    time = np.arange(50) * 0.01
    field = np.exp(2j * np.pi * np.array([5.0, -3.0]) * time[:, None])[None, :, None]
    assert decoded_frequency(field * [1, 0], 0.01)[0] == pytest.approx(5.0)
    assert 4.9 < decoded_frequency(field * [1, 0.05], 0.01)[0] < 5.0


def test_modes_with_and_without_lags() -> None:
    rng = np.random.default_rng(0)
    course = rng.standard_normal((3, 20)) + 1j * rng.standard_normal((3, 20))
    still = course[..., None] * rng.standard_normal((3, 1, 6))
    moving = course[..., None] * np.exp(1j * np.arange(6) * np.pi / 3)
    for field, same in ((still, True), (moving, False)):
        lagged, flat = (x.numpy() for x in lagged_mode(torch.from_numpy(field)))
        np.testing.assert_allclose(lagged, field, atol=1e-9)
        assert np.allclose(flat, field) == same
    # A wave over a full turn is two standing ones of the same power in quadrature.
    assert np.square(np.abs(flat)).sum() == pytest.approx(np.square(np.abs(moving)).sum() / 2)


def test_the_noise_of_each_site_is_its_own_and_inputs_are_shared() -> None:
    given = SiteInputs(2, 3, 1, innovations=True, noise=0.5)
    assert given.total == 1 + 12
    u = torch.zeros(1, 1, 13)
    u[..., 4] = 1.0  # site 1 of band 0, imaginary part
    drive = given(u)[0, 0].detach()
    assert drive[3] == pytest.approx(0.5)
    assert drive.count_nonzero() == 1
    u[..., 0] = 1.0
    assert given(u)[0, 0].count_nonzero() == 12


def test_what_is_inferred_is_labelled() -> None:
    recording, fitted = of_ring()
    result = fitted.infer(recording)
    assert result["decoded_re"].dims == ("trial", "time", "band", "site")
    assert result.sizes["site"] == 8
    assert result["frequency"].attrs["units"] == "Hz"
    assert result["kappa_re"].dims == ("band", "direction")
    assert list(result["direction"].values) == ["left", "right"]
    np.testing.assert_allclose(
        result["lag"], -np.angle(result["kappa_re"] + 1j * result["kappa_im"]), atol=1e-12
    )
    radius = np.hypot(result["site_x"], result["site_y"])
    np.testing.assert_allclose(radius, 1.5, rtol=1e-6)
    field = complex_field(result["latent"].values, 1)
    np.testing.assert_allclose(field.real, result["decoded_re"], atol=1e-6)
    np.testing.assert_array_equal(winding_number(field), result["winding"])
    assert list(result["axis"].values) == ["x"]
    for name, unit in (("prediction_gain", "bits/spike"), ("decoded_frequency", "Hz")):
        assert np.isfinite(result[name]).all()
        assert result[name].attrs["units"] == unit


def test_a_killed_fit_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, undisturbed = of_ring()
    validate, calls = SequentialTask.validate, []

    def interrupted(task: SequentialTask) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(task)

    monkeypatch.setattr(module, "SAVE_EVERY", 1)
    with monkeypatch.context() as patch:
        patch.setattr(SequentialTask, "validate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(recording, tmp_path)
    assert_same_fit(undisturbed, fit(recording, tmp_path))


@pytest.mark.parametrize(
    "given",
    [
        {"variant": "kuramoto"},
        {"variant": "second_order"},
        {"coupling": "none"},
        {"coupling": "real", "adjacency": "shuffled"},
        {"innovations": False, "inputs": 2},
        {"innovations": False},
        {"topology": "graph", "preferred_phase": "free", "inputs": 1},
        {"topology": "lattice", "bands": 2, "readout": "dense"},
    ],
    ids=str,
)
def test_every_part_can_be_changed(given: dict[str, Any], tmp_path: Path) -> None:
    recording, _ = of_ring()
    fitted = fit(recording, **given, steps=2, frequency=(3.0, 6.0)[: given.get("bands", 1)])
    result = fitted.infer(recording)
    assert np.isfinite(result["rate"]).all()
    kappa = result["kappa_re"].values + 1j * result["kappa_im"].values
    if given.get("coupling") == "none":
        assert (kappa == 0).all()
    elif given.get("coupling") == "real":
        assert (kappa.imag == 0).all()
    if given.get("variant") == "kuramoto":
        state = fitted.network.dynamics.start_from(torch.randn(4, fitted.network.dynamics.width))
        np.testing.assert_allclose(np.abs(complex_field(state.numpy(), 1)), 1.0, rtol=1e-4)
    fitted.save(tmp_path)
    again = module.Fit.load(tmp_path).infer(recording)
    for name in ("rate", "prediction_gain", "wave_gain", "wave_gain_sd"):
        np.testing.assert_array_equal(again[name], result[name])
    own_phases = "free" in given.values() or "dense" in given.values()
    assert np.isnan(result["wave_gain"]).all() == own_phases


def test_missing_positions_are_refused_for_a_spatial_readout_only() -> None:
    with pytest.raises(InputError, match=r"no positions.*readout: dense"):
        fit(make_recording())
    assert fit(make_recording(), readout="dense", steps=2).params.unit_position == ()
    with pytest.raises(InputError, match="no positions"):
        fit(make_recording(), readout="dense", topology="graph")
    lost = on_circle(12)
    lost[3] = np.nan
    with pytest.raises(InputError, match="1 of 12 not finite"):
        fit(place_units(make_recording(), lost))


def test_a_ring_through_a_line_is_refused() -> None:
    line = np.column_stack([np.arange(12.0), np.arange(12.0)])
    with pytest.raises(InputError, match=r"one line.*topology: lattice"):
        fit(place_units(make_recording(), line), topology="ring")


def test_too_few_places_are_refused() -> None:
    two = np.repeat([[0.0, 0.0], [1.0, 0.0]], 6, axis=0)
    with pytest.raises(InputError, match=r"2 different positions.*at least 3"):
        fit(place_units(make_recording(), two))


def test_a_frequency_above_nyquist_is_refused() -> None:
    with pytest.raises(InputError, match=r"30 Hz.*below 22.5 Hz"):
        fit(make_recording(), readout="dense", frequency=(30.0,))


def test_parameters_that_cannot_be_are_refused() -> None:
    for wrong in ({"bands": 2, "frequency": [5.0]}, {"frequency": [-1.0]}, {"sites": 2}):
        with pytest.raises(pydantic.ValidationError):
            module.Params(**wrong)


def test_a_field_is_filled_and_foretold() -> None:
    recording, fitted = of_field()
    result = fitted.infer(recording)
    assert result["decoded_re"].dims == ("trial", "time", "band", "site")
    assert {"field_filled", "field_forecast", "field_recorded"} <= set(result.data_vars)
    assert np.isfinite(result["field_filled"]).all()
    rng = np.random.default_rng(0)
    data = 50 * rng.standard_normal((70, 16))
    data[:, 3] = np.nan
    assert np.isfinite(fitted.fill(data)).all()
    steps = (1, 4)
    first = fitted.forecast(data, steps)
    assert first.shape == (2, 70, 16)
    assert np.isnan(first[1, :4]).all()
    assert np.isfinite(first[1, 4:]).all()
    later = data.copy()
    later[40:] = 0.0
    second = fitted.forecast(later, steps)
    for row, step in enumerate(steps):
        # What is foretold for sample 40 + step - 1 was said at sample 39.
        np.testing.assert_allclose(first[row, step : 40 + step], second[row, step : 40 + step])
        assert np.abs(first[row, 40 + step :] - second[row, 40 + step :]).max() > 1e-3


def test_a_fit_to_a_field_is_blind_to_its_test_stretch() -> None:
    recording, fitted = of_field()
    other = recording.copy(deep=True)
    test = round(split_samples(720)[1] / 60 * 250) + 40
    other["field/lfp"].values[test:] *= -3
    given = {"observations": "field", "rate": 60.0, "window": 0.5, "sites": 9}
    assert_same_fit(fitted, fit(other, **given))


@pytest.mark.slow
def test_a_fitted_field_beats_its_mean_on_hidden_electrodes() -> None:
    recording = make_field_recording(seconds=30.0, noise=0.3)
    given = {"observations": "field", "rate": 60.0, "window": 0.5, "sites": 9, "steps": 300}
    result = fit(recording, **given).infer(recording)
    truth, filled = result["field_recorded"].values, result["field_filled"].values
    error = np.square(truth - filled).sum() / np.square(truth - truth.mean(0)).sum()
    assert error < 0.5
    assert float(result["frequency"][0]) == pytest.approx(FIELD_WAVE["frequency"], rel=0.05)


def test_constant_and_short_fields_are_refused() -> None:
    recording = make_field_recording(seconds=4.0)
    with pytest.raises(InputError, match="windows of at least"):
        fit(recording, observations="field", window=3.0)
    flat = recording.copy(deep=True)
    flat["field/lfp"].values[:, 2] = 7.0
    with pytest.raises(InputError, match="constant"):
        fit(flat, observations="field", window=0.3)
    nowhere = recording.copy(deep=True)
    nowhere["field/lfp"].values[:, 2] = np.nan
    with pytest.raises(InputError, match="missing throughout"):
        fit(nowhere, observations="field", window=0.3)


def test_a_stretch_of_a_field_may_be_missing() -> None:
    recording = make_field_recording(seconds=12.0)
    recording["field/lfp"].values[500:700, 2] = np.nan
    given = {"observations": "field", "rate": 60.0, "window": 0.5, "sites": 9, "steps": 2}
    result = fit(recording, **given).infer(recording)
    assert np.isfinite(result["decoded_re"]).all()


def test_spikes_and_field_share_one_state() -> None:
    recording = place_units(make_recording(trials=20, bins=30), on_circle(12))
    field = make_field_recording(seconds=30.0)["field"].to_dataset()
    recording["field"] = xr.DataTree(field.assign_coords(time=field["time"] - 3.0))
    fitted = fit(recording, observations="both", topology="lattice", steps=4)
    result = fitted.infer(recording)
    assert result["rate"].shape == recording["spikes/counts"].shape
    assert result["gain"].shape == (1, 12 + 16)
    other = recording.copy(deep=True)
    other["field/lfp"].values[: len(field["time"]) // 2] *= -2
    assert not np.allclose(fitted.infer(other)["rate"], result["rate"])
