"""Agreement of detectors, by tables whose overlap is known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from driftwave.errors import InputError
from driftwave.figures import detector_agreement
from driftwave.wave_events.agreement import agree


def table(rows, *, q=None, speed_kind="phase"):
    """An event table from (start, stop, class, direction, speed)."""
    start, stop, names, direction, speed = zip(*rows, strict=True) if rows else ([],) * 5
    found = xr.Dataset(
        {
            "start": ("event", np.array(start, float), {"units": "s"}),
            "stop": ("event", np.array(stop, float), {"units": "s"}),
            "class": ("event", np.array(names, dtype="<U16")),
            "direction": ("event", np.array(direction, float), {"units": "degree"}),
            "speed": ("event", np.array(speed, float), {"units": "mm/s"}),
        },
        attrs={"speed_kind": speed_kind, "level": 0.05},
    )
    return found if q is None else found.assign(q=("event", np.array(q, float)))


def of(found, name, one="a", other="b"):
    return float(found[name].sel(detector=one, other=other))


def test_overlap_in_time_is_counted_in_seconds():
    a = table([(0.0, 4.0, "planar", 0, 100), (6.0, 8.0, "radial_out", np.nan, 50)])
    b = table([(2.0, 6.0, "planar", 60, 200), (8.0, 9.0, "synchronous", np.nan, np.nan)])
    found = agree({"a": a, "b": b}, span=(0.0, 10.0))
    assert of(found, "joint_seconds") == pytest.approx(2.0)
    assert of(found, "jaccard") == pytest.approx(2 / 8)
    observed, chance = 0.4, 0.6 * 0.4 + 0.4 * 0.6
    assert of(found, "kappa") == pytest.approx((observed - chance) / (1 - chance))
    assert of(found, "direction_agreement") == pytest.approx(0.5)
    assert of(found, "speed_ratio") == pytest.approx(0.5)
    assert of(found, "speed_ratio", "b", "a") == pytest.approx(2.0)
    assert of(found, "class_agreement") == 1.0
    assert found["seconds"].values.tolist() == pytest.approx([6.0, 4.0])


def test_only_what_a_detector_stands_by_counts():
    rows = [(0.0, 4.0, "planar", 0, 100), (5.0, 9.0, "planar", 90, 100)]
    found = agree({"a": table(rows, q=[0.01, 0.2]), "b": table(rows)}, span=(0.0, 10.0))
    assert found["events"].values.tolist() == [1, 2]
    assert of(found, "joint_seconds") == pytest.approx(4.0)
    assert found["event_claimed"].values.tolist() == [True, False, True, True]
    assert found["event_detector"].values.tolist() == ["a", "a", "b", "b"]


def turning(offset, rng, *, count=200):
    """Events end to end whose direction is drawn anew each second."""
    directions = rng.uniform(-180, 180, count)
    return [(n, n + 1.0, "planar", d + offset, 100.0) for n, d in enumerate(directions)]


def test_directions_that_follow_each_other_agree_beyond_shifts():
    same = [turning(0.0, np.random.default_rng(1)), turning(20.0, np.random.default_rng(1))]
    found = agree({"a": table(same[0]), "b": table(same[1])}, shifts=199)
    assert of(found, "direction_agreement") == pytest.approx(np.cos(np.deg2rad(20)))
    assert abs(of(found, "direction_null")) < 0.05
    assert of(found, "direction_p") == pytest.approx(1 / 200)


def test_unrelated_directions_have_uniform_p():
    p = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        tables = {"a": table(turning(0, rng, count=40)), "b": table(turning(0, rng, count=40))}
        p.append(of(agree(tables, step=1.0, shifts=39), "direction_p"))
    assert np.mean(p) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(p) <= 0.1) < 0.25


def test_a_constant_direction_is_no_evidence_of_agreement():
    rows = [(n, n + 0.5, "planar", 30.0, 100.0) for n in range(50)]
    found = agree({"a": table(rows), "b": table(rows)})
    assert of(found, "direction_agreement") == pytest.approx(1)
    assert of(found, "direction_null") == pytest.approx(1)
    assert of(found, "direction_p") == 1.0


def test_a_whole_recording_detector_is_compared_with_the_mean_direction():
    rows = [(0.0, 6.0, "planar", 10, 100), (6.0, 10.0, "planar", 50, 400)]
    whole = table([(0.0, 10.0, "planar", -60, 200)], speed_kind="group")
    found = agree({"a": table(rows), "b": whole})
    mean = 0.6 * np.exp(1j * np.deg2rad(10)) + 0.4 * np.exp(1j * np.deg2rad(50))
    expected = np.cos(np.angle(mean) + np.deg2rad(60))
    assert of(found, "direction_agreement") == pytest.approx(expected, abs=1e-3)
    assert np.isnan(of(found, "direction_p"))
    assert of(found, "speed_ratio") == pytest.approx(0.5)
    assert found["speed_kind"].values.tolist() == ["phase", "group"]


def test_where_nothing_overlaps_nothing_is_said():
    found = agree({"a": table([(0, 1, "planar", 0, 1)]), "b": table([(5, 6, "planar", 0, 1)])})
    assert of(found, "jaccard") == 0
    for name in ("direction_agreement", "direction_p", "speed_ratio", "class_agreement"):
        assert np.isnan(of(found, name))
    empty = agree({"a": table([]), "b": table([])})
    assert np.isnan(of(empty, "jaccard"))
    assert empty.sizes["event"] == 0
    assert detector_agreement.draw(None, {"agreement": empty}).axes


def test_a_front_without_duration_still_counts():
    found = agree({"a": table([(2.0, 2.0, "planar", 0, 1)]), "b": table([(0, 4, "planar", 0, 1)])})
    assert of(found, "joint_seconds") == pytest.approx(0.1)


def test_the_figure_says_the_numbers():
    rng = np.random.default_rng(0)
    a, b = turning(0, rng, count=30), turning(0, np.random.default_rng(0), count=30)
    figure = detector_agreement.draw(None, {"agreement": agree({"a": table(a), "b": table(b)})})
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any(text.startswith("1.00\np = ") for text in words)
    with pytest.raises(InputError):
        detector_agreement.draw(None, {})
