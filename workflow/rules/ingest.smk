rule simulate:
    output:
        "<results>/simulated/{simulation}.nwb",
    log:
        "<results>/simulated/logs/simulate.{simulation}.log",
    benchmark:
        "<results>/simulated/benchmarks/simulate.{simulation}.tsv"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(20),
        turn=1,
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
        nwb=lambda w: PLAN.nwb_files(w.session),  # none of a remote one, which is a parameter
        layout=lambda w: PLAN.layout_path(w.session),
    output:
        directory("<results>/{session}/recording.zarr"),
    log:
        "<results>/{session}/logs/ingest.log",
    benchmark:
        "<results>/{session}/benchmarks/ingest.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=6, most=8000),
        runtime=scaled(10, per_megabyte=0.1, most=600),
        turn=1,
    params:
        # A parameter that depended on the input would not make a job run again.
        address=lambda w: [] if PLAN.nwb_files(w.session) else [PLAN.nwb(w.session)],
        remote=lambda w: PLAN.remote_options(w.session),
        checksum=lambda w: options(
            "--sha256", filter(None, [PLAN.sessions[w.session].sha256])
        ),
        width=lambda w: options(
            "--bin-width", map(str, filter(None, [PLAN.sessions[w.session].bin_width]))
        ),
        code=lambda w: PLAN.code("ingest"),
    message:
        "Ingest {input.nwb}{params.address}"
    shell:
        "driftwave ingest {input.nwb:q} {params.address:q} --layout {input.layout:q} --session {wildcards.session}"
        " {params.remote:q} {params.checksum:q} {params.width:q} --threads {threads} --out {output:q} --log {log:q}"
