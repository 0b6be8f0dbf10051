rule ensemble:
    input:
        lambda w: PLAN.averaged(w.session, w.model),
    output:
        directory("<results>/{session}/models/{model}/latents.zarr"),
    log:
        "<results>/{session}/logs/ensemble.{model}.log",
    benchmark:
        "<results>/{session}/benchmarks/ensemble.{model}.tsv"
    wildcard_constraints:
        model="|".join(PLAN.ensembles) or NOTHING,
    threads: 1
    resources:
        mem_mb=scaled(1500, per_megabyte=6),
        runtime=scaled(20, per_megabyte=0.2, most=1440),
    params:
        code=lambda w: PLAN.code("ensemble"),
    message:
        "Average the seeds of {wildcards.model} on {wildcards.session}"
    shell:
        "driftwave ensemble {input:q} --model {wildcards.model} --out {output:q} --log {log:q}"
