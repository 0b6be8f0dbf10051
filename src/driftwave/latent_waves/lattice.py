"""Waves along the chains of sites of a lattice of latents, against sites shifted in time.

The lattice is the model's own: nothing ties a site to a place in the brain. What is asked is
whether neighbouring sites lead and lag one another steadily. A chain is one channel.

Directionality is that of :mod:`driftwave.phase.directionality` in one dimension: with weights
a^2 = product of the amplitudes of two neighbours and g their wrapped phase difference (rad/site),

    P = sum_n a_n^2 (-g_n) / sqrt(sum_n a_n^2  sum_n a_n^2 g_n^2),

1 for a wave that runs at one speed towards higher sites, -1 towards lower ones, and zero on average
where sites share signals without lags. With two sites its size is always 1 and only its sign tells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.nulls.surrogates import benjamini_hochberg
from driftwave.phase.gradient import wrap
from driftwave.recording import forward_bins, trial_mask

NEEDED = ("part", "channel", "site")


def on_lattice(latents: xr.Dataset) -> bool:
    """Whether latents are positions and velocities on a lattice of channels x sites."""
    return set(NEEDED) <= set(latents.coords)


class Flow(NamedTuple):
    """Directionality along chains, frame by frame.

    Attributes
    ----------
    statistic : ndarray (..., channel)
        P, signed.
    power : ndarray (..., channel)
        Sum of the weights.
    gradient : ndarray (..., channel)
        Weighted mean of g, rad/site.
    """

    statistic: np.ndarray
    power: np.ndarray
    gradient: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Average (channel,) of values (..., channel) over frames, weighted by power."""
        channels = values.shape[-1]
        power = self.power.reshape(-1, channels)
        total = np.maximum(power.sum(0), np.finfo(float).tiny)
        return (power * values.reshape(-1, channels)).sum(0) / total


def chain_signal(latents: xr.Dataset) -> np.ndarray:
    r"""Complex signal (trial, time, channel, site) of a lattice: position - i velocity.

    Each is centred and scaled to unit variance over trials and bins, which for an oscillation
    :math:`z = \cos\omega t`, :math:`v = -\omega\sin\omega t` gives :math:`e^{i\omega t}`: the
    analytic signal without a filter's edges, which would fill a short trial.

    Raises
    ------
    InputError
        Without lattice coordinates, or with fewer than two sites.
    """
    missing = [name for name in NEEDED if name not in latents.coords]
    channels = 0 if missing else int(latents["channel"].max()) + 1
    sites = 0 if missing else int(latents["site"].max()) + 1
    if missing or sites < 2:
        raise InputError(
            file=str(latents.attrs.get("model", "latents")),
            field="latent",
            found=f"no coordinate {', '.join(missing)}" if missing else f"{sites} site",
            expected="positions and velocities on channels of at least 2 sites",
            fix="Give the latents of langevinflow, with at least 8 latents",
        )
    values = latents["latent"].transpose("trial", "time", "latent").values.astype(float)
    values = values - values.mean((0, 1))
    values = values / np.maximum(values.std((0, 1)), 1e-12)
    order = np.lexsort((latents["site"].values, latents["channel"].values))
    parts = {
        part: values[..., [i for i in order if latents["part"].values[i] == part]]
        for part in ("position", "velocity")
    }
    signal = parts["position"] - 1j * parts["velocity"]
    return signal.reshape(*signal.shape[:2], channels, sites)


def chain_flow(signal: np.ndarray) -> Flow:
    """Directionality along chains of a complex signal (..., channel, site)."""
    cross = signal[..., 1:] * signal[..., :-1].conj()
    weight, gradient = np.abs(cross), np.angle(cross)
    power = weight.sum(-1)
    flux, steepness = (weight * gradient).sum(-1), (weight * gradient**2).sum(-1)
    tiny = np.finfo(float).tiny
    statistic = -flux / np.sqrt(np.maximum(power * steepness, tiny))
    return Flow(statistic, power, flux / np.maximum(power, tiny))


def shifted_sites(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The signal (trial, time, channel, site), every site of every trial circularly shifted by
    itself: each keeps its own course, no two keep their relation."""
    trials, bins, channels, sites = signal.shape
    shift = rng.integers(0, bins, (trials, 1, channels, sites))
    index = (np.arange(bins)[None, :, None, None] + shift) % bins
    return np.take_along_axis(signal, index, axis=1)


def analyse_lattice(
    recording: xr.DataTree, latents: xr.Dataset, *, surrogates: int, seed: int
) -> xr.Dataset:
    """Waves along each channel's chain of sites, on test trials and bins that the model saw.

    Parameters
    ----------
    recording : DataTree
        With ``spikes`` and ``trials``.
    latents : Dataset
        With ``latent`` (trial, time, latent) and coordinates part, channel, site (latent).
    surrogates : int
        Number of surrogates whose sites are shifted in time.
    seed : int

    Returns
    -------
    Dataset
        Dims ``channel``: ``directionality`` (power-weighted mean of the size of P),
        ``direction_index`` (of P: + towards higher sites), ``frequency`` (Hz), ``wavenumber``
        (rad/site) and ``speed`` (sites/s), power-weighted medians, ``advance`` (power share of
        bins whose phase advances: 1 where sites oscillate, 0.5 by chance), ``p`` and ``q`` of the
        directionality, ``p_direction`` of the direction index (two-sided),
        ``null_directionality`` and ``null_direction_index`` (surrogate, channel). For a picture,
        of the trial whose directionality is the median:
        ``position`` (channel, site, time) in sd, ``phase`` (rad), ``statistic`` (channel, time).

    Raises
    ------
    InputError
        As :func:`chain_signal`.
    """
    test = trial_mask(recording, "test")
    chosen = test if test.any() else np.ones(len(test), dtype=bool)
    seen = latents.sizes["time"] - forward_bins(recording)
    signal = chain_signal(latents)[chosen, :seen]
    width = float(latents.attrs["bin_width"])
    flow = chain_flow(signal)
    observed = np.stack([flow.mean(np.abs(flow.statistic)), flow.mean(flow.statistic)])
    null = np.stack([_null(signal, seed, number) for number in range(surrogates)])
    p = (1 + (null[:, 0] >= observed[0]).sum(0)) / (surrogates + 1)
    beyond = np.abs(null[:, 1]) >= np.abs(observed[1])
    step = np.angle((signal[:, 1:] * signal[:, :-1].conj()).sum(-1))
    moving = Flow(*(part[:, 1:] for part in flow))
    frequency = moving.mean(step) / (2 * np.pi * width)
    slope = np.abs(flow.gradient).reshape(-1, signal.shape[2])
    typical = weighted_median(slope, flow.power.reshape(slope.shape))
    one, channel = {"units": "1"}, ("channel",)
    table = xr.Dataset(
        {
            "directionality": (channel, observed[0], one),
            "direction_index": (channel, observed[1], one),
            "frequency": (channel, frequency, {"units": "Hz"}),
            "wavenumber": (channel, typical, {"units": "rad/site"}),
            "speed": (
                channel,
                2 * np.pi * np.abs(frequency) / np.maximum(typical, 1e-12),
                {"units": "sites/s"},
            ),
            "advance": (channel, moving.mean((step > 0).astype(float)), one),
            "p": (channel, p, one),
            "q": (channel, benjamini_hochberg(p), one),
            "p_direction": (channel, (1 + beyond.sum(0)) / (surrogates + 1), one),
            "null_directionality": (("surrogate", "channel"), null[:, 0], one),
            "null_direction_index": (("surrogate", "channel"), null[:, 1], one),
        }
    )
    picture = _picture(latents, np.flatnonzero(chosen), signal, flow)
    return table.merge(picture).assign_attrs(
        picture.attrs,
        source=str(latents.attrs.get("model", "latents")),
        session=str(recording.attrs.get("session", "recording")),
        bin_width=width,
        trials=int(chosen.sum()),
        null="sites shifted in time",
        surrogates=surrogates,
    )


def _null(signal: np.ndarray, seed: int, number: int) -> np.ndarray:
    """Both statistics (statistic, channel) of one surrogate."""
    rng = generator(seed, "shifted sites", str(number))
    flow = chain_flow(shifted_sites(signal, rng))
    return np.stack([flow.mean(np.abs(flow.statistic)), flow.mean(flow.statistic)])


def weighted_median(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted median (column,) of each column of values (row, column)."""
    order = np.argsort(values, axis=0)
    ranked = np.take_along_axis(values, order, 0)
    mass = np.cumsum(np.take_along_axis(weight, order, 0), 0)
    at = (mass < 0.5 * mass[-1]).sum(0)
    return np.take_along_axis(ranked, at[None], 0)[0]


def _picture(latents: xr.Dataset, chosen: np.ndarray, signal: np.ndarray, flow: Flow) -> xr.Dataset:
    power = np.maximum(flow.power.sum((1, 2)), np.finfo(float).tiny)
    score = (flow.power * np.abs(flow.statistic)).sum((1, 2)) / power
    typical = int(np.argsort(score, kind="stable")[(len(score) - 1) // 2])
    shown = signal[typical].transpose(1, 2, 0)
    time = latents["time"].values[: shown.shape[-1]]
    dims = ("channel", "site", "time")
    return xr.Dataset(
        {
            "position": (dims, shown.real, {"units": "sd"}),
            "phase": (dims, wrap(np.angle(shown)), {"units": "rad"}),
            "statistic": (("channel", "time"), flow.statistic[typical].T, {"units": "1"}),
        },
        coords={
            "channel": np.arange(shown.shape[0]),
            "site": np.arange(shown.shape[1]),
            "time": ("time", time, {"units": "s"}),
        },
        attrs={"shown_trial": str(latents["trial"].values[chosen[typical]])},
    )
