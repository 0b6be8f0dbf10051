rule activations:
    input:
        recording="<results>/{session}/recording.zarr",
        origin=activations_origin,
    output:
        directory("<results>/{session}/activations/{activations}.zarr"),
    log:
        "<results>/{session}/logs/activations.{activations}.log",
    benchmark:
        "<results>/{session}/benchmarks/activations.{activations}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(3000, per_megabyte=10),
        runtime=scaled(30, per_megabyte=0.5, most=1440),
    params:
        origin=activations_options,
        code=lambda w: PLAN.code("activations", PLAN.activations_plugin(w.activations)),
    message:
        "Read the activations {wildcards.activations} of {wildcards.session}"
    shell:
        "driftwave activations {input.recording:q} {params.origin:q}"
        " --threads {threads} --out {output:q} --log {log:q}"
