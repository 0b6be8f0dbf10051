# One rule per figure, so that each has its own caption in the report.
for figure, kind in FIGURES.items():
    if figure in GROUP_FIGURES:
        continue
    ending = "".join(f".{{{name}}}" for name in kind.wildcards)

    rule:
        name:
            f"figure_{figure}"
        input:
            recording="<results>/{session}/recording.zarr",
            results=lambda w, figure=figure: figure_results(w, figure).values(),
        output:
            png=report(
                f"<results>/{{session}}/figures/{figure}{ending}.png",
                caption=caption_of(figure),
                category="{session}",
                subcategory=kind.stage,
                labels={
                    "figure": figure,
                    "of": kind.of,
                },
            ),
            svg=f"<results>/{{session}}/figures/{figure}{ending}.svg",
        log:
            f"<results>/{{session}}/logs/figure.{figure}{ending}.log",
        benchmark:
            f"<results>/{{session}}/benchmarks/figure.{figure}{ending}.tsv"
        threads: 1
        resources:
            mem_mb=scaled(1500, per_megabyte=6, most=8000),
            runtime=scaled(10, per_megabyte=0.1, most=1440),
            turn=1,
        params:
            figure=figure,
            results=lambda w, figure=figure: options(
                "--result", figure_results(w, figure)
            ),
            out=lambda w, output: output.png.removesuffix(".png"),
            code=lambda w, figure=figure: PLAN.code("figure", figure),
        message:
            "Draw {output.png}"
        shell:
            "driftwave figure {params.figure} --recording {input.recording:q} {params.results:q}"
            " --out {params.out:q} --log {log:q}"
