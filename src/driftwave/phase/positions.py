"""Faults of electrode positions: a wrong unit, electrodes at one place, several arrays in one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.spatial import cKDTree

from driftwave.phase.lattices import pitch_of

# mm. Finer than the finest probes and pixels; wider than the sparsest EEG; larger than any head.
FINEST_PITCH = 0.001
WIDEST_PITCH = 100.0
LARGEST_EXTENT = 600.0
# Millimetres per unit.
UNITS = {"m": 1e3, "mm": 1.0, "um": 1e-3}
UNIT_NAMES = {"m": "metres", "mm": "millimetres", "um": "micrometres"}
# Where several units fit, the pitches (mm) most arrays have decide.
USUAL_PITCH = (0.005, 20.0)
# Arrays stand this many pitches apart.
APART = 3.0
# Electrodes of two groups closer than this share of the pitch cannot be of one array, if this many
# (and this share of the smaller group) are: fewer are electrodes listed twice.
COLLISION = 0.25
COLLISIONS = 3
COLLIDED = 0.05


def unlikely_unit(position: np.ndarray, unit: str = "mm") -> tuple[str, str | None] | None:
    """Whether positions (electrode, dimension) in mm were given in another unit than ``unit``.

    Returns
    -------
    (found, guess) or None
        What a message says was found, and the unit the numbers look like (None if none fits);
        None if the pitch lies within 0.001 to 100 mm and the extent below 600 mm. Ten millimetres
        read as micrometres (a 10 um pitch) are not recognised: dense arrays have such pitches.
    """
    place = np.unique(position[np.isfinite(position).all(axis=1)], axis=0)
    if len(place) < 2:
        return None
    pitch, extent = pitch_of(place), float(np.ptp(place, axis=0).max())
    if _plausible(pitch, extent):
        return None
    size = f"pitch {pitch:.2g} mm"
    if pitch >= FINEST_PITCH:
        size += f", extent {extent:.2g} mm"
    fitting = [
        name
        for name, scale in UNITS.items()
        if name != unit and _plausible(pitch / UNITS[unit] * scale, extent / UNITS[unit] * scale)
    ]
    usual = [
        name
        for name in fitting
        if USUAL_PITCH[0] <= pitch / UNITS[unit] * UNITS[name] <= USUAL_PITCH[1]
    ]
    guess = next(iter(usual or fitting), None)
    return size + (f": looks like {UNIT_NAMES[guess]}" if guess else ""), guess


def _plausible(pitch: float, extent: float) -> bool:
    return FINEST_PITCH <= pitch <= WIDEST_PITCH and extent <= LARGEST_EXTENT


def split_arrays(position: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Name of the array each electrode belongs to.

    Parameters
    ----------
    position : ndarray (electrode, dimension)
        mm, finite.
    group : ndarray of str (electrode,)

    Returns
    -------
    ndarray of str (electrode,)
        "" throughout if there is one array. Groups are one array where they come within three
        pitches of each other, as the banks of one array do; its name joins theirs by "+". Where
        electrodes of two groups lie on top of each other (at least three, and 5 % of the smaller
        group), positions are relative to each group, distances between groups mean nothing, and
        every group is an array.
    """
    names = list(dict.fromkeys(group.tolist()))
    members = {name: position[group == name] for name in names}
    trees = {name: cKDTree(place) for name, place in members.items()}
    whole = pitch_of(np.unique(position, axis=0)) if len(np.unique(position, axis=0)) > 1 else 0.0
    pitch = {
        name: pitch_of(np.unique(place, axis=0)) if len(np.unique(place, axis=0)) > 1 else whole
        for name, place in members.items()
    }
    root = {name: name for name in names}
    for one, other in combinations(names, 2):
        few, many = sorted((one, other), key=lambda name: len(members[name]))
        distance, _ = trees[many].query(members[few])
        finest = min(pitch[one], pitch[other])
        collided = int((distance < COLLISION * finest).sum())
        if collided >= max(2, min(COLLISIONS, len(distance)), COLLIDED * len(distance)):
            return group.astype(str)
        if distance.min() <= APART * finest * (1 + 1e-6):
            old, new = root[other], root[one]
            root = {name: new if parent == old else parent for name, parent in root.items()}
    if len(set(root.values())) == 1:
        return np.full(len(group), "", dtype="<U1")
    joined = {
        parent: "+".join(name for name in names if root[name] == parent)
        for parent in set(root.values())
    }
    return np.array([joined[root[name]] for name in group.tolist()])
