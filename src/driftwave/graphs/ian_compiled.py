"""Compiled loops of iterated adaptive neighbourhoods."""

from __future__ import annotations

import numpy as np
from numba import njit

FARTHEST_POWER = 36.0  # exp(-36) is rounding beside 1


@njit(cache=True)
def gabriel_edges(points, distance, index):
    """Pairs whose ball (the segment between them its diameter) holds no third point.

    Whatever lies in that ball is nearer to either end than the other end is, so the nearer
    neighbours of one end decide.

    Parameters
    ----------
    points : ndarray (point, feature)
    distance, index : ndarray (point, neighbour)
        Nearest first.

    Returns
    -------
    ends : ndarray of int (pair, 2)
    length : ndarray (pair,)
    """
    size, wanted = index.shape
    ends, lengths = [], []
    for i in range(size):
        for a in range(wanted):
            j = index[i, a]
            square = distance[i, a] ** 2
            empty = True
            for b in range(a):
                third = index[i, b]
                gap = distance[i, b] ** 2
                for f in range(points.shape[1]):
                    gap += (points[j, f] - points[third, f]) ** 2
                if gap <= square * (1 + 1e-12):
                    empty = False
                    break
            if empty:
                ends.append((i, j))
                lengths.append(distance[i, a])
    pairs, length = np.empty((len(ends), 2), np.int64), np.empty(len(ends))
    for k in range(len(ends)):
        pairs[k, 0], pairs[k, 1] = ends[k]
        length[k] = lengths[k]
    return pairs, length


@njit(cache=True)
def greedy_scales(ends, length, farthest, factor):
    """Scales that cover each edge, found edge by edge; within the farthest neighbour's distance.

    Parameters
    ----------
    ends : ndarray of int (edge, 2)
    length : ndarray (edge,)
    farthest : ndarray (point,)
    factor : float
        The scales are those of factor 1, times the factor.

    Returns
    -------
    ndarray (point,)
    """
    scale = np.zeros(len(farthest))
    for k in range(len(length) - 1, -1, -1):
        i, j = ends[k, 0], ends[k, 1]
        need = length[k] ** 2
        if scale[i] == 0 and scale[j] == 0:
            scale[i] = scale[j] = length[k]
        elif scale[i] == 0:
            scale[i] = need / scale[j]
        elif scale[j] == 0:
            scale[j] = need / scale[i]
        elif scale[i] * scale[j] < need:
            growth = np.sqrt(need / (scale[i] * scale[j]))
            scale[i] *= growth
            scale[j] *= growth
        # What one end cannot take on, the other does.
        if scale[i] > farthest[i]:
            scale[j] *= scale[i] / farthest[i]
            scale[i] = farthest[i]
        elif scale[j] > farthest[j]:
            scale[i] *= scale[j] / farthest[j]
            scale[j] = farthest[j]
    return factor * scale


@njit(cache=True)
def volume_ratios(distance, index, scale, degree, weighted):
    """Volume of the kernel about each point over that of its neighbours; 0 without neighbours.

    Parameters
    ----------
    distance, index : ndarray (point, neighbour)
        Nearest first.
    scale, degree : ndarray (point,)
    weighted : bool
        Of the kernel of both points' scales; else of each point's own.
    """
    size, wanted = index.shape
    ratio = np.zeros(size)
    for i in range(size):
        if degree[i] == 0 or scale[i] == 0:
            continue
        total = 1.0
        for a in range(wanted):
            other = scale[index[i, a]] if weighted else scale[i]
            if other == 0:
                continue
            power = distance[i, a] ** 2 / (scale[i] * other)
            if power < FARTHEST_POWER:
                total += np.exp(-power)
            elif not weighted:
                break
        count = max(2.0, float(degree[i]))
        ratio[i] = total / (count * (np.sqrt(np.pi) / 2) ** np.log2(count))
    return ratio
