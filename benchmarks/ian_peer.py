"""CPU seconds and graph of the reference IAN; run by an interpreter that has what it needs.

Usage: PYTHON benchmarks/ian_peer.py FOLDER POINTS.npy OBJECTIVE SOLVER RESULT.npz

FOLDER is a checkout of github.com/dyballa/IAN with its extension built (`python setup.py build_ext
--inplace`, needs cython; the rest needs cvxpy, matplotlib and scikit-learn). OBJECTIVE is "greedy"
or "l1"; SOLVER the name of one of cvxpy's, or "default". Prints one line of JSON. With the
arguments `about SOLVER` it prints versions and the solver.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def about(solver: str) -> str:
    """Versions, and the solver that takes the linear programme."""
    import cvxpy as cp
    import scipy

    x = cp.Variable(2)
    problem = cp.Problem(cp.Minimize(cp.sum(x)), [x >= 1])
    problem.solve(solver=None if solver == "default" else solver)
    used = problem.solver_stats.solver_name
    why = " (the default)" if solver == "default" else ""
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}, cvxpy {cp.__version__}"
    return f"{versions}, linear programme by {used}{why}"


def main() -> None:
    if sys.argv[1] == "about":
        print(about(sys.argv[2]))
        return
    folder, points_file, objective, solver, result = sys.argv[1:]
    sys.path.insert(0, folder)
    from ian.ian import IAN

    points = np.load(points_file)
    options = {"obj": objective, "plot_final_stats": False, "verbose": 0}
    options["solver"] = None if solver == "default" else solver
    IAN("exact", points[:100], **options)  # imports and first calls, before the clock runs
    gabriel, _ = IAN("exact", points, return_processed_inputs=True, **options)
    start = time.process_time()
    graph, _, scale, _ = IAN("exact", points, **options)
    seconds = time.process_time() - start
    first, last = gabriel.tocoo(), graph.tocoo()
    np.savez(
        result,
        gabriel=np.column_stack([first.row, first.col]),
        graph=np.column_stack([last.row, last.col]),
        scale=scale,
    )
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
