"""Continuous or clustered: the published encoding manifolds of V1 and retina.

From neuron factors of a permuted tensor decomposition (Dyballa et al. 2024) on: factors times
weights, root, principal components, graph, diffusion map, and the continuity statistics against
two nulls: continuous surrogates, and neurons with each factor shuffled (the marginals and each
neuron's sum alone). The control asks whether such shuffled neurons themselves pass for clustered
against continuous surrogates, as many loadings are 0 and independent factors already leave gaps,
and whether they do by the verdict over both nulls (``control_verdict``).
"""

from __future__ import annotations

from pathlib import Path

import dask
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH, new_figure
from driftwave.graphs.components import components_of
from driftwave.graphs.continuity import ALPHA, compared, continuity
from driftwave.graphs.diffusion import diffusion_map
from driftwave.graphs.gromov import gromov_wasserstein
from driftwave.graphs.knn import knn_graph
from driftwave.graphs.local_dimension import local_dimension
from driftwave.graphs.statistics import EVIDENCE, NO_EVIDENCE, statistics_of
from driftwave.graphs.surrogates import shuffled_loadings

PLANTED = "planted"
QUICK = {"factors": PLANTED, "surrogates": 19, "neurons": 60, "variants": ()}
PAPER = "Dyballa et al. 2024, PNAS 121(4):e2317773121"
STATISTICS = [*EVIDENCE, "combined", *NO_EVIDENCE]
TITLES = {
    "silhouette": "silhouette",
    "hdbscan_noise": "HDBSCAN noise",
    "between_weight": "between-community weight",
    "mst_tail": "spanning-tree tail",
    "combined": "combined",
    "cluster_count": "number of clusters (no evidence)",
    "modularity": "modularity (no evidence)",
}
SHUFFLED = "against shuffled factors"
CONTROL = "shuffled factors"
MAIN = "k = 10"
MARKERS = {MAIN: ("o", True), SHUFFLED: ("o", False), CONTROL: ("x", False)}
RANGE = -20, 120  # of z in the figure; z is cut at 100
# name: neighbours, graph, offset of the seed
CHECKS = {
    "k = 5": (5, "knn", 0),
    "k = 20": (20, "knn", 0),
    "IAN graph": (10, "ian", 0),
    "second seed": (10, "knn", 1),
}


class Params(BaseModel):
    """Settings of the published encoding manifolds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: str = Field(
        "encoding_manifold_factors.npz",
        description="File of the factor matrices, or 'planted' for a continuous and a clustered "
        "population of known kind.",
    )
    surrogates: int = Field(29, ge=19, description="Surrogates of the main test.")
    checks: int = Field(19, ge=19, description="Surrogates of each check of robustness.")
    variants: tuple[str, ...] = Field(
        tuple(CHECKS), description="Checks of robustness: other k, IAN graph, other seeds."
    )
    variance: float = Field(
        0.8, gt=0, le=1, description="Share of variance the principal components must reach."
    )
    neurons: int = Field(600, ge=60, description="Neurons of each planted population.")


def run(params: Params, *, seed: int) -> xr.Dataset:
    """Embed and test both populations.

    Parameters
    ----------
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``value`` (population, statistic); ``z`` and ``p`` (population, variant, statistic), where
        variant is "k = 10", the checks (other k, IAN graph, other seeds), "against shuffled
        factors", and the control "shuffled factors", against its own continuous surrogates;
        ``diffusion`` (neuron, axis), ``component_of``, ``preferred_stimulus`` (index into
        attribute ``stimulus_names``) and ``local_dimension`` (neuron), coord ``population``
        (neuron); ``principal_components``; ``control_verdict`` (population);
        Gromov-Wasserstein ``gw_distance`` (repeat) of the embeddings and ``gw_floor``
        (population, repeat). Attributes ``verdict_<population>``, by the main combined p, and
        ``beyond_marginals_<population>``, by that against shuffled factors.

    Raises
    ------
    InputError
        If the file or an array in it is missing.
    ValueError
        If a variant is unknown.
    """
    unknown = set(params.variants) - set(CHECKS)
    if unknown:
        raise ValueError(f"unknown variants {sorted(unknown)}; known: {list(CHECKS)}")
    source = _planted(params, seed) if params.factors == PLANTED else _read(Path(params.factors))
    tables, neurons, embeddings = [], [], []
    for name, (loading, stimulus) in source.populations.items():
        points = features(loading, params.variance)
        tables.append(_tests(points, loading, params, seed).expand_dims(population_name=[name]))
        one = _embedded(points, loading @ stimulus.T)
        neurons.append(one.assign_coords(population=("neuron", [name] * len(points))))
        embeddings.append(one["diffusion"].values)
    result = xr.concat(tables, "population_name").merge(xr.concat(neurons, "neuron"))
    between = gromov_wasserstein(*embeddings, seed=seed, points=100, repeats=3)
    result["gw_distance"] = between["distance"]
    result["gw_floor"] = (("population_name", "repeat"), between["floor"].values, {"units": "1"})
    verdicts: dict[str, str] = {}
    for name in source.populations:
        p = result["p"].sel(population_name=name, statistic="combined")
        clustered = float(p.sel(variant=MAIN)) <= ALPHA
        verdicts[f"verdict_{name}"] = "clustered" if clustered else "continuous"
        beyond = float(p.sel(variant=SHUFFLED)) <= ALPHA
        verdicts[f"beyond_marginals_{name}"] = "yes" if beyond else "no"
    return result.assign_attrs(
        stimulus_names=", ".join(source.stimulus_names), factors=source.name, **verdicts
    )


class _Source:
    """Of each population the loadings (neuron, factor) and stimulus factors (stimulus, factor)."""

    def __init__(
        self,
        name: str,
        populations: dict[str, tuple[np.ndarray, np.ndarray]],
        stimulus_names: list[str],
    ) -> None:
        self.name, self.populations, self.stimulus_names = name, populations, stimulus_names


def _read(path: Path) -> _Source:
    if not path.is_file():
        raise InputError(
            file=path, field="factors", found="no such file",
            expected="the factor matrices of V1 and retina (.npz)",
            fix="give their path in the experiment's parameter factors, or set it to planted",
        )  # fmt: skip
    populations = {}
    with np.load(path) as file:
        for label, key in (("V1", "v1"), ("retina", "retina")):
            names = [f"{key}_neuron_factors", f"{key}_lambdas", f"{key}_stimulus_factors"]
            missing = [name for name in [*names, "stimulus_names"] if name not in file]
            if missing:
                raise InputError(
                    file=path, field=", ".join(missing), found="no such array",
                    expected=", ".join(names), fix="use the file with all factor matrices",
                )  # fmt: skip
            factor, weight, stimulus = (file[name] for name in names)
            populations[label] = (factor * weight, stimulus)
        return _Source(path.name, populations, [str(one) for one in file["stimulus_names"]])


def _planted(params: Params, seed: int) -> _Source:
    """Six factors: independent gamma loadings, and eight clusters of loadings."""
    rng = generator(seed, "published factors", PLANTED)
    shape = params.neurons, 6
    stimulus = np.eye(6)
    centre = rng.gamma(2, size=(8, 6))
    clustered = np.abs(centre[rng.integers(8, size=shape[0])] + 0.15 * rng.standard_normal(shape))
    populations = {
        "continuous": (rng.gamma(2, size=shape), stimulus),
        "clustered": (clustered, stimulus),
    }
    return _Source(PLANTED, populations, [f"stimulus {k + 1}" for k in range(6)])


def features(loading: np.ndarray, variance: float, components: int | None = None) -> np.ndarray:
    """Principal components (neuron, component) of the roots of the loadings.

    As many as reach the share of variance, or ``components``.

    Parameters
    ----------
    loading : ndarray (neuron, factor)
        Non-negative.
    variance : float
    components : int, optional
    """
    root = np.sqrt(loading)
    left, spread, _ = np.linalg.svd(root - root.mean(axis=0), full_matrices=False)
    share = np.cumsum(spread**2) / (spread**2).sum()
    count = components or int(np.searchsorted(share, variance * (1 - 1e-9))) + 1
    return left[:, :count] * spread[:count]


def _tests(points: np.ndarray, loading: np.ndarray, params: Params, seed: int) -> xr.Dataset:
    found = {MAIN: continuity(points, surrogates=params.surrogates, seed=seed)}
    for name in params.variants:
        neighbours, graph, offset = CHECKS[name]
        found[name] = continuity(
            points, surrogates=params.checks, seed=seed + offset, neighbours=neighbours,
            graph=graph,  # type: ignore[arg-type]
        )  # fmt: skip
    shuffled = [
        dask.delayed(_shuffled)(loading, params, points.shape[1], seed, number)
        for number in range(params.checks)
    ]
    mixed = shuffled_loadings(loading, generator(seed, CONTROL))
    control = features(mixed, params.variance, points.shape[1])
    found[CONTROL] = continuity(control, surrogates=params.checks, seed=seed, loadings=mixed)
    found[SHUFFLED] = compared(statistics_of(points, seed=seed), list(dask.compute(*shuffled)))
    table = xr.Dataset(
        {
            one: (
                ("variant", "statistic"),
                [[float(ds[f"{name}_{one}"]) for name in STATISTICS] for ds in found.values()],
                {"units": "1"},
            )
            for one in ("z", "p")
        },
        coords={"variant": list(found), "statistic": STATISTICS},
    )
    values = [float(found[MAIN][n]) if n != "combined" else np.nan for n in STATISTICS]
    table["value"] = ("statistic", values, {"units": "1"})
    table["control_verdict"] = ((), found[CONTROL].attrs["verdict"])
    table["principal_components"] = ((), points.shape[1], {"units": "1"})
    table["surrogate_share"] = found[MAIN]["surrogate_share"]
    return table


def _shuffled(
    loading: np.ndarray, params: Params, components: int, seed: int, number: int
) -> dict[str, float]:
    rng = generator(seed, "published factors", "shuffled", str(number))
    points = features(shuffled_loadings(loading, rng), params.variance, components)
    return statistics_of(points, seed=int(rng.integers(2**31)))


def _embedded(points: np.ndarray, response: np.ndarray) -> xr.Dataset:
    affinity = knn_graph(points, 10)
    return xr.Dataset(
        {
            "diffusion": (
                ("neuron", "axis"),
                diffusion_map(affinity, components=3).coordinates,
                {"units": "1"},
            ),
            "component_of": ("neuron", components_of(affinity), {"units": "1"}),
            "local_dimension": ("neuron", local_dimension(points), {"units": "1"}),
            "preferred_stimulus": ("neuron", response.argmax(axis=1), {"units": "1"}),
        }
    )


def draw(result: xr.Dataset) -> Figure:
    """Both embeddings, and z of every statistic and variant.

    Parameters
    ----------
    result : Dataset
        Of :func:`run`.
    """
    figure, axes = new_figure(1, 3, height=3.6, width=7.4, width_ratios=[1, 1, 1.1])
    names = result["population_name"].values.tolist()
    with plt.rc_context(STYLE):
        for ax, name in zip(axes, names, strict=False):
            _draw_embedding(ax, result, name)
        _draw_scores(axes[2], result, names)
        for k, stimulus in enumerate(result.attrs["stimulus_names"].split(", ")):
            axes[0].plot([], [], "o", ms=3, color=COLOURS[k % 8], label=stimulus)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=6,
                      title="Preferred stimulus", handletextpad=0.1, columnspacing=0.8)  # fmt: skip
    return figure


def _draw_embedding(ax: Axes, result: xr.Dataset, name: str) -> None:
    """The largest component: coordinates of different components cannot be compared."""
    one = result.isel(neuron=np.flatnonzero(result["population"].values == name))
    largest = np.flatnonzero(one["component_of"].values == 0)
    count, whole = int(one["component_of"].max()) + 1, one.sizes["neuron"]
    one = one.isel(neuron=largest)
    place = one["diffusion"].values
    colours = [COLOURS[k % 8] for k in one["preferred_stimulus"].values]
    ax.scatter(place[:, 0], place[:, 1], s=5, c=colours, lw=0, alpha=0.8)
    main = result.sel(population_name=name, variant=MAIN, statistic="combined")
    shown = f"{whole} neurons" if count == 1 else f"{len(largest)} of {whole} neurons"
    ax.set(xlabel="Diffusion coordinate 1", ylabel="Diffusion coordinate 2")
    ax.set_title(f"{name}, {shown}\nz = {float(main['z']):.1f}, p = {float(main['p']):.3f}")
    ax.set_xticks([])
    ax.set_yticks([])


def _draw_scores(ax: Axes, result: xr.Dataset, names: list[str]) -> None:
    checks = [v for v in result["variant"].values if v not in (MAIN, SHUFFLED, CONTROL)]
    for row, statistic in enumerate(STATISTICS):
        for k, name in enumerate(names):
            one = result.sel(population_name=name, statistic=statistic)["z"].clip(*RANGE)
            place, colour = row + (k - 0.5) * 0.4, COLOURS[k]
            ax.plot(one.sel(variant=checks), [place] * len(checks), "|", ms=5, color=colour)
            for variant, (marker, filled) in MARKERS.items():
                fill = colour if filled else "white"
                ax.plot(one.sel(variant=variant), place, marker, ms=4, color=colour, mfc=fill)
    ax.axvline(0, color=NULL, lw=0.8, zorder=0)
    ax.set_xscale("symlog", linthresh=3, linscale=1)
    ax.set_xticks([-10, -3, 0, 3, 10, 100])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(range(len(STATISTICS)), [TITLES[n].replace(" (", "\n(") for n in STATISTICS])
    ax.set(
        xlim=RANGE,
        ylim=(len(STATISTICS) - 0.5, -0.5),
        xlabel="z, positive: clustered (cut at 100)",
    )
    ax.tick_params(axis="y", length=0)
    for k, name in enumerate(names):
        ax.plot([], [], "o", ms=4, color=COLOURS[k], label=name)
    ax.plot([], [], "|", ms=5, color=TRUTH, label="other k, IAN, seeds")
    for variant in (SHUFFLED, CONTROL):
        marker, _ = MARKERS[variant]
        label = variant if variant == SHUFFLED else f"{variant} themselves"
        ax.plot([], [], marker, ms=4, color=TRUTH, mfc="white", label=label)
    ax.legend(loc="lower center", bbox_to_anchor=(0.1, 1), ncols=2, columnspacing=0.8)
