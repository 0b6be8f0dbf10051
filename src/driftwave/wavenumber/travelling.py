"""Travelling waves in cross-spectra: what is left when everything without a lag is taken out.

A plane wave a e^{i(omega t - k.r)} has the cross-spectrum |a|^2 e^{-ik.(r_n - r_m)}; whatever the
electrodes share without lags, and every standing wave, is real. Its imaginary part is therefore
matched with that of waves,

    tau(k, f) = -sum_{n<m} Im S_nm(f) sin(k.(r_n - r_m)) = (P(k, f) - P(-k, f)) / 4,

P being the power e^H S e in the beam k. In zero-lag surrogates, S real with n degrees of freedom,
tau has zero mean and with c = cos k.r, s = sin k.r the variance
[(c'Sc)(s'Ss) - (c'Ss)^2] / (2 n). Where a wave is found, its wavenumber is where
tau / |sin(k.(r_n - r_m))| is largest, which zero-lag noise, the beam's width and the beam at -k do
not bias, as they do the maximum of P.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

from driftwave.nulls.surrogates import zero_lag_factors
from driftwave.wavenumber.cross_spectra import CrossSpectra

# Wavenumbers per width of a beam.
OVERSAMPLING = 4
MOST_WAVES = 8
# Ridges follow a wave over frequency while its direction turns less than this, rad.
TURN = np.pi / 6
CYCLES = 3
# A wave at the frequency of a stronger one must have this share of its power, and differ from it
# and from its opposite by this share of a beam's width.
WEAKEST = 0.2
APART = 0.5
# Wavenumbers below this share of a beam's width are not told from this one.
NARROWEST = 0.02
STEP = 0.02
TINY = 1e-30


def wavenumber_axes(
    position: np.ndarray, nyquist: np.ndarray, basis: np.ndarray | None = None
) -> list[np.ndarray]:
    """Wavenumbers along x and y, symmetric about 0, rad/mm.

    They hold all within the spatial Nyquist frequencies ``nyquist`` (2,) of a grid's own axes,
    ``basis`` (2, 2) as rows; see :func:`within`.
    """
    if basis is not None:
        nyquist = nyquist @ np.abs(basis)
    extent = np.maximum(np.ptp(position, axis=0), 1e-6)
    axes = []
    for limit, length in zip(nyquist, extent, strict=True):
        steps = int(np.ceil(limit * length * OVERSAMPLING / (2 * np.pi)))
        axes.append(np.arange(-steps, steps + 1) * limit / steps)
    return axes


def within(wavenumber: np.ndarray, nyquist: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Which wavenumbers (..., 2) no shorter one of a grid is an alias of (...).

    ``nyquist`` (2,) is that of the grid's own axes, ``basis`` (2, 2) as rows.
    """
    return (np.abs(wavenumber @ basis.T) <= nyquist * (1 + 1e-9)).all(axis=-1)


@dataclass(frozen=True)
class Beams:
    """Waves of many wavenumbers on one layout.

    Attributes
    ----------
    wavenumber : ndarray (beam, 2)
        Half the plane: the sign of tau tells k from -k, rad/mm.
    position : ndarray (place, 2)
    offset : ndarray (pair, 2)
        r_n - r_m of pairs n < m, mm.
    sines : ndarray, float32 (beam, pair)
    """

    wavenumber: np.ndarray
    position: np.ndarray
    offset: np.ndarray
    sines: np.ndarray

    @property
    def norm(self) -> np.ndarray:
        """|sin(k.(r_n - r_m))| (beam,)."""
        return np.sqrt((self.sines**2).sum(axis=1))

    @property
    def width(self) -> float:
        """Width of a beam along the array's longest side, rad/mm."""
        return float(2 * np.pi / np.ptp(self.position, axis=0).max())


def beams_of(
    position: np.ndarray,
    axes: list[np.ndarray],
    nyquist: np.ndarray | None = None,
    basis: np.ndarray | None = None,
) -> Beams:
    """Beams for half of a grid of wavenumbers, those within the Nyquist frequencies if given."""
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    half = (grid[:, 0] > 1e-9) | ((np.abs(grid[:, 0]) <= 1e-9) & (grid[:, 1] > 1e-9))
    if nyquist is not None and basis is not None:
        half &= within(grid, nyquist, basis)
    upper = np.triu_indices(len(position), 1)
    offset = position[upper[0]] - position[upper[1]]
    sines = np.sin(grid[half] @ offset.T)
    # At the Nyquist frequency of a grid sines vanish: k and -k are one wave.
    kept = (sines**2).mean(axis=1) > 1e-3
    return Beams(grid[half][kept], position, offset, sines[kept].astype(np.float32))


def beam_power(mean: np.ndarray, position: np.ndarray, axes: list[np.ndarray]) -> np.ndarray:
    """P(k, f) = e^H S e / N^2 (frequency, k_x, k_y), in the unit of S."""
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    wave = np.exp(-1j * grid @ position.T).astype(np.complex64)
    shape = (len(mean), len(axes[0]), len(axes[1]))
    power = np.empty((len(mean), len(grid)), np.float32)
    for i, matrix in enumerate(mean.astype(np.complex64)):
        power[i] = ((wave.conj() @ matrix) * wave).real.sum(axis=1)
    return (power / len(position) ** 2).reshape(shape)


def null_deviation(spectra: CrossSpectra, beams: Beams) -> np.ndarray:
    """Standard deviation of tau in zero-lag surrogates (frequency, beam)."""
    angle = beams.wavenumber @ beams.position.T
    cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    real = spectra.mean.real.astype(np.float32)
    result = np.empty((len(real), len(angle)))
    for i, matrix in enumerate(real):
        left, right = cosine @ matrix, sine @ matrix
        both = (left * cosine).sum(axis=1) * (right * sine).sum(axis=1)
        crossed = (left * sine).sum(axis=1)
        result[i] = np.maximum(both - crossed**2, TINY)
    return np.sqrt(result / (2 * spectra.freedom[:, None]))


def zero_lag_maxima(
    spectra: CrossSpectra,
    beams: Beams,
    deviation: np.ndarray,
    rngs: list[np.random.Generator],
) -> np.ndarray:
    """Largest |tau| / deviation over beams and frequencies of one surrogate per generator."""
    factors = zero_lag_factors(spectra.mean)
    upper = np.triu_indices(len(beams.position), 1)
    freedom = np.maximum(1, np.round(spectra.freedom)).astype(int)
    largest = np.zeros(len(rngs))
    for number, rng in enumerate(rngs):
        imaginary = np.stack(
            [_wishart(factor, n, rng)[upper] for factor, n in zip(factors, freedom, strict=True)]
        )
        largest[number] = np.abs(imaginary @ beams.sines.T / deviation).max()
    return largest


def _wishart(factor: np.ndarray, freedom: int, rng: np.random.Generator) -> np.ndarray:
    """Imaginary part of a complex Wishart matrix about ``factor factor'`` (Bartlett 1933)."""
    count = len(factor)
    if freedom < count:
        normal = rng.standard_normal((2, count, freedom), dtype=np.float32) / np.sqrt(2)
    else:
        normal = np.tril(rng.standard_normal((2, count, count), dtype=np.float32), -1)
        normal /= np.sqrt(2)
        size = np.sqrt(rng.standard_gamma(freedom - np.arange(count)))
        normal[0][np.diag_indices(count)] = size
    real, imaginary = factor @ normal
    product = imaginary @ real.T
    return (product - product.T) / np.float32(freedom)


@dataclass
class Wave:
    """A plane wave over a range of frequencies.

    Attributes
    ----------
    wavenumber : dict of int to ndarray (2,)
        k at each frequency bin of its ridge, along the direction of travel, rad/mm.
    peak : int
        Bin of the largest power once all waves are found, before that of the largest statistic.
    score : float
        Largest |tau| / deviation.
    power : dict of int to float
        At each bin of the ridge, in the unit of S.
    """

    wavenumber: dict[int, np.ndarray]
    peak: int
    score: float
    power: dict[int, float] = field(default_factory=dict)

    @property
    def bins(self) -> np.ndarray:
        """Frequency bins of the ridge."""
        return np.array(sorted(self.wavenumber))


@dataclass
class Search:
    """Finds one wave after another, each in what the others leave.

    Attributes
    ----------
    spectra : CrossSpectra
    beams : Beams
    deviation : ndarray (frequency, beam)
    imaginary : ndarray (frequency, pair)
        Imaginary part of the mean cross-spectrum.
    threshold : float
        Of |tau| / deviation.
    """

    spectra: CrossSpectra
    beams: Beams
    deviation: np.ndarray
    imaginary: np.ndarray
    threshold: float

    @property
    def reach(self) -> int:
        """Bins within the tapers' bandwidth of another."""
        step = float(np.diff(self.spectra.frequency).mean())
        return max(1, round(2 * self.spectra.bandwidth / step))

    def waves(self) -> list[Wave]:
        """Waves above the threshold, the most significant first."""
        found: list[Wave] = []
        while len(found) < MOST_WAVES:
            wave = self._strongest(self.residual(found), found)
            if wave is None:
                break
            found.append(wave)
            shared = any(np.isin(wave.bins, other.bins).any() for other in found[:-1])
            for _ in range(CYCLES if shared else 1):
                for one in found if shared else [wave]:
                    self._refine(one, [other for other in found if other is not one])
        for wave in found:
            # The statistic saturates where a wave is all there is; its power does not.
            wave.peak = max(wave.power, key=wave.power.__getitem__)
        return found

    def residual(self, waves: list[Wave]) -> np.ndarray:
        """Imaginary part less that of waves whose powers are fitted together."""
        left = self.imaginary.copy()
        for i in sorted({b for wave in waves for b in wave.wavenumber}):
            here = [wave for wave in waves if i in wave.wavenumber]
            design = np.stack([self._pattern(wave.wavenumber[i]) for wave in here], axis=1)
            power = np.linalg.lstsq(design, left[i], rcond=None)[0]
            left[i] -= design @ power
            for wave, value in zip(here, power, strict=True):
                wave.power[i] = float(value)
        return left

    def _pattern(self, wavenumber: np.ndarray) -> np.ndarray:
        """Imaginary cross-spectrum (pair,) of a wave of unit power."""
        return -np.sin(self.beams.offset @ wavenumber)

    def _strongest(self, left: np.ndarray, known: list[Wave]) -> Wave | None:
        score = -(left @ self.beams.sines.T) / self.deviation
        matched = score * self.deviation / self.beams.norm
        best = np.abs(matched).argmax(axis=1)
        rows = np.arange(len(score))
        k = self.beams.wavenumber[best] * np.sign(matched[rows, best])[:, None]
        power = np.abs(matched[rows, best]) / self.beams.norm[best]
        size = np.abs(score).max(axis=1)
        for i in range(len(score)):
            if size[i] >= self.threshold and self._remainder(i, k[i], power[i], known):
                size[i] = 0
        peak = int(size.argmax())
        if size[peak] < self.threshold:
            return None
        ridge = {peak: k[peak]}
        for step in (-1, 1):
            i = peak + int(step)
            while 0 <= i < len(score) and size[i] >= self.threshold:
                if abs(np.angle(complex(*k[i]) / complex(*k[peak]))) > TURN:
                    break
                ridge[i] = k[i]
                i += step
        return Wave(ridge, peak, float(size[peak]))

    def _remainder(self, i: int, k: np.ndarray, power: float, known: list[Wave]) -> bool:
        """Whether a peak may be what a stronger wave nearby leaves where its model is not exact."""
        for wave in known:
            bins = wave.bins
            near = bins[np.abs(bins - i) <= self.reach]
            if not len(near):
                continue
            nearest = near[np.abs(near - i).argmin()]
            apart = min(np.hypot(*(k - s * wave.wavenumber[nearest])) for s in (1, -1))
            strongest = max(abs(wave.power[b]) for b in near)
            if power < WEAKEST * strongest or apart < APART * self.beams.width:
                return True
        return False

    def _refine(self, wave: Wave, others: list[Wave]) -> None:
        left = self.residual(others)
        for i, k in wave.wavenumber.items():
            wave.wavenumber[i] = self._maximise(left[[i]], np.ones(1), np.ones(1), k)
        self.residual([wave, *others])

    def slowness(self, wave: Wave, others: list[Wave]) -> np.ndarray:
        """k / omega (2,), s/mm, about the peak, over half the tapers' bandwidth to either side."""
        bins, omega = self._about_peak(wave)
        left = self.residual(others)[bins]
        start = wave.wavenumber[wave.peak] / omega[bins == wave.peak][0]
        return self._maximise(left, omega, self._weights(bins), start)

    def _about_peak(self, wave: Wave) -> tuple[np.ndarray, np.ndarray]:
        bins = wave.bins
        bins = bins[np.abs(bins - wave.peak) <= self.reach // 2]
        return bins, 2 * np.pi * self.spectra.frequency[bins]

    def _maximise(
        self, imaginary: np.ndarray, omega: np.ndarray, weight: np.ndarray, start: np.ndarray
    ) -> np.ndarray:
        """Vector v for which waves of wavenumber omega v match ``imaginary`` (bin, pair) best."""
        logarithm, angle = np.log(np.hypot(*start)), np.arctan2(start[1], start[0])
        least = np.log(NARROWEST * self.beams.width / omega.max())

        def loss(step: np.ndarray) -> float:
            at = _vector(max(logarithm + step[0], least), angle + step[1])
            return -float(weight @ self._matched(imaginary, omega, at))

        corners = np.array([[0, 0], [0.1, 0], [0, 0.1]])
        options = {"xatol": 1e-4, "fatol": 1e-6 * abs(loss(corners[0])), "initial_simplex": corners}
        step = minimize(loss, corners[0], method="Nelder-Mead", options=options).x
        return _vector(max(logarithm + step[0], least), angle + step[1])

    def _weights(self, bins: np.ndarray) -> np.ndarray:
        """Of frequencies: one over the typical deviation of the matched filter."""
        return 1 / np.median(self.deviation[bins] / self.beams.norm, axis=1)

    def _matched(self, imaginary: np.ndarray, omega: np.ndarray, at: np.ndarray) -> np.ndarray:
        """tau / |sin(k.(r_n - r_m))| (..., bin) of ``imaginary`` (..., bin, pair), k = omega at."""
        patterns = np.stack([self._pattern(w * at) for w in omega])
        patterns /= np.maximum(np.linalg.norm(patterns, axis=1, keepdims=True), TINY)
        return np.einsum("...bp,bp->...b", imaginary, patterns)

    def resampled(
        self,
        wave: Wave,
        slowness: np.ndarray,
        others: list[Wave],
        draws: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """log |slowness| and angle (draw, 2) in resamples of blocks, by one Newton step each.

        NaN where the statistic has no maximum.
        """
        bins, omega = self._about_peak(wave)
        taken = (self.imaginary - self.residual(others))[bins]
        blocks, count = self.spectra.imaginary[:, bins], self.spectra.segments
        weight = self._weights(bins)
        here = np.array([np.log(np.hypot(*slowness)), np.arctan2(slowness[1], slowness[0])])
        table = np.empty((3, 3, len(blocks)))
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                at = _vector(here[0] + STEP * i, here[1] + STEP * j)
                subtracted = weight @ self._matched(taken, omega, at)
                own = self._matched(blocks, omega, at) @ weight
                table[i + 1, j + 1] = own - count * subtracted
        chosen = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=draws)
        return here + _newton(np.einsum("ijb,db->dij", table, chosen))


def _vector(logarithm: float, angle: float) -> np.ndarray:
    return np.exp(logarithm) * np.array([np.cos(angle), np.sin(angle)])


def _newton(table: np.ndarray) -> np.ndarray:
    """Where tables (draw, 3, 3) of steps ``STEP`` have their maximum, NaN if they have none."""
    gradient = np.stack(
        [table[:, 2, 1] - table[:, 0, 1], table[:, 1, 2] - table[:, 1, 0]], axis=1
    ) / (2 * STEP)
    hessian = np.empty((len(table), 2, 2))
    hessian[:, 0, 0] = table[:, 2, 1] - 2 * table[:, 1, 1] + table[:, 0, 1]
    hessian[:, 1, 1] = table[:, 1, 2] - 2 * table[:, 1, 1] + table[:, 1, 0]
    mixed = table[:, 2, 2] - table[:, 2, 0] - table[:, 0, 2] + table[:, 0, 0]
    hessian[:, 0, 1] = hessian[:, 1, 0] = mixed / 4
    hessian /= STEP**2
    curved = np.linalg.eigvalsh(hessian).max(axis=1) < 0
    moved = np.full((len(table), 2), np.nan)
    moved[curved] = -np.linalg.solve(hessian[curved], gradient[curved, :, None])[..., 0]
    return moved
