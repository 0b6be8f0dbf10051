rule simulate:
    output:
        "<results>/simulated/{simulation}.nwb",
    log:
        "<results>/simulated/logs/simulate.{simulation}.jsonl",
    benchmark:
        "<results>/simulated/benchmarks/simulate.{simulation}.tsv"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        simulator=lambda w: PLAN.config.simulations[w.simulation].simulator,
        json=lambda w: as_json(PLAN.config.simulations[w.simulation].params),
        seed=lambda w: PLAN.config.simulations[w.simulation].seed,
        code=lambda w: PLAN.code(
            "simulate", PLAN.config.simulations[w.simulation].simulator
        ),
    message:
        "Simulate {wildcards.simulation}.nwb"
    shell:
        "driftwave simulate {params.simulator} --seed {params.seed} --params {params.json:q}"
        " --out {output:q} --log {log:q}"


rule ingest:
    input:
        nwb=lambda w: PLAN.nwb(w.session),
        layout=lambda w: PLAN.layout_path(w.session),
    output:
        directory("<results>/{session}/recording.zarr"),
    log:
        "<results>/{session}/logs/ingest.jsonl",
    benchmark:
        "<results>/{session}/benchmarks/ingest.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=6),
        runtime=scaled(10, per_megabyte=0.1),
    params:
        checksum=lambda w: options(
            "--sha256", filter(None, [PLAN.sessions[w.session].sha256])
        ),
        width=lambda w: options(
            "--bin-width", map(str, filter(None, [PLAN.sessions[w.session].bin_width]))
        ),
        code=PLAN.code("ingest"),
    message:
        "Ingest {input.nwb}"
    shell:
        "driftwave ingest {input.nwb:q} --layout {input.layout:q} --session {wildcards.session}"
        " {params.checksum:q} {params.width:q} --threads {threads} --out {output:q} --log {log:q}"
