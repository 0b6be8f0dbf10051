rule decode:
    input:
        recording="<results>/{session}/recording.zarr",
        latents=latents_of_source,
    output:
        directory("<results>/{session}/decoding/{source}.zarr"),
    log:
        "<results>/{session}/logs/decode.{source}.jsonl",
    benchmark:
        "<results>/{session}/benchmarks/decode.{source}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=8),
        runtime=scaled(30, per_megabyte=0.5),
    params:
        **analysis_params("decode"),
        latents=lambda w: options("--latents", latents_of_source(w)),
    message:
        "Decode {wildcards.session}, source {wildcards.source}"
    shell:
        "driftwave decode {input.recording:q} --plugin {params.plugin} {params.latents:q}"
        " --params {params.json:q} --seed {params.seed} --threads {threads}"
        " --out {output:q} --log {log:q}"
