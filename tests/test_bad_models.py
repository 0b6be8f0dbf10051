"""Counts and settings no model can use are refused in one sentence; odd ones give sane rates.

Every spike model is asked, in each of its variants: the registry says which there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from conftest import make_recording
from driftwave import registry
from driftwave.cli import main
from driftwave.compute import blas_threads
from driftwave.errors import DriftwaveError, InputError
from driftwave.figures import training as training_figure
from driftwave.inference.data import rates_dataset, spike_arrays
from driftwave.inference.training import History, Schedule, _Run, train
from driftwave.joblog import read_attempts
from driftwave.scores.table import read_table, score_model
from driftwave.store import open_dataset, write_tree
from driftwave.summary import _own_state
from driftwave.workflow_plan import Job
from test_contract import models, quick_params


def variants(name: str) -> list[dict[str, str]]:
    field = registry.load("models", name).Params.model_fields.get("variant")
    return [{"variant": word} for word in get_args(field.annotation)] if field else [{}]


MODELS = [
    pytest.param(name, variant, id="-".join([name, *variant.values()]))
    for name in models("spikes")
    for variant in variants(name)
]
TRAINED = [
    p for p in MODELS if "learning_rate" in registry.load("models", p.values[0]).Params.model_fields
]
# The loop and the command are shared: one trained model shows them quickly, the others in the
# slow tests.
TRAINED_SLOWLY = [
    p if p.values[0] == "langevinflow" else pytest.param(*p.values, id=p.id, marks=pytest.mark.slow)
    for p in TRAINED
]
every_model = pytest.mark.parametrize(("name", "variant"), MODELS)
every_trained_model = pytest.mark.parametrize(("name", "variant"), TRAINED)
every_trained_model_slowly = pytest.mark.parametrize(("name", "variant"), TRAINED_SLOWLY)


def quick(name: str, variant: dict[str, str], **changes: Any) -> dict[str, Any]:
    params = quick_params(registry.load("models", name)).model_dump(exclude_unset=True)
    return params | variant | changes


def fit(name: str, variant: dict[str, str], recording: xr.DataTree, **changes: Any) -> Any:
    module = registry.load("models", name)
    params = module.Params(**quick(name, variant, **changes))
    options = {"device": "cpu", "progress": None, "checkpoint": None}
    with blas_threads(1):
        return module.fit(recording, params, seed=0, **options)


def recording(**changes: Any) -> xr.DataTree:
    sizes = {"trials": 20, "bins": 12, "units": 7, "held_out": 2, "forward": 3}
    return make_recording(**(sizes | changes))


def with_counts(tree: xr.DataTree, change: Callable[[np.ndarray], None]) -> xr.DataTree:
    """A copy with float counts, as a notebook may hand over, that went through ``change``."""
    tree = tree.copy(deep=True)
    spikes = tree["spikes"].to_dataset()
    counts = spikes["counts"].astype(float)
    change(counts.values)
    tree["spikes"] = xr.DataTree(spikes.assign(counts=counts))
    return tree


def with_split(tree: xr.DataTree, **sizes: int) -> xr.DataTree:
    tree = tree.copy(deep=True)
    tree["trials/split"][:] = np.repeat(list(sizes), list(sizes.values()))
    return tree


def check_sane(result: xr.Dataset, tree: xr.DataTree) -> None:
    assert np.isfinite(result["rate"]).all()
    assert (result["rate"] > 0).all()
    assert np.isfinite(result["latent"]).all()
    table = score_model(tree, result, seed=0, resamples=20)
    assert len(table)
    assert np.isfinite(table["value"]).all()


@cache
def odd() -> xr.DataTree:
    """Unit 0 never fires; unit 1 (held in) and the last (held out) fire in test trials alone."""
    tree = recording()
    counts, test = tree["spikes/counts"].values, tree["trials/split"].values == "test"
    counts[:, :, 0] = 0
    for unit in (1, -1):
        counts[:, :, unit] = np.where(test[:, None], 3, 0)
    return tree


@every_model
def test_units_that_are_silent_or_fire_in_test_trials_only(
    name: str, variant: dict[str, str]
) -> None:
    result = fit(name, variant, odd()).infer(odd())
    check_sane(result, odd())
    rate = result["rate"].mean(("trial", "time")).values
    assert rate[0] < 2
    assert rate[-1] < 2
    assert rate[2:6].mean() > 5


@every_model
def test_as_little_as_a_model_may_be_given(name: str, variant: dict[str, str]) -> None:
    """One unit to see and one to predict, two seen bins, two training trials."""
    tree = recording(trials=5, bins=2, units=2, held_out=1, forward=0)
    tree = with_split(tree, train=2, valid=1, test=2)
    tree["spikes/counts"][:] = np.random.default_rng(0).poisson(1.0, (5, 2, 2))
    check_sane(fit(name, variant, tree).infer(tree), tree)


@every_model
def test_nothing_held_out_and_nothing_that_varies(name: str, variant: dict[str, str]) -> None:
    tree = recording(held_out=0, forward=0)
    tree["spikes/counts"][:] = 2
    result = fit(name, variant, tree).infer(tree)
    check_sane(result, tree)
    assert float(result["rate"].median()) == pytest.approx(100, rel=0.5)
    assert "co_bps" not in set(score_model(tree, result, seed=0, resamples=20)["metric"])


def damaged(value: float) -> Callable[[], xr.DataTree]:
    def change(counts: np.ndarray) -> None:
        counts[3, 2, 1] = value

    return lambda: with_counts(recording(), change)


def silenced(*splits: str) -> Callable[[], xr.DataTree]:
    def make() -> xr.DataTree:
        tree = recording()
        tree["spikes/counts"].values[np.isin(tree["trials/split"].values, splits)] = 0
        return tree

    return make


WHERE = "the first in trial 3, bin 2, unit 1, expected whole numbers of spikes"
REFUSED: dict[str, tuple[Callable[[], xr.DataTree], str]] = {
    "nan": (damaged(np.nan), f"spikes/counts: found 1 NaN values, {WHERE}"),
    "infinite": (damaged(np.inf), f"spikes/counts: found 1 infinite values, {WHERE}"),
    "negative": (damaged(-1), f"spikes/counts: found 1 negative values, {WHERE}"),
    "fractional": (damaged(0.5), f"spikes/counts: found 1 fractional values, {WHERE}"),
    "no spike": (
        silenced("train", "valid", "test"),
        "spikes/counts: found no spike in any training trial",
    ),
    "no training spike": (silenced("train"), "spikes/counts: found no spike in any training trial"),
    "one trial": (
        lambda: with_split(recording(trials=1), train=1),
        "trials/split: found 1 training trials, expected at least 2",
    ),
    "one training trial": (
        lambda: with_split(recording(), train=1, valid=4, test=15),
        "trials/split: found 1 training trials, expected at least 2",
    ),
    "no validation trial": (
        lambda: with_split(recording(), train=16, test=4),
        "trials/split: found no validation trial",
    ),
    "all held out": (
        lambda: recording(held_out=7),
        "units/held_out: found every unit held out, expected at least one unit to see",
    ),
    "all bins hidden": (
        lambda: recording(forward=12),
        "spikes/forward_bins: found 0 bins left to see",
    ),
    "one bin": (
        lambda: recording(bins=1, forward=0),
        "spikes/forward_bins: found 1 bins left to see",
    ),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
@every_model
def test_a_recording_no_model_can_use(
    name: str, variant: dict[str, str], make: Callable[[], xr.DataTree], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        fit(name, variant, make())
    assert words in str(caught.value)
    assert str(caught.value).startswith("synthetic: ")


def test_whole_counts_in_floating_point_are_counts() -> None:
    plain = spike_arrays(recording(), "test")
    floating = spike_arrays(with_counts(recording(), np.asarray), "test")
    np.testing.assert_array_equal(plain.counts, floating.counts)


def test_rates_that_are_no_rates_are_never_handed_on() -> None:
    tree = recording()
    shape = tree["spikes/counts"].shape
    latent = np.zeros((*shape[:2], 3))
    for value in (np.nan, np.inf, -1.0, 1e300):
        rate = np.full(shape, 5.0)
        rate[4, 0, 0] = value
        with (
            np.errstate(over="ignore"),
            pytest.raises(DriftwaveError, match="1 of 20 trials, trial 4 the first"),
        ):
            rates_dataset(tree, rate, latent)
    latent[6, 1, 2] = np.nan
    with pytest.raises(DriftwaveError, match="trial 6 the first"):
        rates_dataset(tree, np.full(shape, 5.0), latent)


def test_a_rate_too_small_for_its_number_type_stays_positive() -> None:
    tree = recording()
    shape = tree["spikes/counts"].shape
    found = rates_dataset(tree, np.full(shape, 1e-60), np.zeros((*shape[:2], 1)))
    np.testing.assert_allclose(found["rate"], 1e-9 / 0.02, rtol=1e-6)


@every_trained_model
def test_a_hopeless_learning_rate(name: str, variant: dict[str, str]) -> None:
    """Weights so large are refused in one sentence, in training or in inference."""
    with pytest.raises(DriftwaveError, match="lower learning_rate"):
        fit(name, variant, recording(), learning_rate=1e6).infer(recording())


def bursting(monkeypatch: pytest.MonkeyPatch, *epochs: int) -> None:
    """Makes the training loss of these epochs (from 0) NaN, or of all if none is named."""
    train_epoch = _Run.train_epoch

    def burst(self: _Run, loss: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
        factor = np.nan if not epochs or self.epoch in epochs else 1.0
        train_epoch(self, lambda index, step: loss(index, step) * factor)

    monkeypatch.setattr(_Run, "train_epoch", burst)


@every_trained_model_slowly
def test_divergence_is_stepped_back_and_said(
    name: str, variant: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the latents, on screen, in the job's log and summary, the scores and the figure."""
    write_tree(recording(), tmp_path / "recording.zarr")
    params = quick(name, variant, steps=96)
    bursting(monkeypatch, 2)
    main([
        "fit", str(tmp_path / "recording.zarr"), "--model", "m", "--plugin", name,
        "--params", json.dumps(params), "--out-fit", str(tmp_path / "fit"),
        "--out", str(tmp_path / "latents.zarr"), "--log", str(tmp_path / "fit.jsonl"),
    ])  # fmt: skip
    latents = open_dataset(tmp_path / "latents.zarr").load()
    check_sane(latents, recording())
    assert latents.attrs["step_backs"] == 1
    notes = latents.attrs["training_notes"]
    assert "loss not finite in epoch 3: back to the weights of epoch" in notes
    last = json.loads((tmp_path / "fit.jsonl").read_text().splitlines()[-1])
    assert last["state"] == "done"
    assert last["notes"] == [f"m: training diverged: {notes}."]
    outputs = (str(tmp_path / "fit"), str(tmp_path / "latents.zarr"))
    job = Job("s", "fit", "m", outputs, (), str(tmp_path / "fit.jsonl"))
    assert _own_state(job, read_attempts(job.log)) == ("done", last["notes"][0])
    table = score_model(recording(), latents, seed=0, resamples=20)
    (cost,) = table.loc[table["metric"] == "cpu_seconds", "note"]
    assert "training diverged 1 times" in cost
    figure = training_figure.draw(None, {"m": latents})
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "diverged, stepped back" in labels


def linear_fit(factor: Callable[[int], float], steps: int = 24) -> History:
    """Fit a line, its loss in each epoch times a factor."""
    weight = nn.Linear(1, 1)
    x = torch.linspace(-1, 1, 16)[:, None]
    schedule = Schedule(steps=steps, batch=16, epoch_steps=3, ema=0.0)

    def cost() -> torch.Tensor:
        return ((weight(x) - 2 * x) ** 2).mean()

    def loss(index: torch.Tensor, step: int) -> torch.Tensor:  # noqa: ARG001
        return cost() * factor(step // 3)

    return train(weight, loss=loss, validate=cost, trials=16, schedule=schedule, seed=0)


def test_a_loss_that_explodes_but_stays_finite_is_stepped_back() -> None:
    history = linear_fit(lambda epoch: 1e5 if epoch == 3 else 1.0)
    assert history.step_backs == 1
    assert history.notes[0].startswith("loss exploded to ")
    assert "in epoch 4: back to the weights of epoch 3" in history.notes[0]
    assert np.isnan(history.valid_loss[3])
    assert history.ended == "all 8 epochs done"


def test_an_ordinary_rise_of_the_loss_is_no_explosion() -> None:
    history = linear_fit(lambda epoch: 1.0 + 5.0 * (epoch % 2))
    assert history.step_backs == 0


def test_a_short_fit_without_one_finite_loss_is_refused() -> None:
    with pytest.raises(DriftwaveError, match="diverged 2 times before any epoch"):
        linear_fit(lambda epoch: np.nan, steps=6)  # noqa: ARG005


def files(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@every_trained_model_slowly
def test_a_refit_that_fails_leaves_the_earlier_fit(
    name: str,
    variant: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_tree(recording(), tmp_path / "recording.zarr")
    command = [
        "fit", str(tmp_path / "recording.zarr"), "--model", "m", "--plugin", name,
        "--params", json.dumps(quick(name, variant)), "--out-fit", str(tmp_path / "out" / "fit"),
        "--out", str(tmp_path / "out" / "latents.zarr"),
    ]  # fmt: skip
    main(command)
    before = files(tmp_path / "out")
    bursting(monkeypatch)
    with pytest.raises(SystemExit) as caught:
        main([*command, "--log", str(tmp_path / "fit.jsonl")])
    assert caught.value.code == 1
    assert "lower learning_rate" in capsys.readouterr().err
    assert json.loads((tmp_path / "fit.jsonl").read_text().splitlines()[-1])["state"] == "failed"
    assert files(tmp_path / "out") == before


def test_bits_of_bins_without_a_spike_are_missing_not_wrong(tmp_path: Path) -> None:
    """Forward bins in which nothing fires: no bits per spike, and no warning either."""
    tree = recording()
    tree["spikes/counts"][:, -3:] = 0
    result = fit("smoothing", {}, tree).infer(tree)
    table = score_model(tree, result, seed=0, resamples=20)
    table.to_csv(tmp_path / "s.tsv", sep="\t", index=False)
    scores = read_table(tmp_path / "s.tsv").set_index("metric")
    assert np.isnan(scores.loc["fp_bps", ["value", "ci_low", "ci_high"]].to_numpy(float)).all()
    assert np.isfinite(scores.loc["co_bps", "value"])
