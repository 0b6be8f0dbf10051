# Populations of several sessions, aligned and compared.


rule align:
    input:
        recordings=group_paths("recording"),
        latents=group_paths("latents"),
        encodings=group_paths("encoding"),
    output:
        directory("<results>/groups/{group}.zarr"),
    log:
        "<results>/groups/logs/align.{group}.log",
    benchmark:
        "<results>/groups/benchmarks/align.{group}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(2000, per_megabyte=8),
        runtime=scaled(60, per_megabyte=1, most=1440),
    params:
        recordings=lambda w: options("", PLAN.group_inputs(w.group)["recording"]),
        latents=lambda w: options("--latents", PLAN.group_inputs(w.group)["latents"]),
        encodings=lambda w: options(
            "--encoding", PLAN.group_inputs(w.group)["encoding"]
        ),
        json=lambda w: as_json(PLAN.config.groups[w.group].params),
        seed=PLAN.config.seed,
        code=lambda w: PLAN.code("align"),
    message:
        "Compare the sessions of {wildcards.group}"
    shell:
        "driftwave align {params.recordings:q} {params.latents:q} {params.encodings:q}"
        " --params {params.json:q} --seed {params.seed} --threads {threads}"
        " --out {output:q} --log {log:q}"


for figure, ending in GROUP_FIGURES.items():

    rule:
        name:
            f"figure_{figure}"
        input:
            "<results>/groups/{group}.zarr",
        output:
            png=report(
                f"<results>/groups/{{group}}{ending}.png",
                caption=caption_of(figure),
                category="Groups of sessions",
                subcategory=FIGURES[figure].stage,
                labels={"figure": figure, "of": "{group}"},
            ),
            svg=f"<results>/groups/{{group}}{ending}.svg",
        log:
            f"<results>/groups/logs/group_figure.{{group}}{ending}.log",
        benchmark:
            f"<results>/groups/benchmarks/group_figure.{{group}}{ending}.tsv"
        threads: 1
        resources:
            mem_mb=scaled(1500, per_megabyte=1),
            runtime=scaled(10, per_megabyte=0.01, most=1440),
            turn=1,
        params:
            figure=figure,
            out=lambda w, output: output.png.removesuffix(".png"),
            code=lambda w, figure=figure: PLAN.code("group_figure", figure),
        message:
            "Draw {output.png}"
        shell:
            "driftwave figure {params.figure} --result group={input:q} --out {params.out:q}"
            " --log {log:q}"
