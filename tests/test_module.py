"""The workflow as a Snakemake module of another repository, and the workflow catalog's standard."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from driftwave.store import open_dataset, verify_store
from workflow_project import CONFIG, Project, make_project

SNAKEFILE = """
configfile: "config/config.yaml"


module driftwave:
    snakefile:
        "{snakefile}"
    config:
        config["driftwave"]
{more}

use rule * from driftwave as driftwave_*


rule all:
    default_target: True
    input:
        "out/table.txt",
        rules.driftwave_all.input,


rule table:
    input:
        "out/{results}/mine/scores/smoothing.tsv",
    output:
        "out/table.txt",
    shell:
        "cp {{input}} {{output}}"
"""


def asked(results: str = "dynamics") -> dict[str, Any]:
    """A configuration whose paths all start in the other repository."""
    return {
        "results": f"out/{results}",
        "data_root": f"out/{results}/simulated",
        "sessions": "config/mysessions.tsv",
        "layouts": "config/mylayouts",
        "simulations": {"mine": CONFIG["simulations"]["lorenz"]},
        "models": {"smoothing": CONFIG["models"]["smoothing"]},
    }


@pytest.fixture
def repository(tmp_path: Path) -> Project:
    """A repository of its own that holds no part of this one."""
    for name in ("workflow", "config/mylayouts"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(
        ROOT / "config" / "layouts" / "lorenz.yaml", tmp_path / "config" / "mylayouts" / "mine.yaml"
    )
    table = "session\tnwb\tlayout\tmodels\tstages\nmine\tmine.nwb\tmine\t\tfit,decode\n"
    (tmp_path / "config" / "mysessions.tsv").write_text(table)
    made = Project(tmp_path)
    write(made, {"driftwave": asked()})
    return made


def write(
    project: Project,
    config: dict[str, Any],
    snakefile: str = str(ROOT / "workflow" / "Snakefile"),
    more: str = "",
) -> None:
    text = SNAKEFILE.format(snakefile=snakefile, more=more, results="dynamics")
    (project.folder / "workflow" / "Snakefile").write_text(text)
    (project.folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))


def counted(answer: str) -> dict[str, int]:
    """Jobs of each rule that a dry run counts."""
    table = answer.partition("Job stats:")[2].partition("total")[0]
    return {name: int(number) for name, number in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


def test_another_repository_plans_with_its_own_paths(repository: Project) -> None:
    answer = repository.snakemake("--dry-run").stdout
    jobs = counted(answer)
    assert jobs["driftwave_simulate"] == jobs["driftwave_ingest"] == jobs["driftwave_fit"] == 1
    assert jobs["driftwave_decode"] == 2
    assert jobs["table"] == jobs["all"] == 1
    assert all(name.startswith("driftwave_") for name in set(jobs) - {"table", "all"})
    assert "out/dynamics/mine/figures/decoding.png" in answer
    assert not re.search(r"[ :,]results/", answer)
    assert "localrules" not in answer  # of rules that the prefix renames


@pytest.mark.slow
def test_rules_that_belong_to_this_repository_are_not_handed_over(repository: Project) -> None:
    listed = repository.snakemake("--list-rules").stdout
    assert "driftwave_summary" in listed
    assert "paper" not in listed


def test_a_prefix_of_paths_is_refused_in_one_sentence(repository: Project) -> None:
    write(repository, {"driftwave": asked()}, more='    prefix:\n        "elsewhere"\n')
    answer = repository.snakemake("--dry-run", check=False)
    assert answer.returncode == 1
    assert "set `results` in the module's config" in answer.stdout
    assert "Traceback" not in answer.stdout


@pytest.mark.slow
def test_a_wrong_key_of_the_modules_config_is_named(repository: Project) -> None:
    write(repository, {"driftwave": asked() | {"modles": {}}})
    answer = repository.snakemake("--dry-run", check=False)
    assert answer.returncode == 1
    assert "modles" in answer.stdout
    assert "Remove the key or mend its spelling" in answer.stdout


@pytest.mark.slow
def test_two_configurations_side_by_side(repository: Project) -> None:
    second = """

module other:
    snakefile:
        "{snakefile}"
    config:
        config["other"]


use rule * from other as other_*
"""
    write(repository, {"driftwave": asked(), "other": asked("other")})
    own = repository.folder / "workflow" / "Snakefile"
    snakefile = str(ROOT / "workflow" / "Snakefile")
    own.write_text(own.read_text() + second.format(snakefile=snakefile))
    answer = repository.snakemake("--dry-run", "other_all", "driftwave_all").stdout
    jobs = counted(answer)
    assert jobs["driftwave_fit"] == jobs["other_fit"] == 1
    assert "out/other/mine/figures/rates.png" in answer
    assert "out/dynamics/mine/figures/rates.png" in answer


@pytest.mark.slow
def test_another_repository_makes_results_summary_and_report(repository: Project) -> None:
    wanted = ["out/table.txt", "out/dynamics/mine/figures/recording.png"]
    repository.snakemake(*wanted)
    own = repository.folder / "out"
    assert (own / "table.txt").read_text() == (
        own / "dynamics" / "mine" / "scores" / "smoothing.tsv"
    ).read_text()
    latents = own / "dynamics" / "mine" / "models" / "smoothing" / "latents.zarr"
    assert verify_store(latents) == []
    assert open_dataset(latents).attrs["session"] == "mine"
    assert not (repository.folder / "results").exists()
    assert "Nothing to be done" in repository.snakemake(*wanted).stdout
    repository.snakemake("driftwave_summary")
    summary = (own / "dynamics" / "summary.tsv").read_text()
    assert re.search(r"mine\tfit\tsmoothing\tdone", summary), summary
    repository.snakemake("driftwave_made", "--report", "out/report.html")
    report = (own / "report.html").read_text()
    assert "driftwave_figure_recording" in report
    caption = (ROOT / "workflow" / "report" / "recording.rst").read_text().split()[:4]
    assert " ".join(caption)[:20] in report


@pytest.mark.slow
def test_a_revision_of_a_git_repository_is_a_module_as_well(
    repository: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What `github(...)` does, without a network: files by revision, none beside the Snakefile."""
    clone = make_project(tmp_path_factory.mktemp("git") / "driftwave").folder
    shutil.rmtree(clone / "src")
    commands = (
        ("init", "--quiet", "--initial-branch", "main"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "m"),
    )
    for command in commands:
        subprocess.run(["git", *command], cwd=clone, check=True)
    shutil.rmtree(clone / "workflow")
    write(
        repository, {"driftwave": asked()}, snakefile=f"git+file://{clone}/workflow/Snakefile@main"
    )
    assert counted(repository.snakemake("--dry-run").stdout)["driftwave_fit"] == 1


def test_the_catalog_finds_what_it_asks_for() -> None:
    """The catalog's page on adding workflows: generic, and with standardised usage."""
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert list((ROOT / "workflow" / "rules").glob("*.smk"))
    assert (ROOT / "LICENSE").is_file()
    guide = (ROOT / "config" / "README.md").read_text()
    assert len([line for line in guide.splitlines() if line.startswith("# ")]) <= 1
    settings = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    assert set(settings) == {"usage"}
    usage = settings["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert isinstance(usage["mandatory-flags"]["flags"], str | list)
    assert usage["report"] is True
    # The catalog's guide has `report` one level down from where its generator reads it.
    deployment = usage["software-stack-deployment"]
    assert set(deployment) == {"conda", "apptainer", "apptainer+conda", "report"}
    assert all(isinstance(value, bool) for value in deployment.values())


def test_what_the_catalog_says_of_deployment_is_so() -> None:
    settings = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    deployment = settings["usage"]["software-stack-deployment"]
    workflow = ROOT / "workflow"
    files = [workflow / "Snakefile", *(workflow / "rules").glob("*.smk")]
    text = "\n".join(path.read_text() for path in files)
    assert deployment["apptainer"] is bool(re.search(r"^container(ized)?:", text, re.M))
    assert deployment["conda"] is bool(re.search(r"^\s*conda:", text, re.M))
    assert deployment["report"] is bool(re.search(r"\breport\(", text))


def test_it_can_be_deployed_as_the_catalog_tells() -> None:
    """snakedeploy copies ``config/`` and names the module after it; the demo then runs as it is."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    for key in ("sessions", "layouts"):
        assert config[key].startswith("config/")
        assert (ROOT / config[key]).exists()
