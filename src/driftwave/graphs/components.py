"""Connected components of a graph."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components


def components_of(affinity: sp.sparray | sp.spmatrix | np.ndarray) -> np.ndarray:
    """Label (point,) of the component of each point: 0 is the largest, ties by first point."""
    count, labels = connected_components(sp.csr_array(affinity), directed=False)
    size = np.bincount(labels, minlength=count)
    first = np.full(count, len(labels))
    np.minimum.at(first, labels, np.arange(len(labels)))
    rank = np.empty(count, dtype=int)
    rank[np.lexsort((first, -size))] = np.arange(count)
    return rank[labels]
