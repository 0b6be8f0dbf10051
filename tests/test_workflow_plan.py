"""The plan, the pre-flight checks and the summary, without running Snakemake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from driftwave.errors import DriftwaveError
from driftwave.fingerprint import fingerprint
from driftwave.joblog import events_path
from driftwave.preflight import checked_plan
from driftwave.registry import parameter_names
from driftwave.schemas import SCHEMAS, schema_text
from driftwave.summary import as_tsv, counted, last_event, summarise
from driftwave.summary_page import as_html
from driftwave.workflow_figures import FIGURES
from driftwave.workflow_plan import Plan

ROOT = Path(__file__).resolve().parents[1]

SPIKES = {
    "name": "spiking",
    "description": "spikes and a hand",
    "spikes": {},
    "windows": {"length": 1.0},
    "behavior": [{"name": "hand", "series": "processing/behavior/hand"}],
}
FIELD = {"name": "lfp", "description": "a field", "field": {"series": "acquisition/lfp"}}


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """A configuration of two sessions, one of spikes and one of a field, with their files."""
    for layout in (SPIKES, FIELD):
        (tmp_path / f"{layout['name']}.yaml").write_text(yaml.safe_dump(layout))
    for name in ("a.nwb", "b.nwb"):
        (tmp_path / name).write_bytes(b"\0" * 3_000_000)
    write_sessions(tmp_path, "a\ta.nwb\tspiking\t\t", "b\tb.nwb\tlfp\t\t")
    return {
        "results": str(tmp_path / "results"),
        "data_root": str(tmp_path),
        "sessions": str(tmp_path / "sessions.tsv"),
        "layouts": str(tmp_path),
        "models": {"smoothing": {}, "fa": {"plugin": "factor_analysis"}, "oscillators": {}},
    }


def write_sessions(folder: Path, *rows: str) -> None:
    lines = ["session\tnwb\tlayout\tmodels\tstages", *rows]
    (folder / "sessions.tsv").write_text("\n".join(lines) + "\n")


def stages(plan: Plan, session: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for job in plan.jobs(session):
        found.setdefault(job.stage, []).append(job.name)
    return found


def test_a_model_may_choose_what_it_observes(content: dict[str, Any]) -> None:
    chosen = {
        "units": {"plugin": "coupled_oscillators"},
        "electrodes": {"plugin": "coupled_oscillators", "params": {"observations": "field"}},
        "all": {"plugin": "coupled_oscillators", "params": {"observations": "both"}},
    }
    plan = Plan.read({**content, "models": chosen})
    assert plan.observes_of["all"] == {"spikes", "field"}
    assert plan.models("a") == ["units"]
    assert plan.models("b") == ["electrodes"]


def test_figures_of_waves_go_to_models_that_give_such_waves(content: dict[str, Any]) -> None:
    models = {"coupled_oscillators": {}, "wave_rnn": {}, "smoothing": {}, "hilbert_pca": {}}
    plan = Plan.read({**content, "models": models})
    assert plan.sources("a", "waves") == ["coupled_oscillators", "wave_rnn"]
    assert list(plan.figures("a", "decoded_waves")) == ["decoded_waves.coupled_oscillators"]
    assert list(plan.figures("a", "ring_pulses")) == ["ring_pulses.wave_rnn"]
    assert list(plan.figures("a", "rollout")) == ["rollout.coupled_oscillators"]
    assert plan.figures("a", "waves") == {}
    assert list(plan.figures("b", "waves")) == ["waves.recording", "waves.hilbert_pca"]


def test_an_experiment_needs_no_session(content: dict[str, Any]) -> None:
    asked = {"coverage": {"plugin": "oscillator_coverage", "seed": 3}}
    plan = checked_plan({**content, "experiments": asked})
    store, figure = plan.experiments()
    assert (store.stage, figure.stage) == ("experiment", "experiment_figure")
    assert figure.inputs == store.outputs == (plan.path("experiments", "coverage.zarr"),)
    assert set(figure.outputs) <= set(plan.targets())
    assert "experiments" in as_html(summarise(plan))
    unknown = {"coverage": {"plugin": "no_such_experiment"}}
    with pytest.raises(DriftwaveError, match=r"experiments\.coverage.*no_such_experiment"):
        checked_plan({**content, "experiments": unknown})


def test_jobs_follow_from_what_the_layout_yields(content: dict[str, Any]) -> None:
    plan = Plan.read(content)
    assert stages(plan, "a") == {
        "ingest": [""],
        "fit": ["smoothing", "fa"],
        "score": ["smoothing", "fa"],
        "decode": ["recording", "smoothing", "fa"],
        "manifold": ["recording", "smoothing", "fa"],
        "compare": [""],
        "figure": stages(plan, "a")["figure"],
    }
    field = stages(plan, "b")
    assert {stage: field[stage] for stage in field if stage != "figure"} == {
        "ingest": [""],
        "fit": ["oscillators"],
        "score": ["oscillators"],
        "compare": [""],
        "waves": ["recording", "oscillators"],
        "wave_table": [""],
        "wave_film": [""],
    }


def test_every_input_is_made_by_an_earlier_job(content: dict[str, Any]) -> None:
    plan = Plan.read(content)
    made = {plan.nwb(session) for session in plan.sessions}
    for job in plan.all_jobs():
        assert set(job.inputs) <= made, job
        assert not made & set(job.outputs), f"two jobs make an output of {job}"
        made.update(job.outputs)
    assert set(plan.targets()) < made


def test_rows_of_the_table_narrow_models_and_stages(
    content: dict[str, Any], tmp_path: Path
) -> None:
    write_sessions(tmp_path, "a\ta.nwb\tspiking\tfa\tfit,decode", "b\tb.nwb\tlfp\t\twaves")
    plan = checked_plan(content)
    assert plan.models("a") == ["fa"]
    assert plan.sources("a", "decode") == ["recording", "fa"]
    assert plan.sources("a", "manifold") == []
    assert plan.models("b") == []
    assert plan.sources("b", "waves") == ["recording"]


def test_memory_is_sized_from_the_nwb_file(content: dict[str, Any]) -> None:
    plan = Plan.read(content)
    assert plan.megabytes("a") == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": {"smoothin": {}}}, r"models\.smoothin: found 'smoothin'.*mean 'smoothing'"),
        ({"models": {"x": {"plugin": "gp"}}}, r"models\.x\.plugin: found 'gp'"),
        (
            {"models": {"smoothing": {"params": {"colour": 1}}}},
            r"models\.smoothing\.params\.colour: found a parameter that 'smoothing' does not have",
        ),
        ({"models": {"recording": {"plugin": "smoothing"}}}, r"models\.recording: found"),
        ({"decoding": {"plugin": "rigde"}}, r"decoding\.plugin: found 'rigde'.*mean 'ridge'"),
        ({"simulations": {"s": {"simulator": "moon"}}}, r"simulations\.s\.simulator: found 'moon'"),
        ({"sed": 1}, r"cfg\.yaml: sed: found 1"),
        ({"sessions": "nowhere.tsv"}, r"nowhere\.tsv: file: found no such file"),
    ],
)
def test_a_wrong_configuration_is_named_by_its_key(
    content: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(DriftwaveError, match=said):
        checked_plan(content | change, "cfg.yaml")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a\tc.nwb\tspiking\t\t", r"nwb of session a: found no file .*c\.nwb"),
        ("a\ta.nwb\tspikign\t\t", r"found no layout named 'spikign', expected one of"),
        ("a\ta.nwb\tspiking\tfaa\t", r"models of session a: found 'faa'.*Did you mean 'fa'"),
        ("a\ta.nwb\tspiking\toscillators\t", r"found 'oscillators', which observes field"),
        ("a\ta.nwb\tspiking\t\twaves", r"stages of session a: found 'waves'"),
        ("a\ta.nwb\tspiking\t\twawes", r"row 2\.stages\.0: found 'wawes'"),
        ("simulated\ta.nwb\tspiking\t\t", r"found a session named 'simulated'"),
        ("experiments\ta.nwb\tspiking\t\t", r"found a session named 'experiments'"),
    ],
)
def test_a_wrong_session_is_named_by_its_column(
    content: dict[str, Any], tmp_path: Path, row: str, said: str
) -> None:
    write_sessions(tmp_path, row)
    with pytest.raises(DriftwaveError, match=said):
        checked_plan(content)


def test_all_problems_are_told_at_once(content: dict[str, Any], tmp_path: Path) -> None:
    write_sessions(tmp_path, *(f"s{i}\tmissing{i}.nwb\tspiking\t\t" for i in range(13)))
    with pytest.raises(DriftwaveError) as raised:
        checked_plan(content)
    lines = str(raised.value).splitlines()
    assert len(lines) == 11
    assert "missing0.nwb" in lines[0]
    assert lines[-1] == "... and 3 more."


def test_a_simulated_file_need_not_exist(content: dict[str, Any], tmp_path: Path) -> None:
    content |= {
        "data_root": str(tmp_path / "results" / "simulated"),
        "simulations": {"planted": {"simulator": "lorenz"}, "unused": {"simulator": "lorenz"}},
    }
    write_sessions(tmp_path, "a\tplanted.nwb\tspiking\t\t")
    plan = checked_plan(content)
    assert [job.name for job in plan.simulations()] == ["planted"]
    assert plan.simulations()[0].outputs == plan.jobs("a")[0].inputs


def test_parameter_names_are_those_of_the_class() -> None:
    from driftwave.models import smoothing

    assert parameter_names("driftwave.models.smoothing") == set(smoothing.Params.model_fields)


def test_parameter_names_follow_an_imported_class() -> None:
    from driftwave.alignment import compare

    assert parameter_names("driftwave.alignment.compare") == set(compare.Params.model_fields)
    assert parameter_names("driftwave.no_such_package.module") is None


HEAVY = ("torch", "pynwb", "h5py", "xarray", "zarr", "dask", "sklearn", "pandas", "numpy")


def test_planning_the_demo_imports_nothing_heavy() -> None:
    script = f"""
import json, sys, yaml
from driftwave.preflight import checked_plan
from driftwave.workflow_figures import GROUP_FIGURES
demo = yaml.safe_load(open("config/config.yaml"))
more = {{"decoders": {{"lda": {{}}, "wiener": {{}}}}, "geometry": {{"again": {{"plugin": "pca"}}}},
        "connectome": {{}}, "activations": {{"units": {{"model": "langevinflow"}}}}}}
plan = checked_plan(demo | more)
plan.targets()
for job in plan.all_jobs():
    first = job.name.split(".")[0]
    kinds = {{"fit": lambda: plan.plugin_of(job.name), "figure": lambda: first,
             "simulate": lambda: plan.config.simulations[job.name].simulator,
             "detect": lambda: plan.detector_plugin(job.name),
             "decoders": lambda: plan.named_plugin("decoders", first),
             "geometry": lambda: plan.named_plugin("geometry", first),
             "group_figure": lambda: list(GROUP_FIGURES)[0]}}
    if job.stage in ("decode", "manifold", "encode", "waves"):
        plan.code(job.stage, plan.analysis(job.stage).plugin)
    else:
        plan.code(job.stage, kinds.get(job.stage, str)())
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps(heavy))
"""
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == []


def test_a_thousand_sessions_have_a_thousand_times_the_jobs_of_one(
    content: dict[str, Any], tmp_path: Path
) -> None:
    content["models"] = {f"m{i}": {"plugin": "smoothing"} for i in range(6)}
    write_sessions(tmp_path, "s0\ta.nwb\tspiking\t\t")
    one = checked_plan(content).targets()
    write_sessions(tmp_path, *(f"s{i}\ta.nwb\tspiking\t\t" for i in range(1000)))
    assert len(checked_plan(content).targets()) == 1000 * len(one)


def test_fingerprint_ignores_comments_and_docstrings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "labpack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("VALUE = 1\n")
    source = '"""Doc."""\nfrom labpack.helper import VALUE\n\n\ndef f():\n    return VALUE\n'
    monkeypatch.syspath_prepend(str(tmp_path))

    def print_of(main: str, helper: str) -> str:
        from driftwave import fingerprint as module

        (package / "main.py").write_text(main)
        (package / "helper.py").write_text(helper)
        for cached in (module._read, module.fingerprint, module.source_of):
            cached.cache_clear()
        return fingerprint("labpack.main")

    first = print_of(source, "VALUE = 1\n")
    assert print_of(source.replace("Doc.", "Other.") + "# a comment\n", "VALUE = 1\n") == first
    assert print_of(source.replace("return VALUE", "return -VALUE"), "VALUE = 1\n") != first
    assert print_of(source, "VALUE = 2\n") != first
    assert "labpack.main" not in sys.modules


def test_captions_exist_for_every_figure() -> None:
    missing = [n for n in FIGURES if not (ROOT / "workflow" / "report" / f"{n}.rst").is_file()]
    assert missing == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_json_schemas_agree_with_the_classes(name: str) -> None:
    path = ROOT / "workflow" / "schemas" / f"{name}.schema.json"
    assert path.read_text(encoding="utf-8") == schema_text(name), "run: make schemas"


def finish(plan: Plan, *, failed: dict[tuple[str, str], str], killed: tuple = ()) -> None:
    """Make outputs and logs as a run would that goes on past failures."""
    lost: set[str] = set()
    for job in plan.all_jobs():
        key = (job.stage, job.name)
        if lost & set(job.inputs):
            lost.update(job.outputs)
            continue
        log = events_path(job.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        events: list[dict[str, Any]] = [{"state": "started"}]
        if key in failed:
            events.append({"state": "failed", "why": failed[key], "wall_seconds": 1.0})
        elif key not in killed:
            events.append({"state": "done", "wall_seconds": 2.0, "peak_megabytes": 300.0})
        log.write_text("".join(json.dumps(event) + "\n" for event in events))
        if key in failed or key in killed:
            lost.update(job.outputs)
            continue
        for output in map(Path, job.outputs):
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text("made")


def test_summary_tells_done_failed_and_skipped(content: dict[str, Any]) -> None:
    plan = Plan.read(content)
    finish(plan, failed={("fit", "fa"): "a.nwb: units: found <none>, expected some; Add units."})
    states = {(row.session, row.stage, row.name): row for row in summarise(plan)}
    failed = states["a", "fit", "fa"]
    assert (failed.state, failed.seconds) == ("failed", 1.0)
    assert failed.why.endswith("Add units.")
    assert states["a", "score", "fa"].state == "skipped"
    assert states["a", "compare", ""].why == "It needs fit fa, which failed."
    assert states["a", "score", "smoothing"].state == "done"
    assert {row.state for row in states.values() if row.session == "b"} == {"done"}
    page = as_html(list(states.values()))
    assert "found &lt;none&gt;, expected some" in page
    assert "http" not in page
    table = [line.split("\t") for line in as_tsv(states.values()).splitlines()]
    assert {len(cells) for cells in table} == {9}
    assert counted(states.values()).startswith("1 failed, ")


def test_summary_of_a_killed_job_and_of_no_run_at_all(content: dict[str, Any]) -> None:
    plan = Plan.read(content)
    assert {row.state for row in summarise(plan)} == {"not run"}
    finish(plan, failed={}, killed=(("fit", "oscillators"),))
    killed = next(row for row in summarise(plan) if row.name == "oscillators")
    assert killed.state == "failed"
    assert "without a message" in killed.why


def test_report_leaves_out_what_lies_behind_a_failure(content: dict[str, Any]) -> None:
    plan = Plan.read(content)
    finish(plan, failed={})
    assert plan.made() == plan.targets()
    for output in next(j for j in plan.jobs("a") if j.stage == "compare").outputs:
        Path(output).unlink()
    gone = {path for path in plan.targets() if path.startswith(plan.path("a", "comparison"))}
    assert gone
    assert set(plan.made()) == set(plan.targets()) - gone
    Path(plan.jobs("b")[0].outputs[0]).unlink()
    assert not [path for path in plan.made() if path.startswith(plan.path("b"))]


def test_a_log_cut_short_by_a_kill_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    log = tmp_path / "job.jsonl"
    log.write_text('{"state": "started"}\n{"state": "do')
    assert last_event(log) == {"state": "started"}
    assert last_event(tmp_path / "none.jsonl") == {}
