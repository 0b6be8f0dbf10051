"""Group velocity: a plane through the delays between electrodes.

Where a wave is dispersive its phase travels at omega / k and its packets at d omega / d k: the
slope of the cross-spectrum's phase over frequency is the delay of the packets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import signal
from scipy.sparse.csgraph import connected_components

from driftwave.phase.electrodes import Electrodes
from driftwave.phase.frames import FieldReader

PAPER = "Martinet et al. 2017, Nat Commun 8:14896"
SEGMENT = 10.0
BANDWIDTH = 1.0
MOST_SEGMENTS = 12
COHERENCE = 0.6
# A rhythm fills the tapers' bandwidth, three frequencies: a slope needs more, over a wider range.
FEWEST_FREQUENCIES = 6
SHARE_OF_BAND = 1 / 2
FEWEST = 4
HUBER = 1.345
HANN = 2.0
REFINEMENTS = 2
LEVELS = (0.025, 0.975)
CHI2 = 5.991  # 95 % quantile of chi-square with 2 degrees of freedom

Reference = Literal["all", "central"]
Tapers = Literal["multitaper", "hann"]


@dataclass(frozen=True)
class DelayPlane:
    """Plane fit to delays over a stretch of a recording.

    Attributes
    ----------
    slowness : ndarray (2,)
        s/mm; the group travels along it at 1 / |slowness|.
    r_squared : float
    drawn : ndarray (draw, 2)
        Bootstrap over segments, tapers and electrodes.
    delay : ndarray (electrode,)
        s, relative to the mean or to the reference electrode; NaN where nothing is coherent.
    linear : bool
        Whether phases follow lines over frequency, see :func:`follows_a_line`; where they do not,
        there is no group speed.
    """

    slowness: np.ndarray
    r_squared: float
    drawn: np.ndarray
    delay: np.ndarray
    linear: bool = True

    @property
    def travels(self) -> bool:
        """Whether the bootstrap's 95 % ellipse excludes a slowness of 0."""
        drawn = self.drawn[np.isfinite(self.drawn).all(axis=1)]
        if not self.linear or len(drawn) < 10:
            return False
        # The ridge is for probes, along which slowness has one component only.
        covariance = np.cov(drawn.T)
        covariance += 1e-9 * np.trace(covariance) * np.eye(2)
        return bool(self.slowness @ np.linalg.solve(covariance, self.slowness) > CHI2)


@dataclass(frozen=True)
class Spectra:
    """Fourier coefficients of windows, and what noise of the same windows would look like.

    Attributes
    ----------
    value : ndarray, complex (frequency, electrode, window)
        A window is a segment's taper.
    frequency : ndarray (frequency,)
        Hz.
    overlap : ndarray, complex (frequency, taper, frequency, taper)
        How coefficients of one segment of white noise covary.
    """

    value: np.ndarray
    frequency: np.ndarray
    overlap: np.ndarray


def spectra_of(
    reader: FieldReader,
    band: tuple[float, float],
    *,
    tapers: Tapers = "multitaper",
    start: int = 0,
    stop: int | None = None,
) -> Spectra:
    """Coefficients of samples ``start`` to ``stop`` of the field, every 1 Hz within ``band``.

    Multitaper: up to 12 segments of 10 s, spread evenly, with tapers of 1 Hz half-bandwidth.
    Hann: windows of 2 s, a tenth of their length apart. Segments within gaps are left out.
    """
    rate = reader.sampling_rate
    total = (reader.lfp.sizes["time"] if stop is None else stop) - start
    length = min(total, round((SEGMENT if tapers == "multitaper" else HANN) * rate))
    if tapers == "multitaper":
        half = BANDWIDTH * length / rate
        window = signal.windows.dpss(length, half, Kmax=max(1, int(2 * half) - 1))
        number = min(MOST_SEGMENTS, max(1, total // length))
    else:
        window = signal.windows.hann(length, sym=False)[None]
        number = max(1, (total - length) // max(1, length // 10) + 1)
    starts = start + np.linspace(0, total - length, number).round().astype(int)
    frequency = np.arange(band[0], band[1] + BANDWIDTH / 2, BANDWIDTH)
    carrier = np.exp(-2j * np.pi * frequency[:, None] * np.arange(length) / rate)
    kernel = (carrier[:, None] * window).reshape(-1, length)
    shape = (len(frequency), len(window))
    found = []
    for first in starts:
        block = reader.lfp[first : first + length].values[:, reader.electrodes.index].astype(float)
        if not np.isfinite(block).all():
            continue
        found.append((kernel @ (block - block.mean(axis=0))).reshape(*shape, -1))
    empty = np.zeros((len(frequency), 0, len(reader.electrodes)), complex)
    value = np.concatenate([empty, *found], axis=1).transpose(0, 2, 1)
    return Spectra(value, frequency, (kernel @ kernel.conj().T).reshape(*shape, *shape))


def pair_delays(spectra: np.ndarray, frequency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Delay of each electrode behind each other one from the slope of their phase.

    The mean phase step between neighbouring coherent frequencies (coherence above 0.6) gives a
    first delay, which needs no unwrapping; what phase it leaves is regressed on frequency, with an
    intercept.

    Parameters
    ----------
    spectra : ndarray, complex (frequency, electrode, window)
    frequency : ndarray (frequency,)
        Hz, evenly spaced.

    Returns
    -------
    delay : ndarray (electrode, electrode)
        s; positive where the row lags the column.
    weight : ndarray (electrode, electrode)
        Zero where fewer than six frequencies, or half of them, are coherent.
    """
    cross = spectra @ spectra.conj().swapaxes(1, 2)
    power = np.einsum("fnn->fn", cross).real
    size = np.sqrt(power[:, :, None] * power[:, None, :])
    unit = cross / np.maximum(size, np.finfo(float).tiny)
    weight = (np.abs(unit) > COHERENCE).astype(float)
    omega = 2 * np.pi * frequency[:, None, None]
    total = np.maximum(weight.sum(axis=0), 1e-12)
    deviation = omega - (weight * omega).sum(axis=0) / total
    spread = (weight * deviation**2).sum(axis=0)
    unit = unit * weight
    step = (unit[1:] * unit[:-1].conj()).sum(axis=0)
    delay = -np.angle(step) / (2 * np.pi * (frequency[1] - frequency[0]))
    for _ in range(REFINEMENTS):
        flat = unit * np.exp(1j * omega * delay)
        rest = np.angle(flat * flat.sum(axis=0).conj())
        delay -= (deviation * weight * rest).sum(axis=0) / np.maximum(spread, 1e-12)
    fewest = max(min(FEWEST_FREQUENCIES, len(frequency)), SHARE_OF_BAND * len(frequency))
    used = (weight > 0).sum(axis=0) >= fewest
    np.fill_diagonal(used, False)
    return delay, np.where(used, spread, 0.0)


def follows_a_line(
    spectra: np.ndarray, frequency: np.ndarray, delay: np.ndarray, weight: np.ndarray
) -> bool:
    """Whether the phases of coherent pairs lie on lines over frequency, rather than beside them.

    A narrow rhythm that travels within broadband noise shared without lags has a phase at its own
    frequencies and none beside them: a bump, whose slope over the band depends on where in the band
    it lies, and may be opposite to the rhythm's travel. Phases are refused where their deviation
    from the lines, less that of chance, (1 - C^2) / (2 n C^2) at coherence C in n windows, exceeds
    both what the lines explain and chance itself.

    Parameters
    ----------
    spectra : ndarray, complex (frequency, electrode, window)
    frequency : ndarray (frequency,)
        Hz.
    delay, weight : ndarray (electrode, electrode)
        Of :func:`pair_delays`.
    """
    cross = spectra @ spectra.conj().swapaxes(1, 2)
    power = np.einsum("fnn->fn", cross).real
    size = np.sqrt(power[:, :, None] * power[:, None, :])
    coherence = np.minimum(np.abs(cross) / np.maximum(size, np.finfo(float).tiny), 1.0)
    used = (coherence > COHERENCE) & (weight > 0)
    chance = (1 - coherence**2) / (2 * spectra.shape[-1] * np.maximum(coherence, COHERENCE) ** 2)
    flat = np.where(used, cross, 0) * np.exp(2j * np.pi * frequency[:, None, None] * delay)
    rest = np.angle(flat * flat.sum(axis=0).conj())
    expected = float(chance[used].sum())
    excess = float((rest[used] ** 2).sum()) - expected
    return excess <= max(float((weight * delay**2).sum()), expected)


def electrode_delays(delay: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Delay of each electrode (electrode,) from those of all pairs, s, zero on average.

    Least squares: minimises sum_ij w_ij (d_i - d_j - tau_ij)^2 over the largest set of electrodes
    that coherent pairs connect, NaN elsewhere. Plain means over each electrode's own partners would
    shrink delays where only neighbours are coherent.
    """
    _, part = connected_components(weight > 0, directed=False)
    kept = np.flatnonzero(part == np.bincount(part).argmax())
    result = np.full(len(delay), np.nan)
    if len(kept) < 2:
        return result
    inside = weight[np.ix_(kept, kept)]
    laplacian = np.diag(inside.sum(axis=1)) - inside
    pull = (inside * delay[np.ix_(kept, kept)]).sum(axis=1)
    grounded = laplacian + np.trace(laplacian) / len(kept) ** 2
    found = np.linalg.solve(grounded, pull)
    result[kept] = found - found.mean()
    return result


def robust_plane(
    position: np.ndarray, delay: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, float]:
    """Huber regression of delay (electrode,) on position; slowness (2,) in s/mm and R squared."""
    design = np.column_stack([position - position.mean(axis=0), np.ones(len(position))])
    robust = np.ones(len(delay))
    solution = np.zeros(3)
    for _ in range(30):
        root = np.sqrt(weight * robust)
        solution = np.linalg.lstsq(design * root[:, None], delay * root, rcond=None)[0]
        residual = np.abs(delay - design @ solution)
        scale = max(1.4826 * float(np.median(residual)), 1e-12)
        robust = np.minimum(1, HUBER * scale / np.maximum(residual, 1e-15))
    centred = delay - np.average(delay, weights=weight)
    error = (weight * (delay - design @ solution) ** 2).sum()
    return solution[:2], float(1 - error / (weight * centred**2).sum())


def _plane(
    position: np.ndarray,
    spectra: np.ndarray,
    frequency: np.ndarray,
    reference: int | None,
    counts: np.ndarray,
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """Slowness, R squared and delays; ``counts`` (electrode,) weight the electrodes."""
    if not spectra.shape[-1]:
        return None
    delay, weight = pair_delays(spectra, frequency)
    if reference is None:
        relative, total = electrode_delays(delay, weight), weight.sum(axis=1)
    else:
        total = weight[:, reference].copy()
        total[reference] = total.max()
        relative = np.where(total > 0, delay[:, reference], np.nan)
        relative[reference] = 0.0
    seen = np.isfinite(relative) & (counts * total > 0)
    if seen.sum() < FEWEST:
        return None
    found = robust_plane(position[seen], relative[seen], (counts * total)[seen])
    return (*found, relative)


def central_electrode(position: np.ndarray) -> int:
    """The electrode closest to the middle of the array."""
    middle = (position.min(axis=0) + position.max(axis=0)) / 2
    return int(np.argmin(((position - middle) ** 2).sum(axis=1)))


def fit_delay_plane(
    electrodes: Electrodes,
    spectra: Spectra,
    *,
    reference: Reference = "all",
    draws: int,
    rng: np.random.Generator,
) -> DelayPlane | None:
    """Plane through the delays of electrodes; on a line only the slowness along it is fitted.

    Parameters
    ----------
    spectra : Spectra
    reference : str
        ``all``: delays that agree best with all coherent pairs; ``central``: behind the electrode
        in the middle.
    draws : int
        Bootstrap resamples of windows and of electrodes.

    Returns
    -------
    DelayPlane or None
        None where fewer than four electrodes are coherent.
    """
    # Contacts a few micrometres beside a line would else settle the slowness across it.
    middle = electrodes.position.mean(axis=0)
    position = middle + electrodes.seen(electrodes.position - middle)
    centre = central_electrode(position) if reference == "central" else None
    value, frequency = spectra.value, spectra.frequency
    found = _plane(position, value, frequency, centre, np.ones(len(position)))
    if found is None:
        return None
    count, number_of = value.shape[-1], len(position)
    drawn = np.full((draws, 2), np.nan)
    for number in range(draws):
        again = _plane(
            position,
            value[..., rng.integers(0, count, count)],
            frequency,
            centre,
            rng.multinomial(number_of, np.full(number_of, 1 / number_of)).astype(float),
        )
        if again is not None:
            drawn[number] = again[0]
    linear = follows_a_line(value, frequency, *pair_delays(value, frequency))
    return DelayPlane(found[0], found[1], drawn, found[2], linear)


def delay_plane(
    reader: FieldReader,
    band: tuple[float, float],
    *,
    draws: int,
    rng: np.random.Generator,
    reference: Reference = "all",
    tapers: Tapers = "multitaper",
) -> DelayPlane | None:
    """Group velocity over a whole recording; None where too few electrodes are coherent.

    Parameters
    ----------
    reader : FieldReader
    band : (low, high)
        Frequencies whose phase slope gives the delays, Hz.
    draws : int
        Bootstrap resamples of segments, tapers and electrodes.
    """
    spectra = spectra_of(reader, band, tapers=tapers)
    return fit_delay_plane(reader.electrodes, spectra, reference=reference, draws=draws, rng=rng)


def velocity(plane: DelayPlane) -> dict[str, float]:
    """Direction (degrees) and group speed (mm/s) with 95 % intervals.

    The interval of speed comes from the slowness along the direction of travel, and is unbounded
    where that includes 0. All NaN where phases do not follow lines over frequency.
    """
    here = complex(*plane.slowness)
    drawn = plane.drawn[np.isfinite(plane.drawn).all(axis=1)]
    row = {"direction": float(np.degrees(np.angle(here))), "speed": 1 / max(abs(here), 1e-15)}
    names = ("direction_low", "direction_high", "speed_low", "speed_high")
    if not plane.linear:
        return dict.fromkeys(("direction", "speed", *names), np.nan)
    if not len(drawn):
        return row | dict.fromkeys(names, np.nan)
    along = (drawn[:, 0] + 1j * drawn[:, 1]) / here
    low, high = np.quantile(along.real, LEVELS) * abs(here)
    turn = np.degrees(np.quantile(np.angle(along), LEVELS))
    if low <= 0:
        turn = np.array([-180.0, 180.0])
    interval = (
        row["direction"] + float(turn[0]),
        row["direction"] + float(turn[1]),
        float(1 / high) if high > 0 else np.inf,
        float(1 / low) if low > 0 else np.inf,
    )
    return row | dict(zip(names, interval, strict=True))


def zero_lag_spectra(spectra: Spectra, rng: np.random.Generator) -> Spectra:
    """Coefficients with the real part of the cross-spectrum and without lags.

    Re S = (Re X Re X' + Im X Im X') / windows, so that [Re X, Im X] times noise has it. Noise
    covaries between frequencies and tapers as that of the same windows does: a phase slope is a
    matter of neighbouring frequencies.
    """
    value, overlap = spectra.value, spectra.overlap
    tapers = overlap.shape[1]
    size = overlap.shape[0] * tapers
    matrix = overlap.reshape(size, size)
    power, vectors = np.linalg.eigh(matrix / np.trace(matrix).real * size)
    root = vectors * np.sqrt(np.maximum(power, 0))
    parts = np.concatenate([value.real, value.imag], axis=-1)
    count, columns = value.shape[-1], parts.shape[-1]
    segments = count // tapers
    noise = rng.normal(size=(2, segments * columns, size))
    white = (noise[0] + 1j * noise[1]) @ root.T
    # (segment, column, frequency, taper) -> (frequency, column, segment x taper)
    white = white.reshape(segments, columns, overlap.shape[0], tapers)
    white = white.transpose(2, 1, 0, 3).reshape(overlap.shape[0], columns, count)
    # Complex normal numbers have a variance of 2; each window gets its share of the power.
    return Spectra(parts @ white / np.sqrt(2 * count), spectra.frequency, overlap)
