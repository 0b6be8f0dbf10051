"""The network of the Neural Data Transformer, and its masked modelling objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from driftwave.compute import generator
from driftwave.inference.data import SpikeArrays
from driftwave.inference.dropout import Hidden, thin
from driftwave.inference.elbo import poisson_nll
from driftwave.inference.spike_network import Objective, Pass, Sizes, SpikeNetwork, SpikeTask

MaskKind = Literal["bins", "entries", "thinning"]


class NDT(SpikeNetwork):
    """Transformer encoder over bins.

    One token per bin: a linear map of the standardised visible counts plus a learned position.
    Forward bins are always masked: their tokens are one learned vector plus the position. Layers
    are pre-norm (Ye and Pandarinath 2021, section 3); log rates are a linear map of the last
    layer's output, for held-out units too. Nothing is random but dropout, so the noise of a pass
    is a formality.

    Parameters
    ----------
    sizes : Sizes
    log_mean_count : Tensor (unit,)
        Start of the readout's bias.
    input_law : Tensor (2, held-in unit)
        Mean and standard deviation of the counts.
    width, feedforward, layers, heads : int
        Size of a token, width inside a layer, number of layers and of attention heads.
    context : int or None
        Bins on either side that a layer may attend to; None for all.
    dropout, input_dropout : float
        Inside the layers; on the tokens and before the readout.
    """

    input_law: Tensor
    blocked: Tensor | None

    def __init__(
        self,
        sizes: Sizes,
        log_mean_count: Tensor,
        input_law: Tensor,
        *,
        width: int,
        feedforward: int,
        layers: int,
        heads: int,
        context: int | None,
        dropout: float,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("input_law", input_law)
        self.embedding = nn.Linear(sizes.units_in, width)
        self.position = nn.Parameter(0.1 * torch.randn(sizes.bins, width))
        self.masked_token = nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(
            _layer(width, heads, feedforward, dropout, 0.67 * layers**-0.25) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, sizes.units_out)
        self.dropout = nn.Dropout(input_dropout)
        self.register_buffer("blocked", _blocked(sizes.bins, context), persistent=False)
        with torch.no_grad():
            self.readout.weight.mul_(0.1)
            self.readout.bias.copy_(log_mean_count)

    def encode(self, visible: Tensor) -> tuple[Tensor, ...]:
        """Output of the last layer (trial, bin, width)."""
        mean, sd = self.input_law
        tokens = self.embedding((visible - mean) / sd)
        ahead = self.sizes.bins - tokens.shape[1]
        masked = self.masked_token.expand(len(tokens), ahead, -1)
        tokens = self.dropout(torch.cat([tokens, masked], 1) + self.position)
        for layer in self.layers:
            tokens = layer(tokens, src_mask=self.blocked)
        return (self.dropout(self.norm(tokens)),)

    def decode(self, encoded: tuple[Tensor, ...], noise: Tensor) -> Pass:  # noqa: ARG002
        """Log rates; the latents are the last layer's output, and there is no divergence."""
        (latent,) = encoded
        return Pass(self.readout(latent), latent, latent.new_zeros(len(latent)))

    def noise_shape(self, trials: int) -> tuple[int, ...]:
        """One unused number per trial."""
        return 1, trials


def _layer(
    width: int, heads: int, feedforward: int, dropout: float, scale: float
) -> nn.TransformerEncoderLayer:
    """A pre-norm layer whose residual branches start small, as in T-Fixup.

    Dropout acts on what the two branches add and inside the second; drawing it for every attention
    weight as well would cost more than the attention itself.
    """
    layer = nn.TransformerEncoderLayer(
        width, heads, feedforward, dropout, batch_first=True, norm_first=True
    )
    layer.self_attn.dropout = 0.0
    with torch.no_grad():
        for part in (layer.linear1, layer.linear2, layer.self_attn.out_proj):
            part.weight.mul_(scale)
    return layer


def _blocked(bins: int, context: int | None) -> Tensor | None:
    """Which bins (to, from) a layer may not attend to; None for no limit."""
    if context is None:
        return None
    index = torch.arange(bins)
    return (index[:, None] - index).abs() > context


@dataclass(frozen=True)
class Masking:
    """What is hidden from the network and asked of it.

    Attributes
    ----------
    kind : {"bins", "entries", "thinning"}
        Whole bins (all units at once), single entries (bin and unit), or single spikes.
    share : float
        Share of bins, entries or spikes.
    longest : int
        Spans of masked bins last from one to this many bins, equally often.
    zeroed : float
        Share of masked entries set to zero; the others become the count of another, random entry
        of the same unit.
    """

    kind: MaskKind
    share: float
    longest: int
    zeroed: float

    def apply(self, counts: Tensor, drawn: torch.Generator | None = None) -> Hidden:
        """Mask counts (trial, bin, unit).

        A masked entry's own count is never shown, and only masked entries are scored. Where entries
        are masked one by one, the counts shown are scaled up for those that are not: the network
        would otherwise meet more spikes, once nothing is masked, than ever in training.
        """
        if self.kind == "thinning":
            return thin(counts, self.share, drawn)
        masked = self._masked(counts, drawn)
        scale = 1 - self.share if self.kind == "entries" else 1.0
        shown = torch.where(masked, 0.0, counts / scale)
        if self.zeroed < 1:
            other = _rand(counts.shape, counts, drawn) < 1 - self.zeroed
            shown = torch.where(masked & other, _shuffled(counts, drawn), shown)
        weight = masked.to(counts.dtype) / self.share
        return Hidden(shown, counts * weight, weight)

    def _masked(self, counts: Tensor, drawn: torch.Generator | None) -> Tensor:
        trials, bins, _ = counts.shape
        if self.kind == "entries":
            return _rand(counts.shape, counts, drawn) < self.share
        # A bin is masked if a span of sufficient length began at it or before: with begins of
        # probability b per length, it stays unmasked with probability (1 - b)^(1 + 2 + ... + L).
        chances = self.longest * (self.longest + 1) / 2
        begin = 1 - (1 - self.share) ** (1 / chances)
        masked = torch.zeros(trials, bins, dtype=torch.bool, device=counts.device)
        for length in range(1, self.longest + 1):
            starts = _rand((trials, bins + length - 1), counts, drawn) < begin
            for shift in range(length):
                masked |= starts[:, shift : shift + bins]
        return masked[..., None].expand_as(counts)


def _rand(shape: tuple[int, ...], like: Tensor, drawn: torch.Generator | None) -> Tensor:
    return torch.rand(shape, generator=drawn, device=like.device)


def _shuffled(counts: Tensor, drawn: torch.Generator | None) -> Tensor:
    """Each unit's counts, all bins of all trials in one random order."""
    flat = counts.flatten(0, 1)
    order = torch.randperm(len(flat), generator=drawn, device=counts.device)
    return flat[order].view_as(counts)


class NDTTask(SpikeTask):
    """Poisson NLL of masked entries, held-out units and forward bins.

    Validation masks as training does, with masks drawn once.
    """

    def __init__(
        self, network: NDT, arrays: SpikeArrays, masking: Masking, seed: int, device: str
    ) -> None:
        # The shared objective's hiding is replaced below; its KL weight of zero is what counts.
        super().__init__(network, arrays, Objective("thinning", 0.0, 0.0, 0.0), seed, device)
        self.masking = masking
        valid = torch.from_numpy(arrays.counts[arrays.valid])
        self.held_in = self.held_in.cpu()
        words = int(generator(seed, "validation masks").integers(2**62))
        hidden = masking.apply(self._visible(valid), torch.Generator().manual_seed(words))
        self.validation = [part.to(device) for part in self._targets(valid, hidden)]
        self.held_in = self.held_in.to(device)
        self.validation_noise = self.validation_noise[:1]

    def loss(self, index: Tensor, step: int) -> Tensor:  # noqa: ARG002
        """NLL on a batch of training trials, nats per bin and unit."""
        counts = self.train[index.to(self.train.device)]
        shown, target, exposure = self._targets(counts, self.masking.apply(self._visible(counts)))
        out = self.network(shown, self.network.noise(len(counts)))
        return poisson_nll(out.log_rate, target, exposure).mean()
