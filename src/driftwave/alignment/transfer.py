"""A decoder of the condition, fitted to one session and tested in another.

Gallego et al. 2020 (10.1038/s41593-019-0555-4): latents are aligned by canonical correlation of
condition averages. Here the trials the decoder is tested on take no part in the alignment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.alignment.halves import Halved
from driftwave.geometry.dimension import principal_components


@dataclass(frozen=True)
class View:
    """One half of a session in its principal components.

    Attributes
    ----------
    averages : ndarray (condition, time, component)
        Of unit length over conditions and times.
    centre : ndarray (dim,)
    axes : ndarray (dim, component)
        Scaled to give the unit length.
    """

    averages: np.ndarray
    centre: np.ndarray
    axes: np.ndarray

    def of(self, windows: np.ndarray) -> np.ndarray:
        """Samples (sample, window, component) of samples (sample, window, dim)."""
        return (windows - self.centre) @ self.axes


def view(averages: np.ndarray, dims: int) -> View:
    """Principal components of condition averages (condition, time, dim), whitened."""
    rows = averages.reshape(-1, averages.shape[-1])
    found = principal_components(rows, dims)
    axes = found.axes / np.linalg.norm((rows - found.mean) @ found.axes, axis=0)
    return View((averages - found.mean) @ axes, found.mean, axes)


def rotations(a: View, b: View) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (component, component) of each session into canonical variates."""
    left, _, right = np.linalg.svd(np.einsum("cti,ctj->ij", a.averages, b.averages))
    return left, right.T


def signs(a: View, b: View) -> tuple[np.ndarray, np.ndarray]:
    """No rotation: components matched by their order, only their signs fitted."""
    along = np.einsum("cti,cti->i", a.averages, b.averages)
    return np.eye(len(along)), np.diag(np.where(along < 0, -1.0, 1.0))


def confusion(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> np.ndarray:
    """Share (true, decoded) of test samples, by linear discriminants with shrunk covariance.

    Parameters
    ----------
    train, test : ndarray (sample, window, component)
    train_labels, test_labels : ndarray of int (sample,)
        From 0 without gaps; every one in both.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    classes = int(train_labels.max()) + 1
    equal = np.full(classes, 1 / classes)
    decoder = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=equal)
    # A whole trial is one observation of the decoder: windows and components are its features.
    decoder.fit(train.reshape(len(train), -1), train_labels)
    decoded = decoder.predict(test.reshape(len(test), -1))
    table = np.zeros((classes, classes))
    np.add.at(table, (test_labels, decoded), 1)
    return table / table.sum(axis=1, keepdims=True)


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

    def view(self, split: int, half: int, dims: int) -> View:
        return view(self.halved.averages(split, half, self.conditions), dims)

    def samples(self, split: int, half: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples of one half in shared conditions, with their labels among these."""
        place = np.full(len(self.halved.labels), -1)
        place[self.conditions] = np.arange(len(self.conditions))
        chosen = np.flatnonzero(self.halved.chosen(split, half))
        label = place[self.halved.position[chosen]]
        return self.windows[chosen[label >= 0]], label[label >= 0]


def transferred(a: Source, b: Source, split: int, half: int, dims: int) -> dict[str, np.ndarray]:
    """Confusions (true, decoded) of one half of b's trials.

    Both sessions' other half fits the alignment and the decoder; ``aligned`` and ``floor`` decode
    with a's trials, ``within`` with b's own.
    """
    fit = 1 - half
    view_a, view_b = a.view(split, fit, dims), b.view(split, fit, dims)
    train, train_labels = a.samples(split, fit)
    own, own_labels = b.samples(split, fit)
    test, test_labels = b.samples(split, half)
    found = {}
    for name, (left, right) in {
        "aligned": rotations(view_a, view_b),
        "floor": signs(view_a, view_b),
    }.items():
        found[name] = confusion(
            view_a.of(train) @ left, train_labels, view_b.of(test) @ right, test_labels
        )
    found["within"] = confusion(view_b.of(own), own_labels, view_b.of(test), test_labels)
    return found


def permuted_accuracy(table: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Mean accuracy over conditions (permutation,) with the names of conditions permuted."""
    return table[np.arange(len(table)), permutations].mean(axis=1)
