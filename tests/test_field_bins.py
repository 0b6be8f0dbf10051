"""The field in the spikes' bins against closed forms: sinusoids, gaps, trials kept apart."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.inference.field_bins import FieldBins, field_in_bins

WIDTH = 0.02


def with_field(
    signal: np.ndarray | None = None,
    *,
    rate: float = 500.0,
    start: float = -0.5,
    frequency: float = 7.0,
    forward: int = 0,
    **shape: object,
) -> xr.DataTree:
    """Spikes of ``make_recording`` and a field of two electrodes, a sine and a cosine."""
    recording = make_recording(**({"trials": 20, "bins": 50, "forward": forward} | shape))
    stop = float(recording["spikes/trial_start"].values[-1]) + 2.0
    time = start + np.arange(int((stop - start) * rate)) / rate
    if signal is None:
        angle = 2 * np.pi * frequency * time
        signal = np.stack([30 * np.sin(angle) + 5, 10 * np.cos(angle)], -1)
    electrode = np.arange(signal.shape[1])
    recording["field"] = xr.DataTree(
        xr.Dataset(
            {"lfp": (("time", "electrode"), signal[: len(time)].astype(np.float32))},
            coords={
                "time": ("time", time),
                "electrode": electrode,
                "good": ("electrode", np.ones(len(electrode), bool)),
            },
            attrs={"sampling_rate": rate},
        )
    )
    return recording


def microvolt(found: FieldBins) -> np.ndarray:
    return found.values * found.scale + found.offset


@pytest.mark.parametrize("rate", [500.0, 1000.0, 333.0, 60.0])
def test_a_sine_is_sampled_at_bin_centres(rate: float) -> None:
    recording = with_field(rate=rate)
    found = field_in_bins(recording, "test")
    begin = recording["spikes/trial_start"].values
    centre = begin[:, None] + (np.arange(50) + 0.5) * WIDTH
    expected = 30 * np.sin(2 * np.pi * 7.0 * centre) + 5
    # Reflection is wrong near the ends of a trial; elsewhere the low-pass lets 7 Hz through.
    middle = slice(10, 40)
    assert np.abs(microvolt(found)[:, middle, 0] - expected[:, middle]).max() < 0.3
    train = recording["trials/split"].values == "train"
    np.testing.assert_allclose(found.values[train].mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(found.values[train].std((0, 1)), 1, atol=1e-4)


def test_the_time_of_an_aligned_trial_is_counted_from_its_first_bin() -> None:
    """``trial_start`` is the first bin's start, whatever ``time`` says of the alignment event."""
    recording = with_field()
    right = field_in_bins(recording, "test").values
    recording["spikes"] = (
        recording["spikes"].to_dataset().assign_coords(time=recording["spikes/time"] - 0.3)
    )
    np.testing.assert_array_equal(field_in_bins(recording, "test").values, right)


def test_what_bins_cannot_carry_is_removed_by_the_gain_stated() -> None:
    for frequency in (15.0, 22.5, 31.0):
        recording = with_field(frequency=frequency, bins=100)
        found = field_in_bins(recording, "test")
        middle = microvolt(found)[:, 15:85, 0]
        power = 2 * ((middle - middle.mean()) ** 2).mean()
        gain = float(found.gain(np.array([frequency]))[0])
        assert np.sqrt(power) / 30 == pytest.approx(abs(gain), abs=0.02)
    assert float(found.gain(np.array([22.5]))[0]) == pytest.approx(0.5, abs=0.01)
    assert abs(float(found.gain(np.array([31.0]))[0])) < 0.01
    assert float(found.gain(np.array([15.0]))[0]) == pytest.approx(1, abs=0.01)


def test_no_bin_knows_another_trial_nor_a_seen_bin_a_forward_one() -> None:
    noise = np.random.default_rng(0).normal(0, 20, (40_000, 2))
    recording = with_field(noise, forward=10, contiguous=True)
    before = field_in_bins(recording, "test")
    begin = recording["spikes/trial_start"].values
    clock = recording["field/time"].values
    train = recording["trials/split"].values == "train"
    inside = np.zeros(len(clock), bool)
    for start in begin[train]:
        inside |= (clock >= start - 1e-9) & (clock < start + 50 * WIDTH - 1e-9)
    altered = recording.copy(deep=True)
    altered["field/lfp"][~inside] = 1e4
    after = field_in_bins(altered, "test")
    np.testing.assert_array_equal(after.values[train], before.values[train])
    np.testing.assert_array_equal(after.scale, before.scale)
    # Forward bins of one test trial:
    test = int(np.flatnonzero(~train)[0])
    altered = recording.copy(deep=True)
    hidden = (clock >= begin[test] + 40 * WIDTH - 1e-9) & (clock < begin[test] + 50 * WIDTH)
    altered["field/lfp"][hidden] = 1e4
    after = field_in_bins(altered, "test")
    np.testing.assert_array_equal(after.visible, before.visible)
    assert not np.allclose(after.values[test], before.values[test])


def test_gaps_bad_electrodes_and_uncovered_trials_are_nan() -> None:
    recording = with_field(start=3.2)
    recording["field/good"][1] = False
    clock = recording["field/time"].values
    recording["field/lfp"][(clock > 10.7) & (clock < 10.8), 0] = np.nan
    found = field_in_bins(recording, "test")
    begin = recording["spikes/trial_start"].values
    assert np.isnan(found.values[..., 1]).all()
    assert np.isnan(found.scale[1])
    assert np.isnan(found.values[begin + 1.0 < 3.2]).all()
    whole = begin > 3.2
    gap = int(np.flatnonzero(begin < 10.75)[-1])
    centre = begin[gap] + (np.arange(50) + 0.5) * WIDTH
    missing = np.isnan(found.values[gap, :, 0])
    assert missing[(centre > 10.7) & (centre < 10.8)].all()
    assert not missing[np.abs(centre - 10.75) > 0.05 + 10.5 * WIDTH].any()
    others = whole & (np.arange(20) != gap)
    assert np.isfinite(found.values[others][..., 0]).all()


def test_the_standardisation_of_a_fit_is_kept() -> None:
    recording = with_field()
    found = field_in_bins(recording, "test")
    other = field_in_bins(recording, "test", standard=(found.offset + 3.0, 2 * found.scale))
    expected = (microvolt(found) - other.offset) / other.scale
    np.testing.assert_allclose(other.values, expected, atol=1e-5)


def test_what_cannot_be_is_refused() -> None:
    recording = with_field()
    with pytest.raises(InputError, match="upper edge of test's band"):
        field_in_bins(recording, "test", highest=23.0)
    field_in_bins(recording, "test", highest=22.5)
    with pytest.raises(InputError, match="field"):
        field_in_bins(make_recording(), "test")
    later = with_field(start=0.0)
    later["field"] = later["field"].to_dataset().assign_coords(time=later["field/time"] + 1000.0)
    with pytest.raises(InputError, match="no training trial"):
        field_in_bins(later, "test")
    flat = with_field()
    flat["field/lfp"][:, 1] = 4.0
    with pytest.raises(InputError, match="electrode 1 constant"):
        field_in_bins(flat, "test")
