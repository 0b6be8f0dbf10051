# Questions asked of many simulated data sets; they need no session.


rule experiment:
    output:
        directory("<results>/experiments/{experiment}.zarr"),
    log:
        "<results>/experiments/logs/experiment.{experiment}.log",
    benchmark:
        "<results>/experiments/benchmarks/experiment.{experiment}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(3000),
        runtime=scaled(120),
    params:
        plugin=lambda w: PLAN.experiment_plugin(w.experiment),
        json=lambda w: as_json(PLAN.config.experiments[w.experiment].params),
        seed=lambda w: PLAN.config.experiments[w.experiment].seed,
        code=lambda w: PLAN.code("experiment", PLAN.experiment_plugin(w.experiment)),
    message:
        "Run the experiment {wildcards.experiment}"
    shell:
        "driftwave experiment {params.plugin} --seed {params.seed} --params {params.json:q}"
        " --threads {threads} --out {output:q} --log {log:q}"


rule experiment_figure:
    input:
        "<results>/experiments/{experiment}.zarr",
    output:
        png=report(
            "<results>/experiments/{experiment}.png",
            caption="../report/experiment.rst",
            category="Experiments",
            labels={"figure": "{experiment}", "of": "simulated data"},
        ),
        svg="<results>/experiments/{experiment}.svg",
    log:
        "<results>/experiments/logs/experiment_figure.{experiment}.log",
    benchmark:
        "<results>/experiments/benchmarks/experiment_figure.{experiment}.tsv"
    threads: 1
    resources:
        mem_mb=scaled(1500),
        runtime=scaled(10),
        turn=1,
    params:
        plugin=lambda w: PLAN.experiment_plugin(w.experiment),
        out=lambda w, output: output.png.removesuffix(".png"),
    message:
        "Draw {output.png}"
    shell:
        "driftwave experiment-figure {params.plugin} {input:q} --out {params.out:q} --log {log:q}"
