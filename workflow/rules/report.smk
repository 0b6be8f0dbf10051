# Run after everything else, also when jobs have failed: what became of each job, and the report
# of what was made.
import sys


rule summary:
    output:
        table=report(
            "<results>/summary.tsv",
            caption="../report/summary.rst",
            category="Summary",
            labels={"figure": "jobs (table)", "of": "all sessions"},
        ),
        page=report(
            "<results>/summary.html",
            caption="../report/summary.rst",
            category="Summary",
            labels={"figure": "jobs", "of": "all sessions"},
        ),
    log:
        "<results>/logs/summary.log",
    benchmark:
        "<results>/benchmarks/summary.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=scaled(500),
        runtime=scaled(10),
    params:
        config=PLAN.config.model_dump_json(),
    message:
        "Summarise the jobs"
    shell:
        "driftwave summary --config {params.config:q} --out {output.table:q} --log {log:q}"


def say_summary():
    """Write and print the summary at the end of a run, also when jobs have failed.

    Snakemake calls it in the process that a user started: not for a dry run, not in the jobs of a
    cluster, and not where another workflow uses this one as a module.
    """
    targets = set(workflow.dag_settings.targets or ())
    if targets and targets <= {"summary", "made"}:
        return
    from driftwave.summary import told, write_summary

    table = f"{PLAN.config.results}/summary.tsv"
    print(told(write_summary(PLAN, table)), file=sys.stderr)
    print(f"See {table.removesuffix('.tsv')}.html", file=sys.stderr, flush=True)


onsuccess:
    say_summary()


onerror:
    say_summary()


rule made:
    input:
        "<results>/summary.tsv",
        made=lambda w: PLAN.made(),
    localrule: True
