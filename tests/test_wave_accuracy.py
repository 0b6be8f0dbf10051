"""The experiment on the accuracy of wave events: planted fields, result, figure."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.experiments import wave_accuracy
from driftwave.experiments._wave_fields import BAND, RATE, array, in_band, planted, wave
from driftwave.wave_events.patterns import CLASSES


@pytest.fixture(scope="module")
def result():
    params = wave_accuracy.Params(recordings=1, each=2, snr=(0.5, 4.0))
    return wave_accuracy.run(params, seed=3)


def test_planted_waves_have_the_snr_asked_for():
    position = array()
    rng = np.random.default_rng(0)
    for name in CLASSES[:-1]:
        pattern, _ = wave(name, position, rng)
        assert (np.abs(pattern) ** 2).mean() == pytest.approx(1)
    assert not wave("none", position, rng)[0].any()
    recording, events = planted(100.0, 1, np.random.default_rng(1))
    lfp = recording["field"]["lfp"].values
    assert sorted(event.name for event in events) == sorted(CLASSES)
    for event in events:
        if event.name == "none":
            continue
        middle = slice(event.start + 25, event.stop - 25)
        assert lfp[middle].std() / 50 == pytest.approx(100, rel=0.15)
    quiet, _ = planted(0.0, 1, np.random.default_rng(1))
    assert in_band(quiet["field"]["lfp"].values) / 50 == pytest.approx(1, rel=1e-3)
    assert BAND[1] < RATE / 2


@pytest.mark.slow
def test_strong_waves_are_named_and_measured(result):
    strong = result.sel(snr_level=4.0)
    assert np.diag(strong["confusion"].values).mean() >= 0.9
    at = result["snr"].values == 4.0
    assert np.nanmedian(result["direction_error"].values[at]) < 1
    assert np.nanmedian(result["centre_error"].values[at]) < 0.1
    assert np.nanmedian(result["speed_ratio"].values[at]) == pytest.approx(1, abs=0.03)
    assert np.nanmin(result["charge_right"].values[at]) == 1


@pytest.mark.slow
def test_shares_add_up_and_weak_waves_are_worse(result):
    np.testing.assert_allclose(result["confusion"].sum("found").values, 1)
    assert (result["events"].values == 2).all()
    error = result["heldout_phase_error"].values
    strong = result["snr"].values == 4.0
    assert np.nanmedian(error[strong]) < 0.5 * np.nanmedian(error[~strong])
    assert all("units" in result[name].attrs for name in wave_accuracy.MEASURES)


@pytest.mark.slow
def test_same_seed_same_result_and_a_figure(result):
    params = wave_accuracy.Params(**wave_accuracy.QUICK)
    assert params.each == 2
    short = wave_accuracy.Params(recordings=1, each=1, snr=(4.0,))
    first, again = (wave_accuracy.run(short, seed=5) for _ in range(2))
    assert first.identical(again)
    figure = wave_accuracy.draw(result)
    assert len(figure.axes) == 2 + 4
