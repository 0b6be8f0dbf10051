rule connectome:
    input:
        "<results>/{session}/recording.zarr",
    output:
        directory("<results>/{session}/connectome.zarr"),
    log:
        "<results>/{session}/logs/connectome.log",
    benchmark:
        "<results>/{session}/benchmarks/connectome.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(2000, per_megabyte=8),
        runtime=scaled(60, per_megabyte=1, most=1440),
    params:
        json=lambda w: as_json(PLAN.config.connectome.params),
        seed=PLAN.config.seed,
        code=lambda w: PLAN.code("connectome"),
    message:
        "Trace the functional connectome of {wildcards.session} over time"
    shell:
        "driftwave connectome {input:q} --params {params.json:q} --seed {params.seed}"
        " --threads {threads} --out {output:q} --log {log:q}"
