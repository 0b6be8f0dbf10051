rule fit:
    input:
        "<results>/{session}/recording.zarr",
    output:
        fit=directory("<results>/{session}/models/{model}/fit"),
        latents=directory("<results>/{session}/models/{model}/latents.zarr"),
    log:
        "<results>/{session}/logs/fit.{model}.log",
    benchmark:
        "<results>/{session}/benchmarks/fit.{model}.tsv"
    wildcard_constraints:
        model="|".join(PLAN.members) or NOTHING,
    # Fits take longest and most of what follows waits for them.
    priority: 10
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(3000, per_megabyte=10),
        runtime=scaled(120, per_megabyte=2, most=1440),
        gpu=gpus,
    params:
        plugin=lambda w: PLAN.plugin_of(w.model),
        json=lambda w: as_json(PLAN.params_of(w.model)),
        seed=lambda w: PLAN.members[w.model].seed,
        code=lambda w: PLAN.code("fit", PLAN.plugin_of(w.model)),
        # Kept when a job is killed, so that the next attempt goes on from there.
        checkpoint=lambda w, output: f"{output.fit}.checkpoint",
        device=PLAN.config.device,
    message:
        "Fit {wildcards.model} to {wildcards.session}"
    shell:
        "driftwave fit {input:q} --model {wildcards.model} --plugin {params.plugin}"
        " --params {params.json:q} --seed {params.seed} --device {params.device}"
        " --threads {threads} --checkpoint {params.checkpoint:q}"
        " --out-fit {output.fit:q} --out {output.latents:q} --log {log:q}"


rule score:
    input:
        recording="<results>/{session}/recording.zarr",
        latents="<results>/{session}/models/{model}/latents.zarr",
    output:
        "<results>/{session}/scores/{model}.tsv",
    log:
        "<results>/{session}/logs/score.{model}.log",
    benchmark:
        "<results>/{session}/benchmarks/score.{model}.tsv"
    threads: 1
    resources:
        mem_mb=scaled(1500, per_megabyte=6),
        runtime=scaled(20, per_megabyte=0.2, most=1440),
        turn=1,
    params:
        seed=PLAN.config.seed,
        code=lambda w: PLAN.code("score"),
    message:
        "Score {wildcards.model} on {wildcards.session}"
    shell:
        "driftwave score {input.recording:q} {input.latents:q} --seed {params.seed}"
        " --out {output:q} --log {log:q}"


rule compare:
    input:
        scores=lambda w: PLAN.compared(w.session)["scores"].values(),
        decoding=lambda w: PLAN.compared(w.session)["decoding"].values(),
    output:
        table="<results>/{session}/comparison.tsv",
        page=report(
            "<results>/{session}/comparison.html",
            caption="../report/comparison.rst",
            category="{session}",
            subcategory="scores",
            labels={"figure": "comparison table", "of": "all models"},
        ),
    log:
        "<results>/{session}/logs/compare.log",
    benchmark:
        "<results>/{session}/benchmarks/compare.tsv"
    threads: 1
    resources:
        mem_mb=scaled(1000, per_megabyte=1),
        runtime=scaled(10, per_megabyte=0.02, most=1440),
        turn=1,
    params:
        scores=lambda w: options(
            "--scores", PLAN.compared(w.session)["scores"].values()
        ),
        decoding=lambda w: options("--decoding", PLAN.compared(w.session)["decoding"]),
        seeds=lambda w: options(
            "--seeds",
            {model: ",".join(fits) for model, fits in PLAN.seeds(w.session).items()},
        ),
        code=lambda w: PLAN.code("compare"),
    message:
        "Compare the models of {wildcards.session}"
    shell:
        "driftwave compare {params.scores:q} {params.decoding:q} {params.seeds:q}"
        " --out {output.table:q} --log {log:q}"
