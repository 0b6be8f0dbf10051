"""Hidden units of driftwave's own networks: read while they encode, averaged over samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from driftwave.compute import generator
from driftwave.inference.data import spike_arrays
from driftwave.inference.hidden import check_same_view
from driftwave.inference.spike_network import CHUNK

if TYPE_CHECKING:
    from driftwave.inference.network_fit import NetworkFit

States = dict[str, Tensor]


def visible_chunks(fit: NetworkFit, recording: xr.DataTree) -> Iterator[Tensor]:
    """What a fitted network may see (trial, seen bin, held-in unit), some trials at a time.

    Raises
    ------
    InputError
        The recording has other units or bins than the one fitted to.
    """
    arrays = spike_arrays(recording, fit.NAME)
    check_same_view(recording, arrays, fit.held_in, fit.sizes.seen_bins, fit.sizes.bins)
    for chunk in torch.from_numpy(np.ascontiguousarray(arrays.visible)).split(CHUNK):
        yield chunk.clone().to(fit.device)


def encoded_states(
    fit: NetworkFit, recording: xr.DataTree, states: Callable[[Tensor], States]
) -> dict[str, np.ndarray]:
    """States (trial, time, unit) that ``states`` computes from visible counts, without noise."""
    fit.network.eval()
    with torch.no_grad():
        parts = [states(chunk) for chunk in visible_chunks(fit, recording)]
    return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}


def sampled_states(
    fit: NetworkFit,
    recording: xr.DataTree,
    states: Callable[[tuple[Tensor, ...], Tensor], Tensor],
) -> np.ndarray:
    """Posterior mean (trial, time, unit) of states that depend on drawn noise.

    ``states`` takes what the network encoded and the noise of one pass. Samples are those of
    :func:`driftwave.inference.spike_network.posterior_average`: same seed, same order.
    """
    network = fit.network.eval()
    words = int(generator(fit.seed, "posterior samples").integers(2**62))
    drawn = torch.Generator(device=fit.device).manual_seed(words)
    means = []
    with torch.no_grad():
        for chunk in visible_chunks(fit, recording):
            encoded = network.encode(chunk)
            total = sum(
                states(encoded, network.noise(len(chunk), drawn)) for _ in range(fit.samples)
            )
            means.append(torch.as_tensor(total) / fit.samples)
    return torch.cat(means).cpu().numpy()
