r"""Wave episodes: when, which kind, and the complex field they add up to.

The field at electrode n is :math:`z_n(t) = a(t)\, g_n\, e^{i(\omega t + \phi_0 - \psi_n)}`, its
real part the voltage (in units of the wave's RMS times the square root of two). :math:`\psi_n` is
k.r_n for planar waves, so that the phase is :math:`\omega t - k \cdot r + \phi_0` and the wave
travels along +k; sign |k| |r_n - c| for radial ones (+1 outward); sign times the polar angle about
c for rotating ones (+1 counter-clockwise). In a zero-lag burst :math:`\psi_n = 0` and
:math:`g_n` is a smooth random map with either sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KINDS = ("planar", "radial", "rotating")
TAPER = 0.15  # s over which an episode rises and falls


@dataclass(frozen=True)
class Episode:
    """One wave, or what the wave-free twin has in its place.

    Attributes
    ----------
    start, stop : float
        s.
    kind : str
        planar, radial or rotating; zero_lag or none in the twin.
    frequency : float
        Hz, constant within the episode; NaN for none.
    phase : float
        rad at ``start``.
    direction : float
        Degrees, counter-clockwise from +x, of propagation; NaN unless planar.
    speed : float
        mm/s; NaN unless planar or radial.
    sign : int
        +1 outward or counter-clockwise, -1 inward or clockwise; 0 for the others.
    centre : (float, float)
        mm; NaN unless radial or rotating.
    modulation : (float, float, float)
        Depth, rate (Hz) and phase (rad) of the envelope's slow modulation.
    gain : ndarray (electrode,) or None
        Map of a zero-lag burst.
    """

    start: float
    stop: float
    kind: str
    frequency: float = np.nan
    phase: float = 0.0
    direction: float = np.nan
    speed: float = np.nan
    sign: int = 0
    centre: tuple[float, float] = (np.nan, np.nan)
    modulation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gain: np.ndarray | None = None

    def zero_lag(self, gain: np.ndarray) -> Episode:
        """The burst that replaces this wave: same time course, and on average the same power."""
        return Episode(
            start=self.start,
            stop=self.stop,
            kind="zero_lag",
            frequency=self.frequency,
            phase=self.phase,
            modulation=self.modulation,
            gain=gain / np.sqrt(np.mean(gain**2)),
        )

    def wavenumber(self) -> float:
        """Rad/mm."""
        return 2 * np.pi * self.frequency / self.speed

    def spatial(self, position: np.ndarray) -> np.ndarray:
        """Complex spatial factor (electrode,) at ``position`` (electrode, 2), mm."""
        if self.kind == "zero_lag":
            assert self.gain is not None
            return self.gain.astype(complex)
        if self.kind == "planar":
            angle = np.deg2rad(self.direction)
            lag = self.wavenumber() * (position @ [np.cos(angle), np.sin(angle)])
        else:
            x, y = (position - np.asarray(self.centre)).T
            polar = np.arctan2(y, x)
            lag = self.sign * (
                self.wavenumber() * np.hypot(x, y) if self.kind == "radial" else polar
            )
        return np.exp(-1j * lag)

    def _shape(self, time: np.ndarray) -> np.ndarray:
        edge = np.minimum(time - self.start, self.stop - time) / TAPER
        depth, rate, phase = self.modulation
        slow = 1 + depth * np.sin(2 * np.pi * rate * (time - self.start) + phase)
        return slow * np.sin(np.pi / 2 * np.clip(edge, 0, 1)) ** 2

    def envelope(self, time: np.ndarray) -> np.ndarray:
        """Amplitude (time,): zero outside the episode, mean square one within."""
        inside = self._shape(np.linspace(self.start, self.stop, 2001))
        return self._shape(time) / np.sqrt(np.mean(inside**2))

    def temporal(self, time: np.ndarray) -> np.ndarray:
        """Complex temporal factor (time,): envelope and oscillation."""
        angle = 2 * np.pi * self.frequency * (time - self.start) + self.phase
        return self.envelope(time) * np.exp(1j * angle)


def field(episodes: Sequence[Episode], position: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Complex field (time, electrode) of all episodes at the given times, s."""
    total = np.zeros((len(time), len(position)), dtype=complex)
    for episode in episodes:
        rows = slice(*np.searchsorted(time, [episode.start, episode.stop]))
        if rows.start < rows.stop and episode.kind != "none":
            total[rows] += np.outer(episode.temporal(time[rows]), episode.spatial(position))
    return total


def schedule(
    duration: float,
    length: tuple[float, float],
    pause: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Start and stop (episode, 2), s, of episodes and pauses of uniformly random length."""
    times: list[tuple[float, float]] = []
    now = rng.uniform(*pause)
    while True:
        stop = now + rng.uniform(*length)
        if stop > duration:
            return np.array(times).reshape(-1, 2)
        times.append((now, stop))
        now = stop + rng.uniform(*pause)


def deal_kinds(count: int, shares: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Kinds (count,) in random order, as often as their shares ask, to the nearest whole."""
    ends = np.round(np.cumsum(shares) / np.sum(shares) * count).astype(int)
    return rng.permutation(np.repeat(KINDS, np.diff(ends, prepend=0)))


def wave_table(waves: list[Episode]) -> dict[str, tuple[str, np.ndarray]]:
    """Columns of the truth, as name: (description, values), beside start and stop."""
    centre = np.array([wave.centre for wave in waves]).reshape(-1, 2)
    return {
        "kind": (
            "planar, radial or rotating; zero_lag or none in the twin.",
            np.array([w.kind for w in waves], dtype=str),
        ),
        "direction": (
            "Direction of propagation, degrees counter-clockwise from +x; NaN unless planar.",
            np.array([wave.direction for wave in waves]),
        ),
        "speed": (
            "Phase speed, mm/s; NaN unless planar or radial.",
            np.array([w.speed for w in waves]),
        ),
        "frequency": ("Hz.", np.array([wave.frequency for wave in waves])),
        "sign": (
            "+1 outward or counter-clockwise, -1 inward or clockwise, 0 for the others.",
            np.array([wave.sign for wave in waves], dtype=np.int64),
        ),
        "centre_x": ("mm, as rel_x; NaN unless radial or rotating.", centre[:, 0]),
        "centre_y": ("mm, as rel_y; NaN unless radial or rotating.", centre[:, 1]),
    }
