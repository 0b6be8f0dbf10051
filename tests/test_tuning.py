"""Response tensors, their significance, and selectivity that no order of axes can change."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from driftwave.errors import InputError
from driftwave.tuning.design import design_of
from driftwave.tuning.maps import normalised_maps
from driftwave.tuning.psth import response_tensor
from driftwave.tuning.selectivity import halves_of, selectivity, selectivity_with_null
from driftwave.tuning.significance import rank_p, significance, windowed_extremes
from driftwave.tuning.spikes import SpikeTrains
from tuning_cases import BIN, tuned_rates, tuned_recording


def test_the_tensor_has_the_true_rates_of_named_conditions():
    rate = tuned_rates(3, stimuli=2)
    found = response_tensor(tuned_recording(rate, repeats=150), bandwidth=0.02)
    assert found["response"].dims == ("unit", "stimulus", "direction", "time")
    assert list(found["stimulus"].values) == ["kind=k0", "kind=k1"]
    np.testing.assert_allclose(found["direction"], np.arange(8) * 45.0)
    error = found["response"].values - rate
    assert np.sqrt((error**2).mean()) < 3
    assert np.corrcoef(found["response"].values.ravel(), rate.ravel())[0, 1] > 0.98


def test_rates_do_not_fall_off_at_the_ends():
    flat = np.full((2, 1, 2, 25), 40.0)
    found = response_tensor(tuned_recording(flat, repeats=300, baseline=1.0), bandwidth=0.05)
    edges = found["response"].isel(time=[0, -1]).mean(("direction", "unit"))
    np.testing.assert_allclose(edges, 40, rtol=0.05)


def test_smoothing_is_a_gaussian_normalised_within_the_trial():
    recording = tuned_recording(np.full((1, 1, 2, 25), 8.0), repeats=1, seed=3)
    found = response_tensor(recording, bandwidth=0.03)["response"].values[0, 0, 0]
    trial = int(np.flatnonzero(recording["stimulus/direction"].values == 0)[0])
    start = float(recording["spikes/trial_start"][trial])
    times = recording["spike_times/time"].values - start
    times = times[(times >= 0) & (times < 0.5)]
    fine = (np.arange(500) + 0.5) * 1e-3
    kernel = np.exp(-0.5 * ((fine[:, None] - fine) / 0.03) ** 2)
    density = np.histogram(times, 500, (0, 0.5))[0]
    expected = (kernel @ density / kernel.sum(axis=1) / 1e-3).reshape(25, 20).mean(axis=1)
    assert len(times) > 1
    np.testing.assert_allclose(found, expected, atol=0.05 * expected.max())


def test_counts_agree_with_those_of_the_recording():
    recording = tuned_recording(tuned_rates(4), repeats=3)
    counts = SpikeTrains(recording).count(recording["spikes/trial_start"].values, 0.5, BIN)
    np.testing.assert_array_equal(counts, recording["spikes/counts"].values)
    part = SpikeTrains(recording).count(
        recording["spikes/trial_start"].values, 0.5, BIN, slice(1, 3)
    )
    np.testing.assert_array_equal(part, counts[..., 1:3])


def test_bandwidths_suit_the_responses():
    """A burst of 20 ms wants a narrow kernel, a constant rate the widest."""
    rate = np.full((2, 1, 2, 25), 20.0)
    rate[0] = 0.5
    rate[0, ..., 10] = 200.0
    found = response_tensor(tuned_recording(rate, repeats=40))
    assert float(found["bandwidth"][0]) <= 0.014
    assert float(found["bandwidth"][1]) >= 0.04


def test_recordings_of_counts_have_tensors_too():
    recording = tuned_recording(tuned_rates(3), repeats=40, spike_times=False)
    found = response_tensor(recording, bandwidth=0.03)["response"].values
    assert np.corrcoef(found.ravel(), tuned_rates(3).ravel())[0, 1] > 0.95
    tested = significance(recording, design_of(recording))
    assert tested["significant"].all()
    assert np.isnan(tested["p"]).all()
    assert "not tested" in tested.attrs["spontaneous"]


def test_models_give_mean_rates_and_activations_are_lifted_above_zero():
    recording = tuned_recording(tuned_rates(3), repeats=2)
    trials, bins = recording["spikes"].sizes["trial"], 25
    values = np.random.default_rng(0).normal(size=(trials, bins, 4))
    trial = recording["spikes/trial"].values
    rates = xr.Dataset(
        {"rate": (("trial", "time", "unit"), values[..., :3] ** 2)}, coords={"trial": trial}
    )
    found = response_tensor(recording, rates)["response"]
    first = recording["stimulus/direction"].values == 45
    np.testing.assert_allclose(found[:, 0, 1].T, (values[first, :, :3] ** 2).mean(0))
    inside = xr.Dataset(
        {
            "h": (("trial", "time", "h_unit"), values),
            "z": (("time", "trial", "z_unit"), values[..., :2].swapaxes(0, 1)),
        },
        coords={"trial": trial},
        attrs={"activations": "h, z"},
    )
    both = response_tensor(recording, inside)
    assert list(both["population"].values) == ["h"] * 4 + ["z"] * 2
    np.testing.assert_allclose(both["response"].min(("stimulus", "direction", "time")), 0)
    np.testing.assert_allclose(both["response"][4:], both["response"][:2])
    assert response_tensor(recording, inside, activation="z").sizes["unit"] == 2
    with pytest.raises(InputError, match="activation"):
        response_tensor(recording, inside, activation="v")
    with pytest.raises(InputError, match="rate"):
        response_tensor(
            recording, inside.rename(h="latent").assign_attrs(activations="x").drop_attrs()
        )


def test_a_stimulus_without_all_directions_is_left_out_by_name():
    keep = np.ones((2, 4), bool)
    keep[1, 2] = False
    recording = tuned_recording(tuned_rates(2, 2, 4), keep=keep)
    found = response_tensor(recording)
    assert list(found["stimulus"].values) == ["kind=k0"]
    assert found.attrs["stimuli_left_out"] == "kind=k1"
    assert np.isfinite(found["response"]).all()
    keep[0, 1] = False
    with pytest.raises(InputError, match="none of 2 stimuli in all 4 directions"):
        response_tensor(tuned_recording(tuned_rates(2, 2, 4), keep=keep))


def test_trials_without_a_direction_are_blank():
    recording = tuned_recording(tuned_rates(2), repeats=4)
    recording["stimulus/direction"][:12] = np.nan
    design = design_of(recording)
    assert design.blank.sum() == 12
    assert not design.used[:12].any()
    tested = significance(recording, design)
    assert tested.attrs["spontaneous"] == "trials without a direction"


def test_designs_without_directions_use_conditions():
    recording = tuned_recording(tuned_rates(2), repeats=2)
    del recording["stimulus"]
    design = design_of(recording)
    assert len(design.stimulus) == 8
    assert list(design.direction) == [0]
    assert not design.even


def test_uneven_directions_cannot_be_rolled():
    recording = tuned_recording(tuned_rates(2), repeats=2)
    assert design_of(recording).even
    angle = recording["stimulus/direction"].values
    recording["stimulus/direction"][:] = np.where(angle == 45, 50, angle)
    assert not design_of(recording).even


def test_many_directions_are_gathered_in_sectors():
    recording = tuned_recording(tuned_rates(2), repeats=8)
    angle = np.random.default_rng(0).uniform(0, 360, recording["spikes"].sizes["trial"])
    recording["stimulus/direction"][:] = angle
    recording["stimulus"] = recording["stimulus"].to_dataset().drop_vars("kind")
    design = design_of(recording)
    assert len(design.direction) == 8
    turned = (angle - design.direction[design.of_direction] + 180) % 360 - 180
    assert np.abs(turned).max() <= 22.5


def test_extremes_stay_within_pieces():
    counts = np.zeros((1, 2, 4, 1), int)
    counts[0, 0, 3], counts[0, 1, 0] = 3, 4
    most, least = windowed_extremes(counts, 2)
    assert (int(most[0, 0]), int(least[0, 0])) == (4, 0)


def test_noise_is_not_significant():
    """False positives keep to their rate: 300 units, two stimuli, nothing evoked."""
    rate = np.full((300, 2, 4, 25), 6.0)
    recording = tuned_recording(rate, repeats=8, baseline=6.0)
    found = significance(recording, design_of(recording), alpha=1, false_discovery_rate=1)
    assert "spontaneous" in found.attrs
    p = found["p"].values.ravel()
    for level in (0.05, 0.01):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / p.size)
    strict = significance(recording, design_of(recording))
    assert int(strict["significant"].sum()) <= 3


def test_increases_and_decreases_are_significant():
    rate = np.full((3, 2, 4, 25), 60.0)
    rate[0, 0, 2, 5:12] = 200.0
    rate[1, 1, :, :] = 5.0
    recording = tuned_recording(rate, repeats=10, baseline=60.0)
    found = significance(recording, design_of(recording))["significant"].values
    np.testing.assert_array_equal(found, [[True, False], [False, True], [False, False]])


def test_tied_values_have_p_one():
    assert rank_p(np.zeros((3, 2)), np.zeros((9, 2)), "greater").tolist() == [1, 1]


IDEAL = np.array([21.0, 6, 1, 6, 21, 6, 1, 6])


@pytest.mark.parametrize(
    "dims",
    [
        ("unit", "direction", "time"),
        ("time", "direction", "unit"),
        ("direction", "time", "unit"),
        ("unit", "time", "direction"),
    ],
)
def test_an_ideal_cell_keeps_its_selectivity_in_any_order_of_dims(dims):
    """Flattened as d + D t and unflattened in the other order, its OSI of .909 would be .044."""
    response = xr.DataArray(
        IDEAL[None, :, None] * np.ones((3, 1, 37)), dims=("unit", "direction", "time"),
        coords={"direction": ("direction", np.arange(8) * 45.0)},
    )  # fmt: skip
    found = selectivity(response.transpose(*dims).mean("time"), 360.0)
    np.testing.assert_allclose(found["osi"], 20 / 22)
    np.testing.assert_allclose(found["dsi"], 0, atol=1e-12)
    one = selectivity(response.transpose(*dims), 360.0)["osi"]
    np.testing.assert_allclose(one, 20 / 22)


def test_vector_indices_have_their_closed_forms():
    angle = np.arange(12) * 30.0
    theta = np.radians(angle - 60)
    rates = np.stack([1 + np.cos(theta), 1 + np.cos(2 * theta), np.ones(12)])
    array = xr.DataArray(rates, dims=("unit", "direction"), coords={"direction": angle})
    found = selectivity(array, 360.0)
    np.testing.assert_allclose(found["dsi_vector"], [0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found["osi_vector"], [0, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(found["preferred_direction"][:2], 60)
    np.testing.assert_allclose(found["dsi"], [1, 0, 0], atol=1e-12)


def test_opposite_directions_not_shown_are_interpolated():
    """Of five directions none is opposite another."""
    angle = np.arange(5) * 72.0
    array = xr.DataArray([9.0, 5, 1, 1, 5], dims="direction", coords={"direction": angle})
    assert float(selectivity(array, 360.0)["dsi"]) == pytest.approx((9 - 1) / (9 + 1))


def test_selectivity_has_a_null_and_holds_out_of_sample():
    tuned, flat = tuned_rates(1), np.full((40, 1, 8, 25), 20.0)
    recording = tuned_recording(np.concatenate([tuned, flat]), repeats=8)
    activity = recording["spikes/counts"].mean("time") / BIN
    found = selectivity_with_null(activity, design_of(recording), shuffles=199, seed=0)
    assert float(found["dsi_p"][0]) == pytest.approx(1 / 200)
    assert float(found["dsi_cv"][0]) > 0.5
    assert (found["dsi_p"][1:] <= 0.05).mean() < 0.15
    # The preferred direction is chosen among noise: only held-out rates are free of that.
    assert float(found["dsi"][1:].mean()) > 0.03
    assert abs(float(found["dsi_cv"][1:].mean())) < 0.03
    once = tuned_recording(tuned, repeats=1)
    one = selectivity_with_null(
        once["spikes/counts"].mean("time"), design_of(once), shuffles=9, seed=0
    )
    assert np.isnan(one["osi_cv"]).all()


def test_halves_are_disjoint_and_even():
    recording = tuned_recording(tuned_rates(1), repeats=5)
    design = design_of(recording)
    first, second = halves_of(design, np.random.default_rng(0))
    assert not (first & second).any()
    assert ((first | second) == design.used).all()
    assert (np.abs(design.counts(first) - design.counts(second)) == 1).all()


def test_maps_have_unit_norm_and_nothing_is_lost():
    response = xr.DataArray(tuned_rates(4, 2), dims=("unit", "stimulus", "direction", "time"))
    response[2] = 7.0
    response[3, 0, 0, 0] = np.nan
    significant = xr.DataArray([[True, False]] * 4, dims=("unit", "stimulus"))
    found = normalised_maps(response, significant)
    np.testing.assert_allclose((found["map"][0] ** 2).sum(("direction", "time")), 1)
    assert not found["factorised"][0, 1].any()
    assert found["included"].values.tolist() == [True, True, False, False]
    assert found["constant"].values.tolist() == [False, False, True, True]
    np.testing.assert_allclose((found["map"] * found["norm"])[:2], response[:2], rtol=1e-12)
    assert float(found["relative_peak"][0].max()) == 1
