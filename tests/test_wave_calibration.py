"""The calibration of waves' p values: fields as told, runs that go on, counts and figure."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.experiments import wave_calibration as calibration
from driftwave.experiments._calibration_fields import (
    BAND,
    CONDITIONS,
    LEVEL,
    RATE,
    array,
    field,
    in_band,
)
from driftwave.experiments._chance import binomial_interval
from driftwave.nulls.kinds import NULLS
from driftwave.waves.phase_gradient import Params as Settings

FAST = {"duration": 8.0, "surrogates": 19, "null_sets": 0}


def lfp(label: str, seed: int = 0, duration: float = 20.0) -> np.ndarray:
    """Samples (electrode, time) in units of the noise within the band."""
    tree = field(CONDITIONS[label], duration, np.random.default_rng(seed))
    return tree["field/lfp"].values.T / LEVEL


def cross(samples: np.ndarray) -> np.ndarray:
    """Cross-spectrum (electrode, electrode) within the band."""
    spectrum = np.fft.rfft(samples, axis=1)
    frequency = np.fft.rfftfreq(samples.shape[1], 1 / RATE)
    band = spectrum[:, (frequency >= BAND[0]) & (frequency <= BAND[1])]
    return band @ band.conj().T


def lagged(label: str) -> float:
    """Size of the imaginary part of the cross-spectrum by that of the real part."""
    total = sum(cross(lfp(label, seed)) for seed in range(5))
    return float(np.linalg.norm(total.imag) / np.linalg.norm(total.real))


@pytest.mark.parametrize("label", [name for name in CONDITIONS if "SNR" not in name])
def test_noise_has_no_lags(label):
    """Independent noise has sqrt(96 / (2 * 5 * 161)) = .24 by chance, shared noise less."""
    assert lagged(label) < 0.27


def test_waves_have_lags():
    one = cross(lfp("steady, SNR 2"))
    assert np.linalg.norm(one.imag) > 0.3 * np.linalg.norm(one.real)


def test_waves_have_the_ratio_they_are_named_for():
    wave = lfp("steady, SNR 2") - lfp("steady, SNR 1")
    assert in_band(wave) == pytest.approx(1, rel=0.05)
    bursts = lfp("bursts, SNR 2") - lfp("bursts, SNR 1")
    inside = np.arange(bursts.shape[1]) / RATE % 4 < 1
    assert bursts[:, inside].std() == pytest.approx(1, rel=0.02)
    assert np.abs(bursts[:, ~inside]).max() < 1e-5
    turning = lfp("turning bursts, SNR 1") - lfp("bursts, SNR 1")
    assert turning[:, : round(3.9 * RATE)].std() < turning.std()


def test_a_steady_wave_travels_at_its_speed():
    wave = lfp("steady, SNR 2") - lfp("steady, SNR 1")
    matrix = cross(wave)
    steps = np.angle(matrix[:, 0] / matrix[0, 0])
    design = np.column_stack([np.ones(96), array()])
    k, *_ = np.linalg.lstsq(design, steps, rcond=None)
    assert np.hypot(*k[1:]) == pytest.approx(2 * np.pi * 12 / 200, rel=0.02)


def test_a_common_reference_leaves_no_mean():
    assert np.abs(lfp("common reference").mean(axis=0)).max() < 1e-5


def test_tests_are_made_as_the_waves_stage_makes_them():
    settings = Settings()
    assert settings.smoothing == calibration.SMOOTHING
    assert settings.threshold == calibration.QUANTILE
    assert settings.chunk == calibration.CHUNK
    assert (settings.shortest, settings.longest) == (calibration.SHORTEST, calibration.LONGEST)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    table = tmp_path_factory.mktemp("calibration") / "table.tsv"
    conditions = ("2 mm, 90 % shared", "steady, SNR 2")
    params = calibration.Params(
        noise_sets=2, wave_sets=1, conditions=conditions, resume=str(table), **FAST
    )
    return calibration.run(params, seed=0), params, table


def test_shares_are_counted_from_p(result):
    found, _, _ = result
    assert found["sets"].values.tolist() == [2, 1]
    hits = (found["p"].values <= 0.05).sum(axis=1)
    np.testing.assert_allclose(found["rejected"].values, hits / [[2], [1]])
    low, high = binomial_interval(hits, [[2], [1]])
    np.testing.assert_allclose(found["rejected_low"].values, low)
    np.testing.assert_allclose(found["rejected_high"].values, high)
    assert float(found["rejected"].sel(condition="steady, SNR 2", test="recording")) == 1
    assert np.isnan(found["p"].values[1, 1]).all()


def test_an_interrupted_run_goes_on(result, monkeypatch):
    found, params, table = result
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 4
    # Killed while it wrote its last line.
    table.write_text("".join(lines[:-1]) + lines[-1][:25], encoding="utf-8")
    asked = []
    real = calibration.tested

    def tested(label, number, *rest):
        asked.append((label, number))
        return real(label, number, *rest)

    monkeypatch.setattr(calibration, "tested", tested)
    again = calibration.run(params, seed=0)
    assert len(asked) == 1
    np.testing.assert_allclose(again["p"].values, found["p"].values, rtol=1e-5)
    assert sorted(table.read_text(encoding="utf-8").splitlines()) == sorted(
        line.rstrip("\n") for line in lines
    )
    calibration.run(params, seed=0)
    assert len(asked) == 1


def test_another_seed_is_another_data_set(result):
    found, params, _ = result
    fewer = params.model_copy(update={"noise_sets": 1, "conditions": ("2 mm, 90 % shared",)})
    other = calibration.run(fewer, seed=1)
    assert not np.array_equal(other["p"].values[0, 0], found["p"].values[0, 0])


def test_unknown_conditions_are_named():
    params = calibration.Params(conditions=("pink",), **FAST)
    with pytest.raises(ValueError, match="unknown conditions"):
        calibration.run(params, seed=0)


def test_the_figure_shows_every_share():
    """Drawn from planted p values: 1 of 20 noise sets rejected, 19 of 20 waves found."""
    rows = {}
    for label, hits in (("white", 1), ("2 mm, 90 % shared", 1), ("steady, SNR 1", 19)):
        values = [dict.fromkeys(calibration.COLUMNS[5:], 0.5) for _ in range(20)]
        for one in values[:hits]:
            one |= dict.fromkeys(one, 0.025)
        rows[label] = values
    found = calibration._counted(rows).merge(calibration._compared(rows))
    assert found["null_rejected"].dims == ("compared", "null")
    assert found["null"].values.tolist() == list(NULLS)
    figure = calibration.draw(found)
    noise, waves, nulls = figure.axes
    assert next(t.get_text() for t in noise.get_yticklabels()) == "white  (20)"
    shown = {float(x) for line in noise.lines for x in np.atleast_1d(line.get_xdata())}
    assert 0.05 in shown
    assert {float(x) for line in waves.lines for x in np.atleast_1d(line.get_xdata())} >= {0.95}
    assert {text.get_text() for text in nulls.texts} == {"0.05", "0.95"}
