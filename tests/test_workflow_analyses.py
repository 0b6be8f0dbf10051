"""What a plan asks of populations beside the main analyses: decoders, geometry, groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from driftwave import registry, workflow_figures, workflow_plan
from driftwave.errors import DriftwaveError
from driftwave.preflight import checked_plan
from driftwave.summary import summarise
from driftwave.summary_page import as_html
from driftwave.workflow_figures import FigureKind
from driftwave.workflow_plan import Plan
from test_workflow_plan import SPIKES, content, finish, stages, write_sessions  # noqa: F401

TASK = {
    "name": "task",
    "description": "spikes in trials",
    "spikes": {},
    "trials": {"window": [0.0, 1.0], "condition": ["side"]},
    "stimulus": {"columns": ["side"]},
}
BARE = TASK | {"name": "bare", "trials": {"window": [0.0, 1.0]}, "stimulus": None}
IMAGING = {"name": "calcium", "description": "traces", "imaging": {"series": "acquisition/dff"}}
PLUGINS = {
    "decoding": {
        "ridge": "",
        "wiener": 'DECODES = "continuous"',
        "lda": 'DECODES = "discrete"',
        "learning_curve": 'DECODES = "both"',
        "place": 'DECODES = "behaviour"',
    },
    "manifolds": {"pca": "", "topology": ""},
    "encoding": {"neural_factors": ""},
}
SOURCE = '''"""A plug-in."""

from pydantic import BaseModel

{constant}


class Params(BaseModel):
    folds: int = 5


def analyse(recording, latents, params, *, seed): ...
'''


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plug-ins of every kind, which the plan reads without importing them."""
    made: dict[str, dict[str, registry.Plugin | None]] = {}
    for kind, names in PLUGINS.items():
        made[kind] = {}
        for name, constant in names.items():
            module = f"plugged_{kind}_{name}"
            path = tmp_path / f"{module}.py"
            path.write_text(SOURCE.format(constant=constant))
            made[kind][name] = registry._describe(kind, name, module, path)
    monkeypatch.syspath_prepend(tmp_path)
    real = registry.plugins
    monkeypatch.setattr(registry, "plugins", lambda kind: made.get(kind) or real(kind))


def add(folder: Path, *layouts: dict[str, Any], stage: str = "") -> None:
    """One session of each layout, named as it."""
    for layout in layouts:
        kept = {key: value for key, value in layout.items() if value is not None}
        (folder / f"{layout['name']}.yaml").write_text(yaml.safe_dump(kept))
        (folder / f"{layout['name']}.nwb").write_bytes(b"\0")
    rows = (f"{one['name']}\t{one['name']}.nwb\t{one['name']}\t\t{stage}" for one in layouts)
    write_sessions(folder, *rows)


def figures(plan: Plan, session: str, monkeypatch: pytest.MonkeyPatch, **kind: Any) -> dict:
    """A session's figures of a kind that the test makes up."""
    monkeypatch.setitem(workflow_plan.FIGURES, "drawn", FigureKind(stage="x", **kind))
    return plan.figures(session, "drawn")


EVERYTHING = {
    "decoders": {"wiener": {}, "lda": {}, "curve": {"plugin": "learning_curve"}},
    "geometry": {"topology": {}, "five": {"plugin": "topology", "params": {"folds": 5}}},
    "encoding": {"plugin": "neural_factors"},
}
SOURCES = ["recording", "smoothing", "fa"]


@pytest.mark.usefixtures("plugins")
def test_decoders_run_where_there_is_what_they_decode(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, SPIKES, TASK, BARE)
    plan = checked_plan(content | EVERYTHING)
    decoded = {s: stages(plan, s).get("decoders", []) for s in plan.sessions}
    both = [f"{name}.{source}" for name in ("wiener", "curve") for source in SOURCES]
    assert decoded["spiking"] == both
    assert decoded["task"] == [f"{n}.{s}" for n in EVERYTHING["decoders"] for s in SOURCES]
    assert decoded["bare"] == []
    place = checked_plan(content | {"decoders": {"place": {}}})
    assert [s for s in plan.sessions if "decoders" in stages(place, s)] == ["spiking"]
    job = next(j for j in plan.jobs("task") if j.name == "lda.fa" and j.stage == "decoders")
    assert job.outputs == (plan.path("task", "decoders", "lda", "fa.zarr"),)
    assert job.inputs == (plan.recording("task"), plan.store("task", "latents", "fa"))


@pytest.mark.usefixtures("plugins")
def test_conditions_alone_are_classes_to_decode(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, TASK | {"stimulus": None}, stage="decode")
    plan = checked_plan(content | {"decoders": {"lda": {}, "wiener": {}}})
    assert stages(plan, "task")["decoders"] == ["lda.recording"]
    assert "decode" not in stages(plan, "task")
    with pytest.raises(DriftwaveError, match="stages of session task: found 'decode'"):
        checked_plan(content | {"decoders": {"wiener": {}}})


@pytest.mark.usefixtures("plugins")
def test_one_table_holds_all_decoders_and_sources(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, TASK)
    plan = checked_plan(content | {"decoders": {"lda": {}}})
    stores = plan.decoding_table("task")
    assert list(stores) == [f"{d}/{s}" for d in ("ridge", "lda") for s in SOURCES]
    job = next(j for j in plan.jobs("task") if j.stage == "decoding_table")
    assert job.inputs == tuple(stores.values())
    assert [Path(path).name for path in job.outputs] == ["decoding.tsv", "decoding.html"]
    assert "decoding_table" not in stages(Plan.read(content), "task")


@pytest.mark.usefixtures("plugins")
def test_geometry_and_encoding_run_on_every_source(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, SPIKES, TASK)
    plan = checked_plan(content | EVERYTHING)
    expected = [f"{name}.{source}" for name in ("topology", "five") for source in SOURCES]
    assert stages(plan, "spiking")["geometry"] == expected
    assert "encode" not in stages(plan, "spiking")  # windows hold no repeated trials
    assert stages(plan, "task")["encode"] == SOURCES
    store = plan.path("task", "encoding", "recording.zarr")
    assert next(j for j in plan.jobs("task") if j.stage == "encode").outputs == (store,)
    assert "encode" not in stages(Plan.read(content), "task")


@pytest.mark.usefixtures("plugins")
def test_a_row_of_the_table_may_ask_for_encoding_only(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, TASK, stage="encode")
    plan = checked_plan(content | EVERYTHING)
    assert set(stages(plan, "task")) - {"figure"} == {"ingest", "encode"}
    with pytest.raises(DriftwaveError, match=r"found 'encode'.*its encoding is null"):
        checked_plan(content)
    add(tmp_path, SPIKES, stage="encode")
    with pytest.raises(DriftwaveError, match="stages of session spiking: found 'encode'"):
        checked_plan(content | EVERYTHING)


HIDDEN = {"models": {"smoothing": {}, "fa": {"plugin": "langevinflow"}}}  # fa is of a network


@pytest.mark.usefixtures("plugins")
def test_activations_are_sources_of_manifolds_and_of_decoders_that_ask(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, TASK, IMAGING)
    (tmp_path / "task_units.nwb").write_bytes(b"\0")
    asked = {"hidden": {"model": "fa"}, "mine": {"path": "{session}_units.nwb"}}
    decoders = {"lda": {}, "asks": {"plugin": "lda", "activations": True}}
    plan = checked_plan(
        content | EVERYTHING | HIDDEN | {"activations": asked, "decoders": decoders}
    )
    found = stages(plan, "task")
    assert found["activations"] == ["hidden", "mine"]
    for stage in ("manifold", "encode"):
        assert found[stage] == [*SOURCES, "hidden", "mine"]
    assert found["decode"] == SOURCES
    assert found["decoders"] == [
        *(f"lda.{s}" for s in SOURCES),
        *(f"asks.{s}" for s in (*SOURCES, "hidden", "mine")),
    ]
    assert "topology.mine" in found["geometry"]
    assert "activations" not in stages(plan, "calcium")
    hidden, mine = (job for job in plan.jobs("task") if job.stage == "activations")
    assert hidden.inputs == (plan.recording("task"), plan.path("task", "models", "fa", "fit"))
    assert mine.inputs == (plan.recording("task"), str(tmp_path / "task_units.nwb"))
    job = next(j for j in plan.jobs("task") if (j.stage, j.name) == ("manifold", "hidden"))
    assert job.inputs[1:] == hidden.outputs == (plan.path("task", "activations", "hidden.zarr"),)
    finish(plan, failed={})
    assert plan.made() == plan.targets()


@pytest.mark.usefixtures("plugins")
def test_further_analyses_may_leave_models_out(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, TASK)
    alone = {"sources": "recording"}
    asked = {"decoders": {"lda": alone, "wiener": {}}, "geometry": {"topology": alone}}
    plan = checked_plan(content | HIDDEN | asked | {"activations": {"hidden": {"model": "fa"}}})
    found = stages(plan, "task")
    assert found["decoders"] == ["lda.recording", *(f"wiener.{s}" for s in SOURCES)]
    assert found["geometry"] == ["topology.recording"]
    both = {"decoders": {"lda": alone | {"activations": True}}}
    with pytest.raises(DriftwaveError, match="activations: true needs sources: all"):
        checked_plan(content | both)
    with pytest.raises(DriftwaveError, match="sources"):
        checked_plan(content | {"geometry": {"topology": {"sources": "models"}}})


@pytest.mark.usefixtures("plugins")
def test_activations_that_nothing_reads_are_not_made(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, TASK, stage="fit,decode")
    plan = checked_plan(content | HIDDEN | {"activations": {"hidden": {"model": "fa"}}})
    assert "activations" not in stages(plan, "task")


def test_the_first_seed_stands_for_a_model(content: dict[str, Any]) -> None:  # noqa: F811
    seeds = {"ndt": {"seeds": 2}, "smoothing": {}}
    asked = {"activations": {"hidden": {"model": "ndt"}}, "models": seeds}
    plan = checked_plan(content | asked)
    assert plan.activations_fit("a", "hidden").endswith("models/ndt-s1/fit")


def test_groups_compare_recordings_or_latents(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, SPIKES, TASK)
    sessions = ["spiking", "task"]
    groups = {"raw": {"sessions": sessions}, "fits": {"sessions": sessions, "source": "fa"}}
    plan = checked_plan(content | {"groups": groups})
    jobs = {job.name: job for job in plan.comparisons() if job.stage == "align"}
    assert jobs["raw"].inputs == tuple(map(plan.recording, sessions))
    assert jobs["raw"].outputs == (plan.path("groups", "raw.zarr"),)
    latents = tuple(plan.store(s, "latents", "fa") for s in sessions)
    assert jobs["fits"].inputs == (*map(plan.recording, sessions), *latents)
    assert set(plan.targets()) >= {
        path for job in plan.comparisons() if job.stage == "group_figure" for path in job.outputs
    }
    made = {path for job in plan.all_jobs() for path in job.outputs}
    assert {path for job in jobs.values() for path in job.inputs} <= made
    assert "groups of sessions" in as_html(summarise(plan))


def test_groups_may_compare_activations_that_nothing_else_reads(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, SPIKES, TASK, stage="fit")
    groups = {"units": {"sessions": ["spiking", "task"], "source": "hidden"}}
    asked = {"groups": groups, "activations": {"hidden": {"model": "fa"}}}
    plan = checked_plan(content | HIDDEN | asked)
    job = next(job for job in plan.comparisons() if job.stage == "align")
    made = {path for job in plan.all_jobs() for path in job.outputs}
    assert plan.activations_store("task", "hidden") in job.inputs
    assert set(job.inputs) <= made


@pytest.mark.usefixtures("plugins")
def test_groups_take_encoding_manifolds_where_there_are_some(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, SPIKES, TASK)
    groups = {"raw": {"sessions": ["spiking", "task"]}}
    plan = checked_plan(content | EVERYTHING | {"groups": groups})
    store = plan.path("task", "encoding", "recording.zarr")
    assert plan.group_inputs("raw")["encoding"] == {"task": store}


def test_a_group_of_sessions_that_are_not_there_is_left_out(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, SPIKES, TASK)
    (tmp_path / "task.nwb").unlink()
    groups = {"pair": {"sessions": ["spiking", "task"]}}
    plan = checked_plan(content | {"groups": groups, "absent": "skip"})
    assert plan.comparisons() == []
    row = next(row for row in summarise(plan) if row.session == "groups")
    assert (row.state, row.name) == ("skipped", "pair")


def test_connectomes_are_of_imaging_and_spikes(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    add(tmp_path, SPIKES, IMAGING)
    plan = checked_plan(content | {"connectome": {}})
    for session in plan.sessions:
        job = next(job for job in plan.jobs(session) if job.stage == "connectome")
        assert job.outputs == (plan.path(session, "connectome.zarr"),)
    some = checked_plan(content | {"connectome": {"sessions": ["calcium"]}})
    assert [s for s in some.sessions if "connectome" in stages(some, s)] == ["calcium"]
    assert "connectome" not in stages(Plan.read(content), "calcium")


@pytest.mark.usefixtures("plugins")
def test_figures_of_further_analyses(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(tmp_path, TASK)
    plan = checked_plan(content | EVERYTHING | {"connectome": {}})
    shape = frozenset({"topology"})
    drawn = figures(plan, "task", monkeypatch, results="geometry", plugins=shape)
    assert list(drawn) == [f"drawn.{n}.{s}" for n in ("topology", "five") for s in SOURCES]
    store = plan.path("task", "geometry", "five", "fa.zarr")
    assert drawn["drawn.five.fa"] == {"geometry": store}
    classes = frozenset({"lda", "svm"})
    drawn = figures(plan, "task", monkeypatch, results="decoders", plugins=classes)
    assert list(drawn) == [f"drawn.lda.{source}" for source in SOURCES]
    drawn = figures(plan, "task", monkeypatch, results="encoding", each=True)
    encoding = plan.path("task", "encoding", "recording.zarr")
    assert drawn["drawn.recording"] == {"encoding": encoding}
    connectome = plan.path("task", "connectome.zarr")
    drawn = figures(plan, "task", monkeypatch, results="connectome")
    assert drawn == {"drawn": {"connectome": connectome}}
    assert figures(plan, "task", monkeypatch, results="both_sides") == {
        "drawn": {
            "manifold": plan.path("task", "manifold", "recording.zarr"),
            "encoding": encoding,
            "decoding": plan.path("task", "decoding", "recording.zarr"),
            "learning_curve": plan.path("task", "decoders", "curve", "recording.zarr"),
        }
    }
    assert figures(Plan.read(content), "task", monkeypatch, results="both_sides") == {}


def test_figures_of_groups_are_told_apart_where_there_are_several() -> None:
    one = {"distances": FigureKind(stage="alignment", results="group")}
    assert workflow_figures.group_figures(one) == {"distances": ""}
    two = one | {"maps": FigureKind(stage="alignment", results="group")}
    assert workflow_figures.group_figures(two) == {"distances": ".distances", "maps": ".maps"}


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decoders": {"winer": {}}}, r"decoders\.winer: found 'winer'.*mean 'wiener'"),
        ({"decoders": {"x": {"plugin": "gp"}}}, r"decoders\.x\.plugin: found 'gp'"),
        ({"decoders": {"ridge": {}}}, r"decoders\.ridge: found a decoder named as the plug-in"),
        ({"decoders": {"lda": {"params": {"fold": 1}}}}, r"lda\.params\.fold.*mean 'folds'"),
        ({"decoders": {"lda": {"sessions": ["spiking"]}}}, r"lda\.sessions: found 'spiking'"),
        ({"decoders": {"lda": {"sessions": ["tsk"]}}}, r"'tsk', which is no.*mean 'task'"),
        ({"geometry": {"topolgy": {}}}, r"geometry\.topolgy: found.*mean 'topology'"),
        ({"encoding": {"plugin": "factors"}}, r"encoding\.plugin: found 'factors'"),
        ({"activations": {"fa": {"model": "fa"}}}, r"activations\.fa: found activations named"),
        ({"activations": {"x": {"model": "fx"}}}, r"activations\.x\.model: found 'fx'"),
        ({"activations": {"x": {"model": "smoothing"}}}, "'smoothing' gives no activations"),
        ({"activations": {"x": {"path": "{session}.nw"}}}, "path must end in"),
        ({"activations": {"x": {"path": "all.nwb"}}}, r"path must hold \{session\}"),
        ({"activations": {"x": {}}}, "give either model or path"),
        ({"activations": {"x": {"path": "{session}_x.nwb"}}}, r"x\.path: found no file .*task_x"),
        ({"groups": {"g": {"sessions": ["task"]}}}, r"groups\.g\.sessions: found \['task'\]"),
        ({"groups": {"g": {"sessions": ["task", "tisk"]}}}, r"'tisk', which is no session"),
        ({"groups": {"g": {"sessions": ["task", "task"]}}}, "each session once"),
        ({"groups": {"g": {"sessions": ["task", "calcium"]}}}, "'calcium', which has nothing"),
        (
            {"groups": {"g": {"sessions": ["task", "spiking"], "source": "oscillators"}}},
            r"groups\.g\.source: found 'oscillators', which session task does not have",
        ),
        ({"connectome": {"sessions": ["lfp"]}}, r"connectome\.sessions: found 'lfp'"),
        ({"spike_waves": {"params": {"bnad": 1}}}, r"spike_waves\.params\.bnad"),
    ],
)
def test_a_wrong_name_is_told_before_any_job(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
    change: dict[str, Any],
    said: str,
) -> None:
    add(tmp_path, SPIKES, TASK, IMAGING)
    with pytest.raises(DriftwaveError, match=said):
        checked_plan(content | change, "cfg.yaml")


def test_a_session_may_not_be_named_as_the_folder_of_groups(
    content: dict[str, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    write_sessions(tmp_path, "groups\ta.nwb\tspiking\t\t")
    with pytest.raises(DriftwaveError, match="a session named 'groups'"):
        checked_plan(content)
