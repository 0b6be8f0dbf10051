"""Figures of training and of inferred rates."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.figures import rates, training


def latents(recording: xr.DataTree, scale: float) -> xr.Dataset:
    """Rates at ``scale`` times the truth, with training curves whose third epoch is best."""
    dataset = xr.Dataset({"rate": scale * recording["truth"].to_dataset()["rate"]})
    dataset["train_loss"] = ("epoch", np.array([3.0, 2.0, 1.5, 1.2]))
    dataset["valid_loss"] = ("epoch", np.array([3.1, 2.2, 1.9, 2.4]), {"units": "nats"})
    return dataset.assign_coords(epoch=np.arange(1, 5))


@pytest.fixture
def drawn():
    yield
    plt.close("all")


@pytest.mark.usefixtures("drawn")
def test_training_marks_the_best_epoch():
    recording = make_recording(trials=20)
    figure = training.draw(
        None, {"one": latents(recording, 1), "untrained": recording["truth"].to_dataset()}
    )
    (axis,) = [a for a in figure.axes if a.axison]
    assert axis.get_title() == "one"
    assert axis.get_ylabel() == "loss (nats)"
    assert [t.get_text() for t in axis.texts] == ["best epoch 3\nvalidation 1.9"]
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    np.testing.assert_array_equal(lines["validation"], [3.1, 2.2, 1.9, 2.4])


def test_training_needs_curves():
    with pytest.raises(InputError, match="without training curves"):
        training.draw(None, {"smoothing": xr.Dataset()})


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("known", [True, False])
def test_rates_show_truth_or_smoothed_spikes(known: bool):
    recording = make_recording(trials=40)
    results = {"one": latents(recording, 1.0), "two": latents(recording, 0.5)}
    if not known:
        del recording["truth"]
    figure = rates.draw(recording, results)
    assert len(figure.axes) == 16
    first = figure.axes[4]
    reference, one, two = [line.get_ydata() for line in first.lines]
    np.testing.assert_allclose(two, one / 2, rtol=1e-6)
    assert np.allclose(reference, one) == known
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert [t.endswith("(held out)") for t in titles] == [False, False, False, True]
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels[0] == ("true rate" if known else "smoothed spikes (sd 40 ms)")
    assert labels[1:3] == ["one", "two"]
    assert labels[-1] == "forward bins (hidden)"


@pytest.mark.usefixtures("drawn")
def test_rates_with_one_test_trial_and_no_forward_bins():
    recording = make_recording(trials=9, forward=0, held_out=0, units=2)
    figure = rates.draw(recording, {"one": latents(recording, 1.0)})
    assert len(figure.axes) == 2 * 3


def test_rates_need_a_model_with_rates():
    with pytest.raises(InputError, match="without rates"):
        rates.draw(make_recording(trials=20), {"field": xr.Dataset()})
