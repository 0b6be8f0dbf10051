r"""Pulses that travel along the rings of a wave network, in its activity and in the spikes.

Activity on a ring is real and not negative: it has no phase, but a direction. With the Fourier
transform :math:`F(k, \omega)` over sites and bins of one trial, a course :math:`h(j - v t)` has all
its power where :math:`\omega = -k v`. So

.. math:: D = \frac{P_+ - P_-}{P_+ + P_-}

with :math:`P_+` the power of the quadrants :math:`k\omega < 0` (towards higher sites) and
:math:`P_-` that of :math:`k\omega > 0`, over all trials: 1 for a pulse of constant form and speed,
0 for standing patterns :math:`f(j)g(t)`. The constant and Nyquist rows, which have no direction,
are left out.

A network whose recurrence is a shift moves whatever enters it, noise too. D of its activity
describes the network; only the spikes can credit the recording with a wave. They are brought onto
the rings by the gradient of their log-likelihood with respect to the state,
:math:`W^\top (y_t - \bar y)`, with the network's loadings :math:`W`: trials that the fit has not
seen, and no dynamics.

Three nulls, and p is the largest of theirs:

- ``shifted``: every row (unit, or site of the activity) circularly shifted in time by itself in
  every trial: each keeps its course, no two their relation;
- ``zero_lag``: Gaussian surrogates with the real part of the rows' cross-spectrum: all that they
  share at once stays, lags go;
- ``order``: sites of a ring permuted: lags stay, but not along the ring. Without it a network whose
  sites follow one another in any order would be credited with D's chance value for that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.nulls.surrogates import zero_lag_factors
from driftwave.recording import forward_bins, trial_mask

NEEDED = ("part", "channel", "site")
NULLS = ("shifted", "zero_lag", "order")
FEWEST_SITES = 4


@dataclass(frozen=True)
class Directed:
    """Power of both directions of each ring (channel,)."""

    forward: np.ndarray
    backward: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """D of each ring."""
        total = self.forward + self.backward
        return (self.forward - self.backward) / np.maximum(total, np.finfo(float).tiny)

    @property
    def overall(self) -> float:
        """Size of D over all rings, whichever way each runs, weighted by power."""
        total = (self.forward + self.backward).sum()
        return float(np.abs(self.forward - self.backward).sum() / max(total, np.finfo(float).tiny))


def on_rings(latents: xr.Dataset) -> bool:
    """Whether latents are activity on rings of sites."""
    return set(NEEDED) <= set(latents.coords) and bool((latents["part"] == "activity").all())


def directed_power(activity: np.ndarray) -> Directed:
    """Power towards higher and towards lower sites of activity (trial, time, channel, site)."""
    bins, sites = activity.shape[1], activity.shape[3]
    whole = np.fft.fft(np.fft.rfft(activity, axis=1), axis=3)
    power = (np.abs(whole) ** 2).sum(0).transpose(1, 0, 2)
    power = power[:, 1 : (bins + 1) // 2]
    last = (sites + 1) // 2
    backward, forward = power[..., 1:last], power[..., : sites - last : -1]
    return Directed(forward.sum((1, 2)), backward.sum((1, 2)))


def pulse_speed(activity: np.ndarray) -> np.ndarray:
    r"""Speed (channel,) in sites per bin, + towards higher sites, of (trial, time, channel, site).

    Every wavenumber k of the sites turns by :math:`\phi_k` from bin to bin, for a pulse of speed v
    by :math:`-k v`: v is the slope of :math:`-\phi_k` on k, weighted by power. Wavenumbers that a
    pulse turns by more than half a cycle per bin are misread; they carry little of a wide one.
    """
    waves = np.fft.rfft(activity, axis=3)[..., 1 : (activity.shape[3] + 1) // 2]
    turned = (waves[:, 1:] * waves[:, :-1].conj()).sum((0, 1))
    k = 2 * np.pi * np.fft.rfftfreq(activity.shape[3])[1 : turned.shape[-1] + 1]
    weight = np.abs(turned)
    steepness = np.maximum((weight * k**2).sum(-1), np.finfo(float).tiny)
    return -(weight * k * np.angle(turned)).sum(-1) / steepness


class RingSignal(NamedTuple):
    """Rows in time, and how they come onto the rings.

    Attributes
    ----------
    rows : ndarray (trial, time, row)
        Sites of the activity, or units.
    weights : ndarray (row, channel, site), or None where the rows are the sites themselves
    rings : tuple
        Channels and sites.
    """

    rows: np.ndarray
    weights: np.ndarray | None
    rings: tuple[int, int]

    def activity(self, rows: np.ndarray) -> np.ndarray:
        """Rows (trial, time, row) on the rings (trial, time, channel, site)."""
        if self.weights is None:
            return rows.reshape(*rows.shape[:2], *self.rings)
        return np.tensordot(rows, self.weights, 1)

    def shifted(self, rng: np.random.Generator) -> np.ndarray:
        """Activity of a surrogate whose rows are shifted in time, each by itself in each trial."""
        trials, bins, count = self.rows.shape
        shift = rng.integers(0, bins, (trials, 1, count))
        index = (np.arange(bins)[None, :, None] + shift) % bins
        return self.activity(np.take_along_axis(self.rows, index, axis=1))

    def zero_lag_factors(self) -> np.ndarray:
        """Factors (frequency, row, row) of the real part of the rows' cross-spectrum."""
        spectrum = np.fft.rfft(self.rows - self.rows.mean(1, keepdims=True), axis=1)
        spectrum = spectrum.transpose(1, 2, 0)
        return zero_lag_factors(spectrum @ spectrum.conj().swapaxes(1, 2) / len(self.rows))

    def zero_lag(self, factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Activity of a Gaussian surrogate without lags."""
        trials, bins, count = self.rows.shape
        noise = rng.standard_normal((2, len(factors), count, trials))
        spectrum = factors @ (noise[0] + 1j * noise[1]) / np.sqrt(2)
        return self.activity(np.fft.irfft(spectrum.transpose(2, 0, 1), n=bins, axis=1))

    def reordered(self, rng: np.random.Generator) -> np.ndarray:
        """The activity with the sites of each ring permuted."""
        order = rng.permuted(np.tile(np.arange(self.rings[1]), (self.rings[0], 1)), axis=1)
        return np.take_along_axis(self.activity(self.rows), order[None, None], axis=3)


def nulls(signal: RingSignal, surrogates: int, seed: int, source: str) -> np.ndarray:
    """Overall D of surrogates, (null, surrogate), in the order of ``NULLS``."""
    factors = signal.zero_lag_factors()
    out = np.empty((len(NULLS), surrogates))
    for number in range(surrogates):
        rng = generator(seed, "ring pulses", source, str(number))
        drawn = (signal.shifted(rng), signal.zero_lag(factors, rng), signal.reordered(rng))
        out[:, number] = [directed_power(activity).overall for activity in drawn]
    return out


def analyse_rings(
    recording: xr.DataTree, latents: xr.Dataset, *, surrogates: int, seed: int
) -> xr.Dataset:
    """Travelling pulses on the rings of a wave network, on test trials and bins that it saw.

    Parameters
    ----------
    recording : DataTree
        With ``spikes`` and ``trials``.
    latents : Dataset
        With ``latent`` (trial, time, latent), ``loading`` (unit, latent) and coordinates part,
        channel, site (latent), as ``wave_rnn`` gives them.
    surrogates : int
        Number of surrogates of each null.
    seed : int

    Returns
    -------
    Dataset
        For each ``source`` ("activity" of the network; "spikes" brought onto the rings):
        ``direction_index`` (source, channel), D; ``directionality`` (source), its size over all
        rings; ``speed`` (source, channel), sites/s, + towards higher sites; ``null_directionality``
        (source, null, surrogate), ``p_null`` (source, null) and ``p`` (source), the largest. A
        recording is credited with a wave by the p of its spikes.

    Raises
    ------
    InputError
        Without rings of at least 4 sites, or without loadings.
    """
    rings = _rings(latents)
    test = trial_mask(recording, "test")
    chosen = test if test.any() else np.ones(len(test), dtype=bool)
    seen = latents.sizes["time"] - forward_bins(recording)
    order = np.lexsort((latents["site"].values, latents["channel"].values))
    width = float(latents.attrs["bin_width"])
    activity = latents["latent"].transpose("trial", "time", "latent").values[chosen, :seen]
    counts = recording["spikes"].to_dataset()["counts"].values[chosen, :seen].astype(float)
    loading = latents["loading"].transpose("unit", "latent").values[:, order].astype(float)
    signals = {
        "activity": RingSignal(activity[..., order].astype(float), None, rings),
        "spikes": RingSignal(counts - counts.mean((0, 1)), loading.reshape(-1, *rings), rings),
    }
    rows = [_of(signal, source, surrogates, seed) for source, signal in signals.items()]
    table = xr.concat(rows, xr.Variable("source", list(signals)))
    table["speed"] = table["speed"] / width
    table["speed"].attrs["units"] = "sites/s"
    strongest = int(np.argmax(np.abs(table["direction_index"].sel(source="spikes").values)))
    shown = [signal.activity(signal.rows[:1])[0, :, strongest] for signal in signals.values()]
    table["example"] = (("source", "example_time", "site"), np.stack(shown))
    table["example"].attrs.update(units="arbitrary", channel=strongest)
    table = table.assign_coords(
        example_time=("example_time", latents["time"].values[:seen], {"units": "s"})
    )
    return table.assign_attrs(
        source=str(latents.attrs.get("model", "latents")),
        session=str(recording.attrs.get("session", "recording")),
        bin_width=width,
        trials=int(chosen.sum()),
        surrogates=surrogates,
    )


def _of(signal: RingSignal, source: str, surrogates: int, seed: int) -> xr.Dataset:
    activity = signal.activity(signal.rows)
    found, one = directed_power(activity), {"units": "1"}
    null = nulls(signal, surrogates, seed, source)
    p = (1 + (null >= found.overall).sum(1)) / (surrogates + 1)
    return xr.Dataset(
        {
            "direction_index": ("channel", found.ratio, one),
            "directionality": ((), found.overall, one),
            "speed": ("channel", pulse_speed(activity)),
            "null_directionality": (("null", "surrogate"), null, one),
            "p_null": ("null", p, one),
            "p": ((), p.max(), one),
        },
        coords={"channel": np.arange(signal.rings[0]), "null": list(NULLS)},
    )


def _rings(latents: xr.Dataset) -> tuple[int, int]:
    """Channels and sites."""
    faults = [name for name in NEEDED if name not in latents.coords]
    faults += [] if "loading" in latents else ["loading"]
    known = not faults and on_rings(latents)
    sites = int(latents["site"].max()) + 1 if known else 0
    if sites < FEWEST_SITES:
        found = f"no {', '.join(faults)}" if faults else f"{sites} sites of activity"
        raise InputError(
            file=str(latents.attrs.get("model", "latents")),
            field="latent",
            found=found,
            expected=f"activity on rings of at least {FEWEST_SITES} sites, with loadings",
            fix="Give the latents of wave_rnn, with enough sites",
        )
    return int(latents["channel"].max()) + 1, sites
