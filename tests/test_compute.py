"""Random streams by name."""

from __future__ import annotations

import numpy as np

from driftwave.compute import generator


def test_names_with_the_same_start_have_streams_of_their_own() -> None:
    names = ["decoding folds", "decoding shuffles", "deco", "decoding"]
    drawn = [generator(0, name).random(4).tolist() for name in names]
    assert len({tuple(values) for values in drawn}) == len(names)


def test_the_same_seed_and_names_give_the_same_stream() -> None:
    np.testing.assert_array_equal(
        generator(3, "a", "b").random(5), generator(3, "a", "b").random(5)
    )
    assert generator(3, "a", "b").random() != generator(3, "b", "a").random()
    assert generator(3, "a").random() != generator(4, "a").random()
