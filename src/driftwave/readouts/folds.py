"""Cross-validation folds that keep what is correlated in time on one side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def grouped_folds(strata: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Fold (trial,) of whole trials, each fold with its share of every stratum.

    Parameters
    ----------
    strata : ndarray (trial,)
        Condition labels; all equal for no stratification.
    folds : int
    rng : Generator
    """
    _, label = np.unique(strata, return_inverse=True)
    order = np.lexsort((rng.random(len(strata)), label))
    fold = np.empty(len(strata), int)
    fold[order] = np.arange(len(strata)) % folds
    return fold


def block_folds(trials: int, folds: int) -> np.ndarray:
    """Fold (trial,) by contiguous blocks of nearly equal length."""
    return np.repeat(np.arange(folds), [len(b) for b in np.array_split(np.arange(trials), folds)])


def near(held: np.ndarray, gap: int) -> np.ndarray:
    """Trials within ``gap`` positions of a held one, and not held themselves (trial,)."""
    padded = np.pad(held, gap)
    close = np.zeros_like(held)
    for shift in range(2 * gap + 1):
        close |= padded[shift : shift + len(held)]
    return close & ~held


@dataclass(frozen=True)
class Plan:
    """Which trials are trained on, scored and left out around them.

    ``atoms`` are the smallest groups of trials that are always used together, so that what is
    computed once per atom serves every combination of folds.

    Attributes
    ----------
    atoms : list of ndarray of int
        Trial positions of each atom.
    held : ndarray of bool (fold, atom)
        Atoms scored in a fold.
    train : ndarray of bool (fold, atom)
        Atoms that may be trained on while a fold is held (neither held nor in its gap).
    test : ndarray of bool (atom,)
        Atoms of the test split.
    fitting : ndarray of bool (atom,)
        Atoms the test split's decoder is fitted on.
    """

    atoms: list[np.ndarray]
    held: np.ndarray
    train: np.ndarray
    test: np.ndarray
    fitting: np.ndarray

    @property
    def folds(self) -> int:
        return len(self.held)

    @property
    def trainable(self) -> bool:
        """Whether something is left to train on with any two folds held."""
        both = self.train[:, None] & self.train[None]
        return bool(both.any(axis=-1)[~np.eye(self.folds, dtype=bool)].all())

    def trials(self, chosen: np.ndarray) -> np.ndarray:
        """Trial positions in the chosen atoms, in order."""
        picked = [atom for atom, use in zip(self.atoms, chosen, strict=True) if use]
        return np.sort(np.concatenate(picked)) if picked else np.zeros(0, int)


def make_plan(fold: np.ndarray, fit: np.ndarray, test: np.ndarray, gap: int) -> Plan:
    """Divide trials into atoms for all folds and the test split.

    Parameters
    ----------
    fold : ndarray of int (trial,)
        Fold of each trial, -1 for trials outside the cross-validation.
    fit, test : ndarray of bool (trial,)
        Trials the test split's decoder may be fitted on, and the test split.
    gap : int
        Trials left out of training either side of a held trial (0 unless trials abut).
    """
    folds = range(int(fold.max()) + 1)
    held = np.array([fold == k for k in folds])
    closed = np.array([near(rows, gap) for rows in held]).reshape(held.shape)
    masks = np.vstack([held, closed, test, near(test, gap), fit, fold >= 0])
    needed = np.flatnonzero((fold >= 0) | fit | test)
    signature, group = np.unique(masks[:, needed].T, axis=0, return_inverse=True)
    group = group.ravel()
    atoms = [needed[group == k] for k in range(len(signature))]
    count = len(held)
    in_fold, in_gap = signature[:, :count].T, signature[:, count : 2 * count].T
    is_test, near_test, may_fit, validated = signature[:, 2 * count :].T
    return Plan(
        atoms=atoms,
        held=in_fold,
        train=validated & ~in_fold & ~in_gap,
        test=is_test,
        fitting=may_fit & ~is_test & ~near_test,
    )
