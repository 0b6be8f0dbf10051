"""What the tests of every network of spike counts do alike."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from driftwave.inference.spike_network import SpikeTask

# The smallest Driftwave network with all its parts.
SMALL_DRIFTWAVE: dict[str, Any] = {
    "latents": 8,
    "encoder": "convolution",
    "hidden": 4,
    "encoder_layers": 1,
    "encoder_kernel": 3,
    "langevin": True,
    "potential": "learned",
    "nonconservative": False,
    "terms": 6,
    "innovations": True,
    "latent_noise": 0.0,
    "transformer": False,
    "feedforward": 8,
    "encoder_in_decoder": False,
    "dropout": 0.0,
}


def killed_and_resumed(
    module: ModuleType, refit: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The fit of a plug-in that was killed in its second epoch and started again.

    ``refit`` fits with a checkpoint folder, which is written after every epoch.
    """
    validate, calls = SpikeTask.validate, []

    def interrupted(task: SpikeTask) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(task)

    monkeypatch.setattr(module, "SAVE_EVERY", 1)
    with monkeypatch.context() as patch:
        patch.setattr(SpikeTask, "validate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            refit()
    assert len(calls) == 2
    return refit()


def assert_same_fit(one: Any, other: Any) -> None:
    """The same weights, bit for bit, and the same history."""
    assert one.history == other.history
    for ours, theirs in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
