"""Neural Data Transformer: what is masked, what it may see, and what it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError

from conftest import make_recording
from driftwave.compute import blas_threads
from driftwave.inference.data import spike_arrays
from driftwave.inference.ndt_network import Masking, NDTTask
from driftwave.inference.spike_network import (
    input_law,
    log_mean_count,
    sizes_of,
)
from driftwave.models import ndt, smoothing
from driftwave.models.ndt import Fit, Params
from driftwave.scores.bits_per_spike import expected_bits_per_spike
from network_cases import assert_same_fit, killed_and_resumed

SMALL = Params(width=8, feedforward=16, layers=2, steps=32, warmup=4)


def fitted(recording: xr.DataTree, params: Params = SMALL, seed: int = 0, **options) -> Fit:
    options = {"device": "cpu", "progress": None, "checkpoint": None} | options
    with blas_threads(1):
        return ndt.fit(recording, params, seed=seed, **options)


@pytest.fixture(scope="module")
def recording() -> xr.DataTree:
    return make_recording(trials=40, bins=20, forward=4)


@pytest.fixture(scope="module")
def fit(recording: xr.DataTree) -> Fit:
    return fitted(recording)


def untrained(recording: xr.DataTree, **changes) -> ndt.NDT:
    arrays = spike_arrays(recording, "test")
    params = SMALL.model_copy(update=changes)
    torch.manual_seed(0)
    network = Fit.build(params, sizes_of(arrays), log_mean_count(arrays), input_law(arrays))
    return network.eval()


def poisson_counts(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).poisson(1.5, shape).astype(np.float32))


KINDS = [
    Masking("bins", 0.25, 1, 1.0),
    Masking("bins", 0.25, 4, 0.5),
    Masking("entries", 0.3, 1, 1.0),
    Masking("entries", 0.3, 1, 0.5),
]


@pytest.mark.parametrize("masking", KINDS, ids=lambda m: f"{m.kind}-{m.longest}-{m.zeroed}")
def test_a_masked_count_cannot_leak(masking: Masking, recording: xr.DataTree):
    """Changing what is masked changes nothing that the network is shown, or predicts."""
    counts = poisson_counts(6, 16, 9)

    def apply(values: torch.Tensor):
        return masking.apply(values, torch.Generator().manual_seed(7))

    hidden = apply(counts)
    masked = hidden.exposure > 0
    assert 0 < masked.float().mean() < 1
    network = untrained(recording)
    before = network.encode(hidden.shown)[0]
    for trial, bin_, unit in masked.nonzero()[::23].tolist():
        other = counts.clone()
        other[trial, bin_, unit] += 5
        shown = apply(other).shown
        # A count may be dealt to another masked entry of its unit, but never to its own.
        assert shown[trial, bin_, unit] == hidden.shown[trial, bin_, unit] or masking.zeroed < 1
        if masking.zeroed == 1:
            assert torch.equal(shown, hidden.shown)
            assert torch.equal(network.encode(shown)[0], before)
    unmasked = ~masked
    scale = 0.7 if masking.kind == "entries" else 1.0
    torch.testing.assert_close(hidden.shown[unmasked], counts[unmasked] / scale)
    assert (hidden.counts[unmasked] == 0).all()


@pytest.mark.parametrize("longest", [1, 3, 5])
def test_share_and_spans_of_masked_bins(longest: int):
    masking = Masking("bins", 0.25, longest, 1.0)
    hidden = masking.apply(torch.ones(4000, 30, 2), torch.Generator().manual_seed(1))
    masked = hidden.exposure[..., 0] > 0
    assert torch.equal(hidden.exposure[..., 0], hidden.exposure[..., 1])
    assert float(masked.float().mean()) == pytest.approx(0.25, abs=0.01)
    # The same share at either end as in the middle.
    assert float(masked[:, 0].float().mean()) == pytest.approx(0.25, abs=0.03)
    assert float(masked[:, -1].float().mean()) == pytest.approx(0.25, abs=0.03)
    followed = float((masked[:, 1:] & masked[:, :-1]).float().mean() / masked.float().mean())
    if longest == 1:
        assert followed == pytest.approx(0.25, abs=0.02)
    else:
        assert followed > 0.5


def test_zeroed_and_random_replacement():
    counts = poisson_counts(50, 40, 3) + 1
    masking = Masking("entries", 0.4, 1, 0.75)
    hidden = masking.apply(counts, torch.Generator().manual_seed(2))
    masked = hidden.exposure > 0
    zero = float((hidden.shown[masked] == 0).float().mean())
    assert zero == pytest.approx(0.75, abs=0.02)
    replaced = hidden.shown[masked & (hidden.shown > 0)]
    assert float(replaced.mean()) == pytest.approx(2.5, abs=0.1)
    torch.testing.assert_close(hidden.exposure.mean(), torch.tensor(1.0), rtol=0, atol=0.05)
    torch.testing.assert_close(hidden.counts[masked], counts[masked] / 0.4)


def test_a_limited_context_is_respected(recording: xr.DataTree):
    """Two layers that attend to two bins each reach four bins, and no further."""
    network = untrained(recording, context=2)
    visible = poisson_counts(1, 16, 9).requires_grad_()
    network.decode(network.encode(visible), network.noise(1)).log_rate[0, 8].sum().backward()
    reached = visible.grad[0].abs().sum(-1).nonzero().flatten().tolist()
    assert reached == list(range(4, 13))
    network = untrained(recording, context=None)
    visible.grad = None
    network.decode(network.encode(visible), network.noise(1)).log_rate[0, 8].sum().backward()
    assert (visible.grad[0].abs().sum(-1) > 0).all()


def test_context_zero_sees_its_own_bin_alone(recording: xr.DataTree):
    network = untrained(recording, context=0)
    one = poisson_counts(2, 16, 9)
    other = one.clone()
    other[:, 5] += 3
    first, second = network.encode(one)[0], network.encode(other)[0]
    changed = (first != second).any(-1).any(0).nonzero().flatten().tolist()
    assert changed == [5]


def test_forward_bins_are_masked_tokens(recording: xr.DataTree):
    """They are predicted, by the position and by what attention brings from seen bins."""
    network = untrained(recording)
    visible = poisson_counts(2, 16, 9)
    out = network(visible, network.noise(2))
    assert out.log_rate.shape == (2, 20, 12)
    assert not torch.equal(out.log_rate[0, 16:], out.log_rate[1, 16:])
    assert (out.kl == 0).all()
    with torch.no_grad():
        network.masked_token += torch.linspace(-1, 1, 8)
    after = network(visible, network.noise(2))
    assert not torch.allclose(after.log_rate[:, 16:], out.log_rate[:, 16:])


def test_loss_asks_for_masked_entries_held_out_units_and_forward_bins(recording: xr.DataTree):
    arrays = spike_arrays(recording, "test")
    task = NDTTask(untrained(recording), arrays, Masking("entries", 0.25, 1, 1.0), 0, "cpu")
    shown, target, exposure = task.validation
    valid = torch.from_numpy(arrays.counts[arrays.valid])
    seen = exposure[:, :16][..., arrays.held_in]
    assert set(seen.unique().tolist()) == {0.0, 4.0}
    assert (shown[seen > 0] == 0).all()
    assert (exposure[:, 16:] == 1).all()
    assert (exposure[..., ~arrays.held_in] == 1).all()
    assert torch.equal(target[:, 16:], valid[:, 16:])
    assert torch.equal(target[..., ~arrays.held_in], valid[..., ~arrays.held_in])
    log_rate = task.network(shown, task.network.noise(len(valid))).log_rate
    expected = (exposure * log_rate.exp() - target * log_rate).mean()
    torch.testing.assert_close(task.validate(), expected)


def test_dataset(fit: Fit, recording: xr.DataTree):
    result = fit.infer(recording)
    assert result["latent"].shape == (40, 20, 8)
    assert "latent_sd" not in result
    assert result.attrs["best_epoch"] == int(np.argmin(result["valid_loss"].values)) + 1
    assert result["valid_loss"].attrs["units"] == "nats per bin and unit"


def test_forward_bins_and_held_out_units_are_not_visible(fit: Fit, recording: xr.DataTree):
    arrays, other = spike_arrays(recording, "test"), recording.copy(deep=True)
    other["spikes/counts"].values[:, arrays.seen_bins :] = 9
    other["spikes/counts"].values[:, :, ~arrays.held_in] = 9
    xr.testing.assert_identical(fit.infer(other), fit.infer(recording))


def test_dropout_is_off_when_rates_are_predicted(fit: Fit, recording: xr.DataTree):
    before = fit.infer(recording)["rate"]
    for part in fit.network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.9
    fit.network.train()
    xr.testing.assert_identical(fit.infer(recording)["rate"], before)


def test_killed_fit_resumes_to_the_same_weights(
    fit: Fit, recording: xr.DataTree, tmp_path: Path, monkeypatch
):
    resumed = killed_and_resumed(ndt, lambda: fitted(recording, checkpoint=tmp_path), monkeypatch)
    assert_same_fit(resumed, fit)


@pytest.mark.parametrize("wrong", [{"width": 9}, {"mask_share": 0.0}, {"masking": "units"}])
def test_wrong_parameters_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        Params(**wrong)


@pytest.mark.slow
def test_beats_smoothing_against_the_planted_truth():
    """Expected bits per spike of test trials, seen and held-out units and forward bins.

    Zero is each unit's mean rate, and the truth's own score the ceiling.
    """
    recording = make_recording(trials=200, units=16, held_out=4)
    arrays = spike_arrays(recording, "test")
    params = Params(width=24, feedforward=48, layers=2, steps=300, warmup=20)
    ours = fitted(recording, params).infer(recording)
    options = {"seed": 0, "device": "cpu", "progress": None, "checkpoint": None}
    theirs = smoothing.fit(recording, smoothing.Params(), **options).infer(recording)
    seen, ahead = slice(0, arrays.seen_bins), slice(arrays.seen_bins, None)
    truth = recording["truth/rate"].values[arrays.test]
    for bins, units in ((seen, arrays.held_in), (seen, ~arrays.held_in), (ahead, slice(None))):

        def score(rate: np.ndarray, bins: slice = bins, units: np.ndarray = units) -> float:
            return expected_bits_per_spike(rate[:, bins, units], truth[:, bins, units])

        found = score(ours["rate"].values[arrays.test])
        assert found > score(theirs["rate"].values[arrays.test]) + 0.02
        assert found > 0.6 * score(truth)
