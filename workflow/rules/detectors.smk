# Other detectors on the recording, and how far all agree.


rule detect:
    input:
        "<results>/{session}/recording.zarr",
    output:
        directory("<results>/{session}/detectors/{detector}.zarr"),
    log:
        "<results>/{session}/logs/detect.{detector}.log",
    benchmark:
        "<results>/{session}/benchmarks/detect.{detector}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=scaled(1500, per_megabyte=8, most=12000),
        runtime=scaled(30, per_megabyte=0.5, most=1440),
    params:
        plugin=lambda w: PLAN.detector_plugin(w.detector),
        json=lambda w: as_json(PLAN.detector_params(w.session, w.detector)),
        seed=PLAN.config.seed,
        code=lambda w: PLAN.code("detect", PLAN.detector_plugin(w.detector)),
    message:
        "Find travelling waves in {wildcards.session} with {wildcards.detector}"
    shell:
        "driftwave detect {input:q} --plugin {params.plugin} --params {params.json:q}"
        " --seed {params.seed} --threads {threads} --out {output:q} --log {log:q}"


rule agree:
    input:
        lambda w: PLAN.agreeing(w.session).values(),
    output:
        directory("<results>/{session}/agreement.zarr"),
    log:
        "<results>/{session}/logs/agree.log",
    benchmark:
        "<results>/{session}/benchmarks/agree.tsv"
    threads: 1
    resources:
        mem_mb=scaled(1500, per_megabyte=2),
        runtime=scaled(10, per_megabyte=0.02, most=1440),
        turn=1,
    params:
        detectors=lambda w: options("--detector", PLAN.agreeing(w.session)),
        seed=PLAN.config.seed,
        code=lambda w: PLAN.code("agree"),
    message:
        "Compare the detectors of {wildcards.session}"
    shell:
        "driftwave agree {params.detectors:q} --seed {params.seed} --out {output:q} --log {log:q}"
