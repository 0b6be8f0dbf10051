rule manifold:
    input:
        recording="<results>/{session}/recording.zarr",
        latents=latents_of_source,
    output:
        directory("<results>/{session}/manifold/{source}.zarr"),
    log:
        "<results>/{session}/logs/manifold.{source}.log",
    benchmark:
        "<results>/{session}/benchmarks/manifold.{source}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=8),
        runtime=scaled(30, per_megabyte=0.5, most=1440),
        turn=1,
    params:
        **analysis_params("manifold"),
    message:
        "Trace the manifold of {wildcards.session}, source {wildcards.source}"
    shell:
        "driftwave manifold {input.recording:q} --plugin {params.plugin} {params.latents:q}"
        " --params {params.json:q} --seed {params.seed} --threads {threads}"
        " --out {output:q} --log {log:q}"


rule geometry:
    input:
        recording="<results>/{session}/recording.zarr",
        latents=latents_of_source,
    output:
        directory("<results>/{session}/geometry/{entry}/{source}.zarr"),
    log:
        "<results>/{session}/logs/geometry.{entry}.{source}.log",
    benchmark:
        "<results>/{session}/benchmarks/geometry.{entry}.{source}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=8),
        runtime=scaled(60, per_megabyte=1, most=1440),
        turn=1,
    params:
        **named_params("geometry"),
    message:
        "Measure the geometry of {wildcards.session} with {wildcards.entry}, source {wildcards.source}"
    shell:
        "driftwave manifold {input.recording:q} --plugin {params.plugin} {params.latents:q}"
        " --params {params.json:q} --seed {params.seed} --threads {threads}"
        " --out {output:q} --log {log:q}"
