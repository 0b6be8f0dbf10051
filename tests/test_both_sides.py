"""Figures of both manifolds beside their nulls, and of the functional connectome."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure

from driftwave.compute import dask_threads
from driftwave.decoding import learning_curve, ridge
from driftwave.encoding import neural_factors
from driftwave.errors import InputError
from driftwave.figures import both_sides, connectome
from driftwave.figures.style import COLOURS, NULL
from driftwave.manifolds import pca
from driftwave.workflow_figures import FIGURES
from tuning_cases import tuned_rates, tuned_recording

WIDEST = 7.5


@pytest.fixture(autouse=True)
def _closed() -> Any:
    yield
    plt.close("all")


@cache
def recording(stimuli: int = 3) -> xr.DataTree:
    """Fourteen tuned units; the condition of a trial is its stimulus and direction."""
    return tuned_recording(tuned_rates(14, stimuli, bins=15), repeats=6)


@cache
def results(stimuli: int = 3) -> dict[str, xr.Dataset]:
    brief = neural_factors.QUICK | {"rank": 3, "ranks": (2, 3)}
    with dask_threads(1):
        tree = recording(stimuli)
        return {
            "manifold": pca.analyse(tree, None, pca.Params(shuffles=100), seed=0),
            "encoding": neural_factors.analyse(tree, None, neural_factors.Params(**brief), seed=0),
            "learning_curve": learning_curve.analyse(
                tree, None, learning_curve.Params(**learning_curve.QUICK), seed=0
            ),
            "decoding": ridge.analyse(
                tree, None, ridge.Params(shuffles=20, classifier_shuffles=20, halves=0), seed=0
            ),
        }


def titled(figure: Figure, text: str) -> Axes:
    """The one panel whose title holds a text."""
    (found,) = [axes for axes in figure.axes if text in axes.get_title()]
    return found


def drawn(figure: Figure) -> str:
    """All texts of a figure, laid out and written as it is saved."""
    figure.canvas.draw()
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def rgb(colour: Any) -> tuple[float, ...]:
    return tuple(np.round(mpl.colors.to_rgb(colour), 6))


def test_conditions_and_units_have_the_colours_of_the_stimuli() -> None:
    figure = both_sides.draw(recording(), results())
    encoding = results()["encoding"]
    units = titled(figure, "units placed")
    (points,) = [c for c in units.collections if isinstance(c, PathCollection)]
    colour = {str(s): rgb(COLOURS[k]) for k, s in enumerate(encoding["stimulus"].values)}
    expected = [colour[str(s)] for s in encoding["preferred_stimulus"].values]
    assert [rgb(c) for c in points.get_facecolors()] == expected
    # Condition k is stimulus k // 8; of 24, eight evenly spaced ones are drawn.
    conditions = titled(figure, "8 of 24 conditions")
    lines = [line for line in conditions.lines if len(line.get_xdata()) > 1]
    expected = [rgb(COLOURS[k // 8]) for k in np.linspace(0, 23, 8).astype(int)]
    assert [rgb(line.get_color()) for line in lines] == expected


def test_one_stimulus_is_told_by_its_directions() -> None:
    figure = both_sides.draw(recording(1), results(1))
    encoding = results(1)["encoding"]
    conditions = titled(figure, "conditions")
    curves = [rgb(line.get_color()) for line in conditions.lines if len(line.get_xdata()) > 1]
    directions = encoding["direction"].values
    assert len(set(curves)) == len(directions)
    (points,) = titled(figure, "units placed").collections
    preferred = encoding["preferred_direction"].values
    for unit, colour in enumerate(points.get_facecolors()):
        turn = np.abs((directions - preferred[unit] + 180) % 360 - 180)
        if np.sort(turn)[1] - np.sort(turn)[0] > 1:  # not half-way between two
            assert rgb(colour) == curves[int(turn.argmin())]


def test_every_side_stands_beside_its_null() -> None:
    figure = both_sides.draw(recording(), results())
    text = drawn(figure)
    curve = results()["learning_curve"].sel(kind="units").isel(features_from=0)
    p = curve["p_value"].dropna("size").values[-1]
    assert f"all units: p = {p:.2g}" in text
    assert "shuffled labels, 95 %" in text
    shifted = titled(figure, "units shifted in time")
    assert any(isinstance(c, PolyCollection) for c in shifted.collections)
    for value in results()["manifold"]["p_value"].isel(features_from=0).values:
        assert f"p = {value:.2g}" in text
    assert "fewer than 40" in text  # why clusters were not asked about
    assert figure.get_size_inches()[0] <= WIDEST


@pytest.mark.parametrize("name", ["orientation", "direction"])
def test_units_that_are_no_more_selective_than_shuffles_are_crosses(name: str) -> None:
    encoding = results()["encoding"].copy(deep=True)
    index = {"orientation": "osi", "direction": "dsi"}
    for other, key in index.items():
        encoding[f"{key}_q"][:] = 0.9
        encoding[f"{key}_q"][: 6 if other == name else 3] = 0.01
    figure = both_sides.draw(recording(), results() | {"encoding": encoding})
    panel = titled(figure, "6 selective")
    (points,) = [c for c in panel.collections if isinstance(c, PathCollection)]
    np.testing.assert_allclose(points.get_array(), encoding[index[name]][:6])
    (crosses,) = [line for line in panel.lines if line.get_marker() == "x"]
    assert np.isfinite(crosses.get_xdata()).sum() == encoding.sizes["unit"] - 6
    assert f"{name} selectivity" in drawn(figure)


def test_without_a_curve_all_units_stand_beside_their_shuffles() -> None:
    given = {key: value for key, value in results().items() if key != "learning_curve"}
    figure = both_sides.draw(recording(), given)
    panel = titled(figure, "decoding from all units")
    assert any(isinstance(c, PolyCollection) for c in panel.collections)
    value = float(given["decoding"]["accuracy_cv"].isel(features_from=0, stimulus=0))
    assert value in [float(line.get_ydata()[0]) for line in panel.lines]
    bare = {key: given[key] for key in ("manifold", "encoding")}
    assert "not decoded" in drawn(both_sides.draw(None, bare))


def test_conditions_that_are_no_stimuli_have_colours_of_their_own() -> None:
    """Trials of other conditions than the stimuli's: the key is of the units alone."""
    figure = both_sides.draw(None, results())
    assert "preferred stimulus of units:" in drawn(figure)
    curves = titled(figure, "8 of 24 conditions").lines
    assert len({rgb(line.get_color()) for line in curves if len(line.get_xdata()) > 1}) == 8


def test_the_ceiling_of_behaviour_is_drawn() -> None:
    curve = results()["learning_curve"].copy()
    curve.attrs |= {"score": "R2, mean over folds", "target": "speed"}
    source = [str(curve["features_from"].values[0])]
    decoding = xr.Dataset(
        {"ceiling_r2": (("features_from", "target"), [[0.42, 0.1]])},
        coords={
            "features_from": source,
            "target": ["speed", "place"],
            "feature": ("target", ["speed", "place"]),
        },
    )
    figure = both_sides.draw(
        recording(), results() | {"learning_curve": curve, "decoding": decoding}
    )
    panel = titled(figure, "decoding of speed")
    (ceiling,) = [line for line in panel.lines if str(line.get_label()).startswith("ceiling")]
    np.testing.assert_allclose(ceiling.get_ydata(), 0.42)


@pytest.mark.parametrize("missing", ["manifold", "encoding"])
def test_a_missing_side_is_one_sentence(missing: str) -> None:
    given = {key: value for key, value in results().items() if key != missing}
    with pytest.raises(InputError, match=f"--result {missing}=PATH"):
        both_sides.draw(recording(), given)


def connected(motifs: int = 2) -> xr.Dataset:
    """A connectome of two communities of five units and one unit without an edge."""
    community = np.array([0, 1] * 5 + [-1])
    alike = (community[:, None] == community) & (community >= 0)[:, None]
    affinity = np.repeat((alike * 0.3)[None], motifs, axis=0)
    time = np.arange(20) * 6.0
    course = np.abs(np.sin(time / 20 + np.arange(motifs)[:, None]))
    return xr.Dataset(
        {
            "course": (("motif", "time"), course),
            "affinity": (("motif", "unit", "other"), affinity),
            "community": (("motif", "unit"), np.tile(community, (motifs, 1))),
            "community_in_time": (("time", "unit"), np.tile(community, (20, 1))),
            "modularity": ("motif", np.full(motifs, 0.5)),
            "null_modularity": (("motif", "surrogate"), np.full((motifs, 19), 0.2)),
            "p_modularity": ("motif", np.full(motifs, 0.05)),
            "stability": (("rank", "split"), np.full((3, 4), 0.8)),
            "explained": ((), 0.6),
            "null_explained": ("surrogate", np.linspace(0, 0.1, 19)),
            "p_explained": ((), 0.05),
            "behaviour": (("feature", "time"), np.stack([course[0], time])),
            "behaviour_correlation": (
                ("motif", "feature"),
                np.stack([[0.9] * motifs, [0.1] * motifs], axis=1),
            ),
            "p_behaviour": (
                ("motif", "feature"),
                np.stack([[0.001] * motifs, [0.7] * motifs], axis=1),
            ),
        },
        coords={
            "motif": np.arange(1, motifs + 1),
            "time": time,
            "unit": np.arange(11),
            "other": np.arange(11),
            "rank": [1, 2, 3],
            "feature": ["head_angle", "velocity"],
        },
        attrs={"window": 6.0, "session": "worm", "rank": motifs},
    )


def test_a_connectome_shows_communities_behaviour_and_nulls() -> None:
    figure = connectome.draw(None, {"connectome": connected()})
    text = drawn(figure)
    assert "11 units in windows of 6 s: 2 motifs" in text
    for label in figure.axes[0].get_yticklabels():
        if "head angle" in label.get_text():
            assert "ρ = 0.90" in label.get_text()
            assert "q = 0.002" in label.get_text()
    curves = {rgb(line.get_color()) for line in figure.axes[0].lines}
    assert curves == {rgb(COLOURS[1]), rgb(NULL)}  # one feature goes with a motif, one does not
    network = titled(figure, "motif 1: 2 communities")
    shown = network.images[0].get_array()
    assert (shown[:5, :5] > 0).all()
    assert not (shown[:5, 5:] > 0).any()
    assert not (shown[10] > 0).any()
    raster = titled(figure, "communities in time").images[0].get_array()
    np.testing.assert_array_equal(raster[:, 0], [1] * 5 + [2] * 5 + [0])
    assert "p = 0.05" in titled(figure, "as recorded").get_title()
    assert figure.get_size_inches()[0] <= WIDEST


def test_a_connectome_of_one_motif_without_behaviour_is_drawn() -> None:
    bare = connected(1).drop_vars(["behaviour", "behaviour_correlation", "p_behaviour", "feature"])
    figure = connectome.draw(None, {"connectome": bare})
    assert "windows of 6 s: 1 motif" in drawn(figure)
    assert titled(figure, "activity of motifs").get_title() == "activity of motifs"
    assert not figure.axes[0].lines


def test_every_figure_has_its_own_caption() -> None:
    captions = Path(__file__).parents[1] / "workflow" / "report"
    assert [name for name in FIGURES if not (captions / f"{name}.rst").is_file()] == []
