rule waves:
    input:
        recording="<results>/{session}/recording.zarr",
        latents=latents_of_source,
    output:
        directory("<results>/{session}/waves/{source}.zarr"),
    log:
        "<results>/{session}/logs/waves.{source}.log",
    benchmark:
        "<results>/{session}/benchmarks/waves.{source}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=8, most=12000),
        runtime=scaled(30, per_megabyte=0.5, most=1440),
    params:
        **analysis_params("waves"),
    message:
        "Find travelling waves in {wildcards.session}, source {wildcards.source}"
    shell:
        "driftwave waves {input.recording:q} --plugin {params.plugin} {params.latents:q}"
        " --params {params.json:q} --seed {params.seed} --threads {threads}"
        " --out {output:q} --log {log:q}"


rule spike_waves:
    input:
        recording="<results>/{session}/recording.zarr",
        waves="<results>/{session}/waves/recording.zarr",
    output:
        directory("<results>/{session}/spike_waves.zarr"),
    log:
        "<results>/{session}/logs/spike_waves.log",
    benchmark:
        "<results>/{session}/benchmarks/spike_waves.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=8, most=12000),
        runtime=scaled(30, per_megabyte=0.5, most=1440),
    params:
        json=as_json(PLAN.config.spike_waves.params),
        seed=PLAN.config.seed,
        code=lambda w: PLAN.code("spike_waves"),
    message:
        "Hold spikes of {wildcards.session} against the phase of waves"
    shell:
        "driftwave spike-waves {input.recording:q} {input.waves:q} --params {params.json:q}"
        " --seed {params.seed} --threads {threads} --out {output:q} --log {log:q}"


rule wave_table:
    input:
        "<results>/{session}/waves/recording.zarr",
    output:
        "<results>/{session}/waves/recording.events.csv",
    log:
        "<results>/{session}/logs/wave_table.log",
    benchmark:
        "<results>/{session}/benchmarks/wave_table.tsv"
    threads: 1
    resources:
        mem_mb=scaled(1000, per_megabyte=1),
        runtime=scaled(10, per_megabyte=0.02, most=1440),
        turn=1,
    params:
        code=lambda w: PLAN.code("wave_table"),
    message:
        "Write the waves of {wildcards.session} as a table"
    shell:
        "driftwave wave-table {input:q} --out {output:q} --log {log:q}"


rule wave_film:
    input:
        "<results>/{session}/waves/recording.zarr",
    output:
        gif=report(
            "<results>/{session}/figures/wave_film.gif",
            caption="../report/wave_film.rst",
            category="{session}",
            subcategory="waves",
            labels={"figure": "wave_film", "of": "recording"},
        ),
        mp4="<results>/{session}/figures/wave_film.mp4",
    log:
        "<results>/{session}/logs/wave_film.log",
    benchmark:
        "<results>/{session}/benchmarks/wave_film.tsv"
    threads: 1
    resources:
        mem_mb=scaled(1500, per_megabyte=6, most=8000),
        runtime=scaled(10, per_megabyte=0.1, most=1440),
        turn=1,
    params:
        out=lambda w, output: output.gif.removesuffix(".gif"),
        code=lambda w: PLAN.code("wave_film"),
    message:
        "Film the waves of {wildcards.session}"
    shell:
        "driftwave wave-film {input:q} --out {params.out:q} --log {log:q}"
