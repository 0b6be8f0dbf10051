"""Oscillators seen through spikes, and through spikes and field: dense algebra, planted truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import block_diag
from scipy.optimize import minimize

from conftest import make_recording
from driftwave.errors import DriftwaveError, InputError
from driftwave.inference import oscillator_counts_training
from driftwave.inference.linear_dynamics import dynamics_moments
from driftwave.inference.oscillator_counts import CountsFit, CountsSettings, fit_counts
from driftwave.inference.oscillator_counts_em import (
    Observed,
    best_damping,
    em_iterations,
    regress_field,
)
from driftwave.inference.oscillator_counts_model import CountsModel
from driftwave.inference.oscillator_counts_start import shared_spectrum, starting_frequencies
from driftwave.inference.oscillator_counts_training import Run
from driftwave.inference.oscillator_model import Bounds
from driftwave.scores.bits_per_spike import bits_per_spike
from oscillator_cases import Planted, planted

SETTINGS = CountsSettings(oscillators=2, slow_factors=0)
QUICK = replace(SETTINGS, iterations=10)


def small_model(units: int = 4, electrodes: int = 3, seed: int = 0) -> CountsModel:
    """One oscillator and a slow factor."""
    rng = np.random.default_rng(seed)
    return CountsModel(
        angle=np.array([0.6]),
        damping=np.array([0.9]),
        slow_damping=np.array([0.8]),
        weights=rng.normal(0, 0.6, (units, 3)),
        offset=rng.normal(0.3, 0.3, units),
        field_weights=rng.normal(0, 1, (electrodes, 3)),
        field_noise=rng.uniform(0.3, 1.0, electrodes),
    )


def dense_precision(model: CountsModel, bins: int) -> np.ndarray:
    """Of a whole trial, from the recursion written out."""
    dynamics, states = model.dynamics(), model.states
    shift = np.eye(bins * states)
    for t in range(1, bins):
        rows, before = slice(t * states, (t + 1) * states), slice((t - 1) * states, t * states)
        shift[rows, before] = -dynamics.transition
    noise = block_diag(dynamics.start_covariance, *[dynamics.noise] * (bins - 1))
    return shift.T @ np.linalg.inv(noise) @ shift


def small_data(model: CountsModel, trials: int = 3, seen: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Counts and a field with missing entries."""
    rng = np.random.default_rng(7)
    counts = rng.poisson(1.5, (trials, seen, len(model.offset))).astype(float)
    field = rng.normal(0, 1.2, (trials, seen, len(model.field_noise)))
    field[0, 2:4] = np.nan
    field[1, :, 1] = np.nan
    return counts, field


@pytest.mark.parametrize("with_field", [False, True])
def test_the_mode_is_that_of_a_general_maximiser(with_field: bool) -> None:
    model = small_model()
    counts, field = small_data(model)
    bins, seen = 8, counts.shape[1]
    found = model.infer(
        counts,
        np.ones(4, bool),
        field=field if with_field else None,
        bins=bins,
        tolerance=1e-12,
        refinements=0,
    )
    precision = dense_precision(model, bins)
    for r in range(len(counts)):

        def cost(x: np.ndarray, r: int = r) -> tuple[float, np.ndarray]:
            path = x.reshape(bins, 3)
            drive = path[:seen] @ model.weights.T + model.offset
            value = (np.exp(drive) - counts[r] * drive).sum() + 0.5 * x @ precision @ x
            gradient = (precision @ x).reshape(bins, 3)
            gradient[:seen] += (np.exp(drive) - counts[r]) @ model.weights
            if with_field:
                error = np.nan_to_num(path[:seen] @ model.field_weights.T - field[r])
                value += 0.5 * (error**2 / model.field_noise).sum()
                gradient[:seen] += (error / model.field_noise) @ model.field_weights
            return float(value), gradient.ravel()

        best = minimize(cost, np.zeros(bins * 3), jac=True, method="BFGS", options={"gtol": 1e-9})
        np.testing.assert_allclose(found.mean[r].ravel(), best.x, atol=1e-6)


def test_refinements_reach_the_best_gaussian_and_its_bound() -> None:
    """Stationarity of the evidence lower bound, and its value from dense Gaussian moments."""
    model = small_model()
    counts, field = small_data(model)
    bins = counts.shape[1]
    found = model.infer(counts, np.ones(4, bool), field=field, tolerance=1e-14, refinements=40)
    precision, products = dense_precision(model, bins), model.weights
    for r in range(len(counts)):
        mean = found.mean[r]
        half = 0.5 * np.einsum("ns,tsr,nr->tn", products, found.covariance[r], products)
        drive = mean @ products.T + model.offset
        rate = np.exp(drive + half)
        known = np.isfinite(field[r])
        error = np.nan_to_num(mean @ model.field_weights.T - field[r])
        gradient = (precision @ mean.ravel()).reshape(bins, 3) + (rate - counts[r]) @ products
        gradient += (error / model.field_noise) @ model.field_weights
        np.testing.assert_allclose(gradient, 0, atol=1e-6)
        inside = [
            (products.T * rate[t]) @ products
            + (model.field_weights.T * (known[t] / model.field_noise)) @ model.field_weights
            for t in range(bins)
        ]
        whole = precision + block_diag(*inside)
        covariance = np.linalg.inv(whole)
        for t in range(bins):
            block = covariance[3 * t : 3 * t + 3, 3 * t : 3 * t + 3]
            np.testing.assert_allclose(found.covariance[r, t], block, atol=1e-6)
        spikes = (counts[r] * drive - rate).sum()
        wide = np.einsum("es,tsr,er->te", model.field_weights, found.covariance[r],
                         model.field_weights)  # fmt: skip
        density = (error**2 + wide) / model.field_noise + np.log(2 * np.pi * model.field_noise)
        flat = mean.ravel()
        divergence = 0.5 * (
            np.trace(precision @ covariance)
            + flat @ precision @ flat
            - len(flat)
            - np.linalg.slogdet(precision)[1]
            + np.linalg.slogdet(whole)[1]
        )
        bound = spikes - 0.5 * (density * known).sum() - divergence
        assert found.log_evidence[r] == pytest.approx(bound, rel=1e-8)


def test_the_field_alone_gives_the_exact_smoother_and_likelihood() -> None:
    """No units: the joint Gaussian of latents and known samples, conditioned densely."""
    model = small_model(units=0)
    _, field = small_data(model)
    bins = field.shape[1] + 2
    none = np.zeros((len(field), field.shape[1], 0))
    found = model.infer(none, np.zeros(0, bool), field=field, bins=bins)
    prior = np.linalg.inv(dense_precision(model, bins))
    for r in range(len(field)):
        known = np.isfinite(field[r]).ravel()
        design = np.kron(np.eye(bins)[: field.shape[1]], model.field_weights)[known]
        noise = np.diag(np.tile(model.field_noise, field.shape[1])[known])
        data = field[r].ravel()[known]
        marginal = design @ prior @ design.T + noise
        gain = prior @ design.T @ np.linalg.inv(marginal)
        np.testing.assert_allclose(found.mean[r].ravel(), gain @ data, atol=1e-8)
        covariance = (prior - gain @ design @ prior).reshape(bins, 3, bins, 3)
        for t in range(bins):
            np.testing.assert_allclose(found.covariance[r, t], covariance[t, :, t], atol=1e-8)
        nats = -0.5 * (
            data @ np.linalg.solve(marginal, data)
            + np.linalg.slogdet(marginal)[1]
            + len(data) * np.log(2 * np.pi)
        )
        assert found.log_evidence[r] == pytest.approx(nats, rel=1e-9)


def test_the_best_damping_is_that_of_a_scan() -> None:
    sums, trials, bins = (55.0, 870.0, 865.0, 800.0), 30, 480

    def cost(a: np.ndarray, v: np.ndarray | float) -> np.ndarray:
        innovation = (sums[1] - 2 * a * sums[3] + a * a * sums[2]) / (1 - a * a)
        energy = (sums[0] + innovation) / v
        return energy + 2 * bins * np.log(v) + 2 * (bins - trials) * np.log(1 - a * a)

    a, v = np.meshgrid(np.linspace(0.5, 0.999, 2000), np.linspace(0.5, 1.5, 500))
    best, variance = best_damping(sums, trials, bins, 2, (0.5, 0.999))
    lowest = np.unravel_index(cost(a, v).argmin(), a.shape)
    assert best == pytest.approx(a[lowest], abs=5e-4)
    assert variance == pytest.approx(v[lowest], abs=5e-3)
    assert cost(np.array(best), variance) <= cost(a, v).min()
    assert best_damping(sums, trials, bins, 2, (0.97, 0.999))[0] == 0.97


def test_a_field_with_gaps_is_regressed_on_what_is_known() -> None:
    rng = np.random.default_rng(0)
    model = small_model(electrodes=2)
    posterior = model.infer(rng.poisson(1.0, (5, 12, 4)), np.ones(4, bool))
    field = rng.normal(0, 1, (5, 12, 2))
    field[:, ::3, 0] = np.nan
    loading, noise = regress_field(field, posterior)
    for e in range(2):
        known = np.isfinite(field[..., e])
        mean, covariance = posterior.mean[known], posterior.covariance[known].sum(0)
        y = field[..., e][known]
        expected = np.linalg.solve(mean.T @ mean + covariance, mean.T @ y)
        left = ((y - mean @ expected) ** 2).sum() + expected @ covariance @ expected
        np.testing.assert_allclose(loading[e], expected, rtol=1e-6)
        assert noise[e] == pytest.approx(left / known.sum(), rel=1e-6)


def test_em_raises_the_bound() -> None:
    case = planted(trials=30, units=20, held_out=0)
    counts = case.recording["spikes/counts"].values.astype(np.float32)
    rng = np.random.default_rng(1)
    model = CountsModel(
        angle=np.array([0.3, 0.8]),
        damping=np.array([0.95, 0.95]),
        slow_damping=np.zeros(0),
        weights=rng.normal(0, 0.2, (20, 4)),
        offset=np.log(counts.mean((0, 1))),
        field_weights=np.zeros((0, 4)),
        field_noise=np.zeros(0),
    )
    bounds, evidence = Bounds((0.19, 2.8), 0.7), []
    for _ in range(8):
        model, value = em_iterations(Observed(counts), model, 3, bounds, penalty=1.0)
        evidence.append(value)
    # The first posteriors are not yet the best Gaussians, and loadings are shrunk a little.
    assert (np.diff(evidence) > -1e-5).all()
    assert evidence[-1] > evidence[0] + 1e-3


def test_em_on_a_field_without_units_never_lowers_the_exact_likelihood() -> None:
    rng = np.random.default_rng(2)
    true = small_model(units=0, electrodes=5)
    dynamics, x = true.dynamics(), rng.normal(size=(60, 40, 3))
    for t in range(1, 40):
        x[:, t] = x[:, t - 1] @ dynamics.transition.T + x[:, t] * np.sqrt(np.diag(dynamics.noise))
    field = x @ true.field_weights.T + rng.normal(size=(60, 40, 5)) * np.sqrt(true.field_noise)
    observed = Observed(np.zeros((60, 40, 0)), field)
    model = replace(true, angle=np.array([0.4]), damping=np.array([0.7]), slow_damping=np.zeros(1))
    model, bounds, evidence = replace(model, field_noise=np.ones(5)), Bounds((0.1, 1.5), 0.1), []
    for _ in range(12):
        model, value = em_iterations(observed, model, 5, bounds, penalty=1.0)
        evidence.append(value)
    assert (np.diff(evidence) > -1e-12).all()
    assert model.angle[0] == pytest.approx(0.6, abs=0.02)
    assert model.damping[0] == pytest.approx(0.9, abs=0.03)


@pytest.fixture(scope="module")
def case() -> Planted:
    """Two oscillators seen by 40 units and, weakly, by 6 electrodes."""
    return planted(field_noise=2.5, forward=10, held_out=16, trials=80)


@pytest.fixture(scope="module")
def of_spikes(case: Planted) -> CountsFit:
    return fit_counts(case.recording, SETTINGS, seed=0)


@pytest.fixture(scope="module")
def of_both(case: Planted) -> CountsFit:
    return fit_counts(case.recording, replace(SETTINGS, observations="both"), seed=0)


def held_out_bits(case: Planted, rate: np.ndarray) -> float:
    """Of the test trials' seen bins; rate (trial, bin, unit) in Hz."""
    recording = case.recording
    hidden = recording["units/held_out"].values
    test = recording["trials/split"].values == "test"
    counts = recording["spikes/counts"].values[test][:, :90, hidden]
    return bits_per_spike(rate[test][:, :90, hidden] * case.bin_width, counts)


def phase_errors(found: np.ndarray, true: np.ndarray, least: float) -> np.ndarray:
    """Degrees, of channels with amplitudes above ``least``, after the best common rotation."""
    errors = []
    for c, t in zip(found, true, strict=True):
        turned = c * np.exp(1j * np.angle(np.vdot(c, t)))
        errors.append(np.rad2deg(np.angle(turned / t))[np.abs(t) > least])
    return np.concatenate(errors)


@pytest.mark.slow
@pytest.mark.parametrize("observations", ["spikes", "both"])
def test_planted_oscillators_are_recovered(
    case: Planted, observations: str, request: pytest.FixtureRequest
) -> None:
    fit = request.getfixturevalue(f"of_{observations}")
    out = fit.infer(case.recording)
    np.testing.assert_allclose(out["frequency"], case.frequency, rtol=0.02)
    np.testing.assert_allclose(out["damping"], case.damping, atol=0.02)
    np.testing.assert_allclose(out["bandwidth"], -np.log(out["damping"]) / (np.pi * case.bin_width))
    assert out["bandwidth"].attrs["units"] == "Hz"
    polar = out["unit_loading_amplitude"] * np.exp(1j * out["unit_loading_phase"])
    errors = phase_errors(polar.values, case.unit_loading, 0.4)
    assert np.sqrt((errors**2).mean()) < 8
    ratio = np.abs(polar).sum("unit").values / np.abs(case.unit_loading).sum(1)
    np.testing.assert_allclose(ratio, 1, atol=0.15)
    if observations == "both":
        maps = (out["loading_amplitude"] * np.exp(1j * out["loading_phase"])).values
        assert np.sqrt((phase_errors(maps, case.field_loading, 1.0) ** 2).mean()) < 5
        np.testing.assert_allclose(np.abs(maps), 20, rtol=0.2)
        np.testing.assert_allclose(np.abs(maps).mean(1), 20, rtol=0.1)
        np.testing.assert_allclose(out["x"], 0.4 * np.arange(6))
        assert out["loading_amplitude"].attrs["units"] == "microvolt"


def test_the_gauge_fixes_order_and_phases(of_spikes: CountsFit) -> None:
    c = of_spikes.model.complex_loadings(of_spikes.model.weights)
    for row in c:
        reference = (np.abs(row) * row).sum()
        if np.abs(reference) < 0.1 * (np.abs(row) ** 2).sum():
            reference = row[np.abs(row).argmax()]
        assert np.angle(reference) == pytest.approx(0, abs=1e-9)
    assert (np.diff(of_spikes.frequency) > 0).all()


def test_spikes_and_field_together_predict_better_than_either(
    case: Planted, of_spikes: CountsFit, of_both: CountsFit
) -> None:
    recording = case.recording
    spikes = held_out_bits(case, of_spikes.infer(recording)["rate"].values)
    both = held_out_bits(case, of_both.infer(recording)["rate"].values)
    none = np.zeros((recording["spikes"].sizes["trial"], 90, 0))
    posterior = of_both.model.infer(
        none,
        np.zeros(0, int),
        field=of_both._visible_field(recording),
        bins=100,
    )
    log_rate = of_both.model.loadings.log_rate(posterior.mean, posterior.covariance)
    field = held_out_bits(case, np.exp(log_rate) / case.bin_width)
    ceiling = held_out_bits(case, recording["truth/rate"].values)
    assert min(spikes, field) > 0.4 * ceiling
    assert both > max(spikes, field) + 0.01
    assert both < ceiling


def altered(recording: xr.DataTree, counts: np.ndarray | None, clock: np.ndarray) -> xr.DataTree:
    """Other counts where ``counts`` (trial, bin, unit) says so, another field on ``clock``."""
    other = recording.copy(deep=True)
    values = other["spikes/counts"].values.copy()
    if counts is not None:
        values[counts] = 3
    other["spikes/counts"][:] = values
    other["field/lfp"][clock] = 77.0
    return other


def clock_of(case: Planted, trials: np.ndarray, bins: slice) -> np.ndarray:
    """Mask of field samples in some bins of some trials."""
    start = case.recording["spikes/trial_start"].values[trials]
    time, inside = case.recording["field/time"].values, 0
    for begin in start:
        low, high = (begin + edge * case.bin_width for edge in (bins.start, bins.stop))
        inside = inside | ((time >= low) & (time < high))
    return np.asarray(inside, bool)


@pytest.mark.slow
def test_test_trials_never_matter_and_hidden_ones_are_not_seen(
    case: Planted, of_both: CountsFit
) -> None:
    recording = case.recording
    test = recording["trials/split"].values == "test"
    mask = np.zeros(recording["spikes/counts"].shape, bool)
    mask[test] = True
    other = altered(recording, mask, clock_of(case, np.flatnonzero(test), slice(0, 100)))
    settings = replace(QUICK, iterations=2, observations="both")
    first, second = (fit_counts(each, settings, seed=0) for each in (recording, other))
    for name, value in first.model.arrays().items():
        np.testing.assert_array_equal(second.model.arrays()[name], value)
    mask[:] = False
    mask[:, 90:] = True
    mask[..., recording["units/held_out"].values] = True
    every = np.arange(len(test))
    other = altered(recording, mask, clock_of(case, every, slice(90, 100)))
    right, found = (of_both.infer(each)["rate"].values for each in (recording, other))
    np.testing.assert_array_equal(found, right)
    # The visible field does matter.
    other = altered(recording, None, clock_of(case, every, slice(40, 50)))
    assert np.abs(of_both.infer(other)["rate"].values - right).max() > 0.1


@pytest.mark.slow
def test_missing_field_entries_are_left_out() -> None:
    case = planted(trials=40, field_noise=0.7)
    whole = fit_counts(case.recording, replace(QUICK, observations="both"), seed=0)
    holes = case.recording.copy(deep=True)
    clock = np.random.default_rng(0).permutation(holes["field/lfp"].shape[0])[:30]
    values = holes["field/lfp"].values.copy()
    values[clock, 2] = np.nan
    holes["field/lfp"][:] = values
    holes["field/good"][5] = False
    fit = fit_counts(holes, replace(QUICK, observations="both"), seed=0)
    np.testing.assert_allclose(fit.frequency, whole.frequency, rtol=0.01)
    out = fit.infer(holes)
    assert np.isnan(out["loading_amplitude"].values[:, 5]).all()
    assert np.isfinite(out["loading_amplitude"].values[:, :5]).all()
    with pytest.raises(InputError, match="the 5 good of 6 electrodes"):
        fit.infer(case.recording)


def test_a_saved_fit_infers_the_same(case: Planted, of_both: CountsFit, tmp_path: Path) -> None:
    of_both.save(tmp_path)
    again = CountsFit.load(tmp_path)
    xr.testing.assert_identical(again.infer(case.recording), of_both.infer(case.recording))


@pytest.mark.slow
def test_the_number_of_peaks_and_the_number_selected() -> None:
    case = planted(trials=80, bins=80)
    by_peaks = fit_counts(case.recording, CountsSettings(iterations=5, slow_factors=0), seed=0)
    assert len(by_peaks.frequency) == by_peaks.peaks == 2
    settings = CountsSettings(
        oscillators="select", max_oscillators=3, slow_factors=0, iterations=10
    )
    fit = fit_counts(case.recording, settings, seed=0)
    assert len(fit.frequency) == 2
    np.testing.assert_array_equal(fit.candidates, [1, 2, 3])
    assert fit.costs[1] < fit.costs[[0, 2]].min()
    np.testing.assert_allclose(fit.frequency, case.frequency, rtol=0.03)


def test_peaks_slower_than_the_background_can_be_fitted_are_found() -> None:
    """Bins of 100 ms, oscillations of 0.4 and 1.1 Hz."""
    case = planted(frequency=(0.4, 1.1), damping=(0.97, 0.97), width=0.1, trials=40, bins=150)
    counts = case.recording["spikes/counts"].values
    shared = shared_spectrum(Observed(counts), 0.1, (0.15, 3.0))
    found, peaks = starting_frequencies(shared, (0.15, 3.0), 1.0, 2)
    assert peaks == 2
    np.testing.assert_allclose(np.sort(found), case.frequency, rtol=0.1)


def test_an_interrupted_fit_ends_as_if_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = planted(trials=30, bins=60, units=15, held_out=3).recording
    settings = CountsSettings(
        oscillators="select", max_oscillators=2, iterations=15, observations="both"
    )
    right, looks, fatal = oscillator_counts_training.em_iterations, 0, 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal looks
        looks += 1
        if looks == fatal:
            raise KeyboardInterrupt
        return right(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(oscillator_counts_training, "em_iterations", counted)
    undisturbed = fit_counts(recording, settings, seed=0)
    needed, looks, fatal = looks, 0, 5
    with pytest.raises(KeyboardInterrupt):
        fit_counts(recording, settings, seed=0, checkpoint=tmp_path)
    resumed = fit_counts(recording, settings, seed=0, checkpoint=tmp_path)
    assert looks == needed + 1  # only the one that was interrupted was done again
    for name, value in undisturbed.model.arrays().items():
        np.testing.assert_array_equal(resumed.model.arrays()[name], value)
    np.testing.assert_array_equal(resumed.costs, undisturbed.costs)
    path = tmp_path / "oscillators_1.npz"
    assert Run.resume(path, "another fit") is None
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="unreadable"):
        fit_counts(recording, settings, seed=0, checkpoint=tmp_path)


def test_what_cannot_be_is_refused() -> None:
    recording = make_recording()

    def refused(match: str, **settings: object) -> None:
        chosen = CountsSettings(**({"oscillators": 2, "band": (1.0, 20.0)} | settings))
        with pytest.raises(InputError, match=match):
            fit_counts(recording, chosen, seed=0)

    refused("9 held-in units with spikes", oscillators=10)
    refused("Nyquist frequency is 25 Hz", band=(3.0, 45.0))
    refused("a group 'field'", observations="both")
    refused("which carry 0.5 Hz|at least 3", band=(1.0, 1.5))
    refused("no spectral peak", oscillators=None, peak_prominence=60.0)
    case = planted(trials=10, bins=60, units=10, held_out=2)
    with pytest.raises(InputError, match="upper edge of oscillators's band"):
        fit_counts(
            case.recording,
            CountsSettings(band=(3.0, 48.0), oscillators=1, observations="both"),
            seed=0,
        )


def test_unstable_and_diverged_parameters_are_said(tmp_path: Path) -> None:
    model = small_model()
    with pytest.raises(DriftwaveError, match="not stable"):
        replace(model, damping=np.array([1.01])).dynamics()
    run = Run(model, model, [], [])
    with pytest.raises(DriftwaveError, match="diverged at look 1"):
        run.judge(model, 0.5, np.nan)
    recording = planted(trials=10, bins=60, units=10, held_out=2).recording
    fit = fit_counts(recording, replace(QUICK, iterations=1), seed=0)
    broken = replace(fit, model=replace(fit.model, damping=np.array([0.9, 1.2])))
    broken.save(tmp_path)
    with pytest.raises(DriftwaveError, match="not stable"):
        CountsFit.load(tmp_path)


def test_moments_of_several_trials_give_their_own_dynamics() -> None:
    """Known states of many short trials: the damping is the one they were made with."""
    case = planted(frequency=(6.0,), damping=(0.95,), trials=400, bins=12, units=5, held_out=1)
    rng = np.random.default_rng(3)
    turn = 0.95 * np.exp(2j * np.pi * 0.06)
    z = np.empty((2000, 12), complex)
    z[:, 0] = rng.normal(size=(2000, 2)) @ [1, 1j]
    for t in range(1, 12):
        z[:, t] = turn * z[:, t - 1] + np.sqrt(1 - 0.95**2) * (rng.normal(size=(2000, 2)) @ [1, 1j])
    x = np.stack([z.real, z.imag], -1)
    zero = np.zeros((2000, 12, 2, 2))
    moments = dynamics_moments(x, zero, zero[:, 1:])
    first = float(np.trace(moments.first_square))
    across = moments.across
    product = np.cos(2 * np.pi * 0.06) * np.trace(across) + np.sin(2 * np.pi * 0.06) * (
        across[1, 0] - across[0, 1]
    )
    sums = (first, float(np.trace(moments.after)), float(np.trace(moments.before)), float(product))
    damping, variance = best_damping(sums, 2000, 24_000, 2, (0.5, 0.9999))
    assert damping == pytest.approx(case.damping[0], abs=0.002)
    assert variance == pytest.approx(1, abs=0.03)
