"""The workflow as Snakemake sees it and, marked slow, as it runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from workflow_project import CONFIG, ROOT, Project, finished_project, make_project

PAGE = "<!DOCTYPE html><html><body>404 Not Found</body></html>"
LORENZ_ONLY = CONFIG | {"models": {name: CONFIG["models"][name] for name in ("smoothing",)}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A copy of the workflow with one small simulated session, not yet run."""
    made = make_project(tmp_path / "project")
    made.configure(LORENZ_ONLY, "lorenz\tlorenz.nwb\tlorenz\t\tfit")
    return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny workflow after a full run."""
    return finished_project(tmp_path_factory.getbasetemp() / "finished")


def test_dry_run_of_the_demo_makes_what_is_planned() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--quiet", "host"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    total = re.search(r"^total +(\d+)$", answer.stdout + answer.stderr, flags=re.MULTILINE)
    assert total is not None
    assert int(total[1]) == len(list(Project(ROOT).plan().all_jobs())) + 1  # and rule all


@pytest.mark.slow
def test_rules_write_the_logs_that_the_summary_reads(project: Project) -> None:
    answer = project.snakemake("--dry-run", "--printshellcmds")
    logs = set(re.findall(r" --log (\S+)", answer.stdout))
    assert logs == {job.log for job in project.plan().all_jobs()}


@pytest.mark.slow
def test_workflow_is_clean_for_its_linter_and_formatter() -> None:
    commands = (
        [sys.executable, "-m", "snakemake", "--lint"],
        [shutil.which("snakefmt", path=str(Path(sys.executable).parent)) or "snakefmt", "--check"],
    )
    for command in commands:
        files = ["Snakefile", "workflow"] if "snakefmt" in command[0] else []
        answer = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.slow
def test_catalog_entry_is_the_same_workflow(project: Project) -> None:
    jobs = set(project.planned("--snakefile", "workflow/Snakefile"))
    assert jobs == set(project.planned())
    assert len(jobs - {"All results are made"}) == len(list(project.plan().all_jobs()))


def test_rule_files_stay_short() -> None:
    for path in [ROOT / "workflow" / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]:
        assert len(path.read_text().splitlines()) < 120, path


def test_every_rule_has_log_benchmark_threads_and_resources() -> None:
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        for rule in re.split(r"^ *rule ?\w*:$", path.read_text(), flags=re.MULTILINE)[1:]:
            if "shell:" in rule:
                for directive in ("log:", "benchmark:", "threads:", "resources:", "message:"):
                    assert f"    {directive}" in rule, f"{path.name}: {directive} in {rule}"
                assert "mem_mb=" in rule
                assert "runtime=" in rule


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("config/config.yaml", "smoothing:", "smoothign:", "models.smoothign: found 'smoothign'"),
        ("config/tiny.tsv", "lorenz.nwb", "gone.nwb", "nwb of session lorenz: found no file"),
    ],
)
def test_a_mistake_is_told_before_any_job(
    project: Project, path: str, old: str, new: str, said: str
) -> None:
    file = project.folder / path
    file.write_text(file.read_text().replace(old, new, 1))
    answer = project.snakemake("--dry-run", check=False)
    assert answer.returncode != 0
    assert said in answer.stdout
    assert "Traceback" not in answer.stdout


def test_a_configuration_file_replaces_the_demo(project: Project) -> None:
    other = LORENZ_ONLY | {"sessions": "config/other.tsv", "results": "elsewhere"}
    other |= {"data_root": "elsewhere/simulated"}
    (project.folder / "config" / "other.yaml").write_text(yaml.safe_dump(other))
    table = (project.folder / "config" / "tiny.tsv").read_text()
    (project.folder / "config" / "other.tsv").write_text(table.replace("lorenz\t", "mine\t", 1))
    project.configure(CONFIG, "array\tarray.nwb\tarray\toscillators\t")
    jobs = project.planned("--configfile", "config/other.yaml")
    assert "Fit smoothing to mine" in jobs
    assert not [job for job in jobs if "array" in job or "oscillators" in job]
    assert all("elsewhere/" in job for job in jobs if job.startswith("Draw"))


@pytest.mark.slow
def test_a_second_run_does_nothing(finished: Project) -> None:
    assert finished.planned() == []
    assert "Nothing to be done" in finished.snakemake().stdout


@pytest.mark.slow
def test_every_job_is_done_and_every_store_whole(finished: Project) -> None:
    table = pd.read_csv(finished.folder / "results" / "summary.tsv", sep="\t")
    assert set(table["state"]) == {"done"}, table[table["state"] != "done"].to_string()
    assert (table["seconds"] > 0).all()
    assert (table["peak_megabytes"] > 10).all()
    scripts = Path(sys.executable).parent
    subprocess.run([scripts / "driftwave", "verify", finished.folder / "results"], check=True)


@pytest.mark.slow
def test_editing_a_model_reruns_that_model_only(finished: Project) -> None:
    source = "src/driftwave/models/smoothing.py"
    text = (finished.folder / source).read_text()
    try:
        (finished.folder / source).write_text(text + "\n# A comment changes nothing.\n")
        assert finished.planned() == []
        (finished.folder / source).write_text(text + "\n_EDITED = True\n")
        jobs = finished.planned()
    finally:
        (finished.folder / source).write_text(text)
    assert [job for job in jobs if job.startswith("Fit")] == ["Fit smoothing to lorenz"]
    assert not [job for job in jobs if job.startswith(("Simulate", "Ingest"))]
    assert not [job for job in jobs if "array" in job]
    assert not [job for job in jobs if job.endswith("source factor_analysis")]
    assert "Score smoothing on lorenz" in jobs


@pytest.mark.slow
def test_changing_a_parameter_reruns_that_model_only(finished: Project) -> None:
    config = finished.folder / "config" / "config.yaml"
    text = config.read_text()
    try:
        config.write_text(text.replace("draws: 1", "draws: 2"))
        jobs = finished.planned()
    finally:
        config.write_text(text)
    assert [job for job in jobs if job.startswith("Fit")] == ["Fit smoothing to lorenz"]


@pytest.mark.slow
def test_a_session_that_fails_leaves_the_others_alone(project: Project) -> None:
    project.configure(
        LORENZ_ONLY,
        "broken\tbroken.nwb\tlorenz\t\tfit",
        "lorenz\tlorenz.nwb\tlorenz\t\tfit",
    )
    broken = project.folder / "results" / "simulated" / "broken.nwb"
    broken.parent.mkdir(parents=True)
    broken.write_text(PAGE)
    answer = project.snakemake("--keep-going", check=False)
    assert answer.returncode != 0
    assert "Jobs: 1 failed, " in answer.stdout
    project.snakemake("summary", "--forcerun", "summary")
    project.snakemake("made", "--report", "results/report.html")
    table = pd.read_csv(project.folder / "results" / "summary.tsv", sep="\t")
    broken_rows = table[table["session"] == "broken"].set_index("stage")
    assert broken_rows.loc["ingest", "state"] == "failed"
    why = broken_rows.loc["ingest", "why"]
    assert "broken.nwb" in why
    assert "found" in why
    assert "expected" in why
    assert why in " ".join(answer.stdout.split())
    assert set(broken_rows.drop("ingest")["state"]) == {"skipped"}
    assert set(table.loc[table["session"] != "broken", "state"]) == {"done"}
    assert not (project.folder / "results" / "broken" / "recording.zarr").exists()
    assert not list((project.folder / "results" / "broken").glob(".*partial"))
    assert (project.folder / "results" / "lorenz" / "figures" / "rates.png").exists()
    report = (project.folder / "results" / "report.html").read_text()
    assert "results/lorenz/figures/rates.png" in report


def test_make_names_targets_before_the_option_that_would_swallow_them() -> None:
    """Snakemake's --config takes every word after it for a KEY=VALUE pair."""
    plan = subprocess.run(
        ["make", "--dry-run", "recordings"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    calls = [line for line in plan.splitlines() if " --config " in line]
    assert any(" summary " in call for call in calls)
    for call in calls:
        after = call.split(" --config ", 1)[1].split()[:2]
        assert after[0].startswith("data_root=")
        assert after[1] in ("||", ">")
