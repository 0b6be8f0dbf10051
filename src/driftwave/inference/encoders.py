"""What reads the visible counts of a trial: one state per seen bin, and one for its start."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

EncoderKind = Literal["convolution", "gru"]


class ConvolutionEncoder(nn.Module):
    """Residual dilated convolutions over time: every state sees a stretch of bins around it.

    The first layer reads ``kernel`` bins, residual layer ``i`` as many bins ``2**i`` apart. A state
    thus knows ``kernel // 2 * (2**(layers + 1) - 1)`` bins to either side and no more, which
    keeps it from recognising whole trials.

    Parameters
    ----------
    units : int
        Units read.
    width : int
        Channels of every layer, the size of a state.
    layers : int
        Residual layers after the first.
    kernel : int
        Odd.
    """

    def __init__(self, units: int, width: int, layers: int, kernel: int) -> None:
        super().__init__()
        self.size = width
        self.inward = nn.Conv1d(units, width, kernel, padding=kernel // 2)
        spans = [2 ** (i + 1) for i in range(layers)]
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2 * span, dilation=span)
            for span in spans
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in spans)

    def forward(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """States (trial, bin, size) of counts (trial, bin, unit), and the first bin's again."""
        states = functional.gelu(self.inward(counts.transpose(1, 2)))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            states = states + functional.gelu(layer(norm(states.mT).mT))
        return states.mT, states[..., 0]


class GruEncoder(nn.Module):
    """Bidirectional GRU: every state knows the whole trial.

    Parameters
    ----------
    units : int
        Units read.
    width : int
        GRU units per direction; a state has twice as many numbers.
    """

    def __init__(self, units: int, width: int) -> None:
        super().__init__()
        self.size = 2 * width
        self.gru = nn.GRU(units, width, batch_first=True, bidirectional=True)

    def forward(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """States (trial, bin, size) of counts (trial, bin, unit), and both directions' last."""
        states, last = self.gru(counts)
        return states, torch.cat([last[0], last[1]], -1)
