# Searches are asked for by name (snakemake search, or driftwave search); `all` runs none.


rule search:
    input:
        lambda w: search_plan.targets(PLAN),
    message:
        "All searches are done"


rule search_trial:
    input:
        recording="<results>/{session}/recording.zarr",
        ranking=search_ranking,
    output:
        directory("<results>/{session}/search/{model}/rung{rung}/{place}"),
    log:
        "<results>/{session}/search/{model}/logs/trial.{rung}.{place}.log",
    benchmark:
        "<results>/{session}/search/{model}/benchmarks/trial.{rung}.{place}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(3000, per_megabyte=10),
        runtime=scaled(120, per_megabyte=2, most=1440),
        gpu=gpus,
    params:
        plugin=lambda w: PLAN.plugin_of(w.model),
        json=lambda w: as_json(PLAN.params_of(w.model)),
        budget=lambda w: as_json(search_plan.budget_of(PLAN, w.model, int(w.rung))),
        space=search_space,
        ranking=lambda w: options("--ranking", search_ranking(w)),
        seed=PLAN.config.seed,
        code=lambda w: PLAN.code("search_trial", PLAN.plugin_of(w.model)),
        # Kept when a job is killed, so that the next attempt goes on from there.
        checkpoint=lambda w, output: f"{output}.checkpoint",
        device=PLAN.config.device,
    message:
        "Search {wildcards.model} on {wildcards.session}, rung {wildcards.rung}, place {wildcards.place}"
    shell:
        "driftwave search-trial {input.recording:q} --place {wildcards.place}"
        " --space {params.space:q} {params.ranking:q}"
        " --plugin {params.plugin} --params {params.json:q} --budget {params.budget:q}"
        " --seed {params.seed} --device {params.device} --threads {threads}"
        " --checkpoint {params.checkpoint:q} --out {output:q} --log {log:q}"


rule search_rank:
    input:
        search_results,
    output:
        "<results>/{session}/search/{model}/rung{rung}/ranking.json",
    log:
        "<results>/{session}/search/{model}/logs/rank.{rung}.log",
    benchmark:
        "<results>/{session}/search/{model}/benchmarks/rank.{rung}.tsv"
    # Ranking takes a second; as a cluster job it would wait for minutes.
    localrule: True
    threads: 1
    resources:
        mem_mb=scaled(1000, per_megabyte=0.1),
        runtime=scaled(10, per_megabyte=0.01, most=1440),
    params:
        code=lambda w: PLAN.code("search_rank"),
    message:
        "Rank rung {wildcards.rung} of {wildcards.model} on {wildcards.session}"
    shell:
        "driftwave search-rank {input:q} --out {output:q} --log {log:q}"


rule search_best:
    input:
        lambda w: search_plan.all_results(PLAN, w.session, w.model),
    output:
        table="<results>/{session}/search/{model}/trials.tsv",
        best="<results>/{session}/search/{model}/best.yaml",
    log:
        "<results>/{session}/search/{model}/logs/best.log",
    benchmark:
        "<results>/{session}/search/{model}/benchmarks/best.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=scaled(1000, per_megabyte=0.1),
        runtime=scaled(10, per_megabyte=0.01, most=1440),
    params:
        plugin=lambda w: PLAN.plugin_of(w.model),
        json=lambda w: as_json(PLAN.params_of(w.model)),
        code=lambda w: PLAN.code("search_rank"),
    message:
        "Best parameters of {wildcards.model} on {wildcards.session}"
    shell:
        "driftwave search-best {input:q} --session {wildcards.session} --model {wildcards.model}"
        " --plugin {params.plugin} --params {params.json:q}"
        " --best {output.best:q} --out {output.table:q} --log {log:q}"
