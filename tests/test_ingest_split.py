"""Splits: shares, strata, blocks with gaps; held-out units; intervals."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from driftwave.errors import InputError
from driftwave.ingest import intervals
from driftwave.ingest.file import NwbFile
from driftwave.ingest.split import split_trials
from driftwave.layout import SplitLayout

FILE = NwbFile(Path("f.nwb"), nwbfile=SimpleNamespace(), h5=SimpleNamespace())  # type: ignore[arg-type]


def split(number: int, condition: Any = None, usable: Any = None, **options: Any) -> np.ndarray:
    table = options.pop("table", pd.DataFrame(index=range(number)))
    contiguous = options.pop("contiguous", False)
    return split_trials(
        FILE,
        SplitLayout(**options),
        usable=np.ones(number, bool) if usable is None else usable,
        condition=np.zeros(number, int) if condition is None else condition,
        table=table,
        contiguous=contiguous,
    )


def shares(found: np.ndarray) -> list[int]:
    return [int((found == name).sum()) for name in ("train", "valid", "test", "unused")]


@pytest.mark.parametrize(("number", "expected"), [(100, [70, 10, 20]), (10, [7, 1, 2])])
def test_trials_follow_the_fractions(number: int, expected: list[int]) -> None:
    assert shares(split(number)) == [*expected, 0]


@pytest.mark.parametrize("number", [3, 4, 5, 7])
def test_few_trials_still_give_every_split(number: int) -> None:
    found = shares(split(number))
    assert min(found[:3]) >= 1
    assert sum(found[:3]) == number


def test_each_condition_is_divided_alike() -> None:
    condition = np.random.default_rng(0).permutation(np.repeat(np.arange(16), 11))
    found = split(176, condition)
    assert shares(found)[:3] == [123, 18, 35]
    for code in range(16):
        own = shares(found[condition == code])
        assert own[0] in (7, 8)
        assert own[1] in (1, 2)
        assert own[2] in (2, 3)


def test_seed_decides() -> None:
    assert (split(60, seed=1) == split(60, seed=1)).all()
    assert (split(60, seed=1) != split(60, seed=2)).any()


def test_whole_conditions_stay_together() -> None:
    condition = np.arange(100) % 10
    found = split(100, condition, by="condition")
    assert shares(found) == [70, 10, 20, 0]
    for code in range(10):
        assert len(set(found[condition == code])) == 1


@pytest.mark.parametrize("number", [5, 6, 9, 12, 25, 50, 105, 310, 2000])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_apart_by_a_window(number: int, seed: int) -> None:
    found = split(number, contiguous=True, seed=seed)
    used = found != "unused"
    for left, right in itertools.pairwise(found):
        assert left == right or "unused" in (left, right)
    train, valid, test, unused = shares(found)
    assert min(train, valid, test) >= 1
    if number >= 50:
        assert unused / number < 0.2
        assert 0.6 < train / used.sum() < 0.78
        assert test > valid
    # Spread over the recording: no third of it is without test windows.
    if number >= 105:
        for third in np.array_split(found, 3):
            assert (third == "test").any()


def test_trials_that_cannot_be_used_are_unused() -> None:
    usable = np.arange(50) % 2 == 0
    for options in ({}, {"contiguous": True}):
        found = split(50, usable=usable, **options)
        assert (found[~usable] == "unused").all()
        assert min(shares(found)[:3]) >= 1


def test_column() -> None:
    words = ["train", "Val", "validation", "test", "none", "TRAIN"]
    found = split(6, table=pd.DataFrame({"set": words}), column="set")
    assert found.tolist() == ["train", "valid", "valid", "test", "unused", "train"]
    with pytest.raises(InputError, match="'holdout'"):
        split(2, table=pd.DataFrame({"set": ["train", "holdout"]}), column="set")
    with pytest.raises(InputError, match="no column 'fold'"):
        split(6, table=pd.DataFrame({"set": words}), column="fold")


@pytest.mark.parametrize(
    ("number", "options", "words"),
    [
        (2, {}, "at least 3 trials"),
        (4, {"contiguous": True}, "at least 5 usable windows"),
        (50, {"by": "condition"}, "at least 3 conditions"),
    ],
)
def test_too_few_for_a_split(number: int, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        split(number, **options)


def test_merged_intervals() -> None:
    rows = np.array([[5.0, 6.0], [0.0, 1.0], [0.5, 2.0], [5.2, 5.5], [2.0, 3.0]])
    merged = intervals.merge(rows)
    np.testing.assert_array_equal(merged, [[0, 3], [5, 6]])
    inside = intervals.covered(
        merged, np.array([0, 2.5, 5.0, 5.5, -1]), np.array([3, 3.5, 6.01, 5.9, 0.0]), 0.02
    )
    assert inside.tolist() == [True, False, True, True, False]
