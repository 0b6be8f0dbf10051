"""Slow bands: windows that are seconds at 5 Hz and above follow the cycle below."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.errors import InputError
from driftwave.phase.frames import open_field
from driftwave.phase.passes import segment
from driftwave.phase.timescale import stretch_of
from driftwave.waves.phase_gradient import Params, analyse
from waves_cases import grid, noise, phase_of, recording_of

# A geometric mean of 5 Hz, where seconds and cycles agree.
BAND = (2.55, 25 / 2.55)
RATE = 100.0


def slowed(times: float, seconds: float = 54.0):
    """Three waves of 6 Hz in noise, on a clock that runs ``times`` slower."""
    rng = np.random.default_rng(0)
    position = grid(6, 6)
    time = np.arange(round(seconds * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=1.0, shared=0.9, power=1.0)
    for start, kind in ((6, "planar"), (24, "radial"), (42, "rotating")):
        phase = phase_of(kind, position, frequency=6, speed=50, direction=40, centre=(1, 1))
        inside = (time >= start) & (time < start + 6)
        field[:, inside] += 2 * np.cos(2 * np.pi * 6 * time[inside] + phase[:, None])
    return recording_of(100 * field.T, position, RATE / times)


def test_windows_do_not_change_at_5_hz_and_above():
    assert stretch_of((5, 40)) == stretch_of((8, 16)) == stretch_of((4, 8)) == 1
    assert stretch_of((0.05, 0.2)) == pytest.approx(50)
    assert Params().smoothing == (0.5, 1.0, 4.0)
    assert (Params().longest, Params().chunk) == (30.0, 60.0)
    assert Params(band=(0.05, 0.2)).smoothing == pytest.approx((25, 50, 200))
    assert Params(band=(0.05, 0.2), smoothing=(7.0,)).smoothing == (7.0,)


@pytest.mark.slow
def test_a_slower_clock_finds_the_same_waves():
    found = []
    for times in (1, 100):
        params = Params(
            band=(BAND[0] / times, BAND[1] / times), surrogates=19, bootstrap=20, delay_band=None
        )
        found.append(analyse(slowed(times), None, params, seed=0))
    fast, slow = found
    assert fast["class"].values.tolist() == ["planar", "radial_out", "rotating_ccw"]
    assert slow["class"].values.tolist() == fast["class"].values.tolist()
    for name in ("start", "stop"):
        np.testing.assert_allclose(slow[name] / 100, fast[name], atol=1e-6)
    for name in ("p", "q", "p_familywise", "p_recording", "p_recording_any", "direction", "rho"):
        np.testing.assert_allclose(slow[name], fast[name], rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(100 * slow["speed"], fast["speed"], rtol=1e-4)
    np.testing.assert_allclose(100 * slow["frequency"], fast["frequency"], rtol=1e-4)


@pytest.mark.slow
def test_waves_of_calcium_are_found_at_10_hz():
    """0.05-0.5 Hz; the default band of delays, 1-13 Hz, is beyond what 10 Hz can hold."""
    tree = slowed(10, 30)
    params = Params(band=(0.255, 0.98), surrogates=19, bootstrap=20)
    assert tree["field"].attrs["sampling_rate"] == 10
    reader = open_field(tree, tree["field"].to_dataset(), band=params.band, frame_rate=None)
    assert 5 <= segment(reader) * np.sqrt(np.prod(params.band)) <= 10
    found = analyse(tree, None, params, seed=0)
    assert np.isnan(found["delay_plane_direction"])
    assert found.attrs["delay_plane"].startswith("none: 10 Hz is too low")
    assert found["class"].values[0] == "planar"
    assert float(found["p_familywise"][0]) == 0.05  # the least of 19 surrogates
    analyse(tree, None, params.model_copy(update={"band": (0.05, 0.5)}), seed=0)
    with pytest.raises(InputError, match="delay_band"):
        analyse(tree, None, Params(band=(0.05, 0.5), delay_band=(1, 13), surrogates=19), seed=0)
