# Run after everything else, also when jobs have failed: what became of each job, and the report
# of what was made.
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


onsuccess:
    say_summary()


onerror:
    say_summary()


rule made:
    input:
        "<results>/summary.tsv",
        made=lambda w: PLAN.made(),
    localrule: True
