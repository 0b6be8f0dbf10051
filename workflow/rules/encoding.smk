rule encode:
    input:
        recording="<results>/{session}/recording.zarr",
        latents=latents_of_source,
    output:
        directory("<results>/{session}/encoding/{source}.zarr"),
    log:
        "<results>/{session}/logs/encode.{source}.log",
    benchmark:
        "<results>/{session}/benchmarks/encode.{source}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(2000, per_megabyte=8),
        runtime=scaled(60, per_megabyte=1, most=1440),
    params:
        **analysis_params("encode"),
    message:
        "Trace the encoding manifold of {wildcards.session}, source {wildcards.source}"
    shell:
        "driftwave encode {input.recording:q} --plugin {params.plugin} {params.latents:q}"
        " --params {params.json:q} --seed {params.seed} --threads {threads}"
        " --out {output:q} --log {log:q}"
