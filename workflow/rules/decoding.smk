rule decode:
    input:
        recording="<results>/{session}/recording.zarr",
        latents=latents_of_source,
    output:
        directory("<results>/{session}/decoding/{source}.zarr"),
    log:
        "<results>/{session}/logs/decode.{source}.log",
    benchmark:
        "<results>/{session}/benchmarks/decode.{source}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=8),
        runtime=scaled(30, per_megabyte=0.5, most=1440),
        turn=1,
    params:
        **analysis_params("decode"),
    message:
        "Decode {wildcards.session}, source {wildcards.source}"
    shell:
        "driftwave decode {input.recording:q} --plugin {params.plugin} {params.latents:q}"
        " --params {params.json:q} --seed {params.seed} --threads {threads}"
        " --out {output:q} --log {log:q}"


rule decoders:
    input:
        recording="<results>/{session}/recording.zarr",
        latents=latents_of_source,
    output:
        directory("<results>/{session}/decoders/{entry}/{source}.zarr"),
    log:
        "<results>/{session}/logs/decoders.{entry}.{source}.log",
    benchmark:
        "<results>/{session}/benchmarks/decoders.{entry}.{source}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=8),
        runtime=scaled(60, per_megabyte=1, most=1440),
        turn=1,
    params:
        **named_params("decoders"),
    message:
        "Decode {wildcards.session} with {wildcards.entry}, source {wildcards.source}"
    shell:
        "driftwave decode {input.recording:q} --plugin {params.plugin} {params.latents:q}"
        " --params {params.json:q} --seed {params.seed} --threads {threads}"
        " --out {output:q} --log {log:q}"


rule decoding_table:
    input:
        lambda w: PLAN.decoding_table(w.session).values(),
    output:
        table="<results>/{session}/decoding.tsv",
        page=report(
            "<results>/{session}/decoding.html",
            caption="../report/decoding_table.rst",
            category="{session}",
            subcategory="decoding",
            labels={"figure": "table of decoders", "of": "all sources"},
        ),
    log:
        "<results>/{session}/logs/decoding_table.log",
    benchmark:
        "<results>/{session}/benchmarks/decoding_table.tsv"
    threads: 1
    resources:
        mem_mb=scaled(1000, per_megabyte=1),
        runtime=scaled(10, per_megabyte=0.02, most=1440),
        turn=1,
    params:
        decoded=lambda w: options("--decoded", PLAN.decoding_table(w.session)),
        code=lambda w: PLAN.code("decoding_table"),
    message:
        "Compare the decoders of {wildcards.session}"
    shell:
        "driftwave decoding-table {params.decoded:q} --out {output.table:q} --log {log:q}"
