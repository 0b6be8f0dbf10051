"""A decoder of the condition, fitted to one session and tested in another.

Gallego et al. 2020 (10.1038/s41593-019-0555-4) align the latents of sessions by canonical
correlation of condition averages and decode across them. An alignment that has seen the averages
of the conditions to be decoded finds them again in unrelated data too; here it is fitted to other
conditions than those decoded, and the trials tested take no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from driftwave.alignment.halves import Halved
from driftwave.alignment.heldout import condition_products, summed
from driftwave.geometry.dimension import principal_components


@dataclass(frozen=True)
class View:
    """One half of a session in the principal components of its training conditions.

    Attributes
    ----------
    averages : ndarray (condition, time, component)
        Of unit length over the training conditions.
    centre : ndarray (dim,)
    axes : ndarray (dim, component)
        Scaled to give the unit length.
    """

    averages: np.ndarray
    centre: np.ndarray
    axes: np.ndarray

    def of(self, samples: np.ndarray) -> np.ndarray:
        """Samples (sample, window, component) of samples (sample, window, dim)."""
        return (samples - self.centre) @ self.axes


def views(averages: np.ndarray, fold: np.ndarray, dims: int) -> list[View]:
    """Whitened principal components of averages (condition, time, dim), by fold held out."""
    found = []
    for k in range(fold.max() + 1):
        rows = averages[fold != k].reshape(-1, averages.shape[-1])
        components = principal_components(rows, dims)
        length = np.linalg.norm(components.project(rows), axis=0)
        axes = components.axes / np.maximum(length, 1e-8 * length[0])
        found.append(View((averages - components.mean) @ axes, components.mean, axes))
    return found


@dataclass(frozen=True)
class Source:
    """What one session gives to the decoding of a pair.

    Attributes
    ----------
    halved : Halved
    windows : ndarray (sample, window, dim)
    conditions : ndarray of int (condition,)
        Positions of the shared conditions among the session's own.
    """

    halved: Halved
    windows: np.ndarray
    conditions: np.ndarray

    def samples(self, split: int, half: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples of one half in shared conditions, with their labels among these."""
        place = np.full(len(self.halved.labels), -1)
        place[self.conditions] = np.arange(len(self.conditions))
        chosen = np.flatnonzero(self.halved.chosen(split, half))
        label = place[self.halved.position[chosen]]
        return self.windows[chosen[label >= 0]], label[label >= 0]


@dataclass(frozen=True)
class Transferred:
    """Accuracies, means over held-out conditions.

    Attributes
    ----------
    aligned : ndarray (permutation,)
        Row 0 as observed.
    floor : float
        Components matched by their order, only their signs fitted.
    within : float
        The tested session's own decoder, from its other half.
    """

    aligned: np.ndarray
    floor: float
    within: float


def transferred(
    a: Source,
    b: Source,
    split: int,
    half: int,
    fold: np.ndarray,
    permutations: np.ndarray,
    dims: int,
) -> Transferred:
    """Decode one half of b's trials by a decoder fitted to the other half of a's.

    Parameters
    ----------
    a, b : Source
    split, half : int
        The half of b that is tested; the other half of both fits alignment and decoder.
    fold : ndarray of int (condition,)
        Conditions decoded against one another, by an alignment that has not seen them.
    permutations : ndarray of int (permutation, condition)
        Row 0 the identity; as from :func:`driftwave.alignment.heldout.condition_permutations`.
    dims : int
    """
    fit = 1 - half
    seen_a = views(a.halved.averages(split, fit, a.conditions), fold, dims)
    seen_b = views(b.halved.averages(split, fit, b.conditions), fold, dims)
    train, own, test = a.samples(split, fit), b.samples(split, fit), b.samples(split, half)
    folds = range(fold.max() + 1)
    aligned = np.zeros((len(folds), len(permutations)))
    floor, within = np.zeros(len(folds)), np.zeros(len(folds))
    for k in folds:
        held, training = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
        decoder = _decoder(seen_a[k], train, held)
        partner = fold[permutations[:, held[0]]]
        for other in np.unique(partner):
            rows = np.flatnonzero(partner == other)
            blocks = condition_products(seen_a[k].averages, seen_b[other].averages)
            cross = summed(blocks, training, permutations[rows])
            left, _, right = np.linalg.svd(cross)
            turns = np.swapaxes(left @ right, -1, -2)
            names = permutations[rows][:, held]
            aligned[k, rows] = _accuracy(decoder, seen_b[other], turns, test, held, names)
            if other == k:
                signs = np.sign(np.diagonal(blocks[training, training].sum(axis=0)))
                floor[k] = _accuracy(
                    decoder, seen_b[k], np.diag(signs)[None], test, held, held[None]
                )[0]
        decoder = _decoder(seen_b[k], own, held)
        straight = np.eye(seen_b[k].axes.shape[1])[None]
        within[k] = _accuracy(decoder, seen_b[k], straight, test, held, held[None])[0]
    return Transferred(aligned.mean(axis=0), float(floor.mean()), float(within.mean()))


def _decoder(
    view: View, samples: tuple[np.ndarray, np.ndarray], held: np.ndarray
) -> LinearDiscriminantAnalysis:
    """Linear discriminants with shrunk covariance among the held-out conditions."""
    values, labels = samples
    inside = np.isin(labels, held)
    equal = np.full(len(held), 1 / len(held))
    decoder = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=equal)
    # A whole trial is one observation of the decoder: windows and components are its features.
    rows = view.of(values[inside])
    return decoder.fit(rows.reshape(len(rows), -1), labels[inside])


def _accuracy(
    decoder: LinearDiscriminantAnalysis,
    view: View,
    turns: np.ndarray,
    test: tuple[np.ndarray, np.ndarray],
    held: np.ndarray,
    names: np.ndarray,
) -> np.ndarray:
    """Mean accuracy over conditions (permutation,) after each turn of the tested session.

    Parameters
    ----------
    turns : ndarray (permutation, component, component)
        From the tested session's components to the decoder's.
    names : ndarray of int (permutation, held)
        The tested session's condition that stands for each held-out one.
    """
    values, labels = test
    inside = np.isin(labels, names[0])
    rows = np.einsum("swi,rij->rswj", view.of(values[inside]), turns)
    decoded = decoder.predict(rows.reshape(rows.shape[0] * rows.shape[1], -1))
    decoded = decoded.reshape(len(turns), -1)
    total = np.zeros(len(turns))
    for position, condition in enumerate(held):
        mine = labels[inside][None] == names[:, position, None]
        total += ((decoded == condition) & mine).sum(axis=1) / mine.sum(axis=1)
    return total / len(held)
