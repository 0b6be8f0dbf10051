# What the rules of analyses share: their sources, parameters and needs.


def latents_of_source(wildcards):
    """Latents of the source's model; nothing where the source is the recording."""
    return PLAN.latents_of(wildcards.session, wildcards.source)


def analysis_params(stage):
    """What changes the result of an analysis besides its input."""
    analysis = PLAN.analysis(stage)
    return {
        "plugin": "" if analysis is None else analysis.plugin,
        "json": lambda w: as_json(PLAN.analysis_params(w.session, stage)),
        "seed": PLAN.config.seed,
        "code": "" if analysis is None else PLAN.code(stage, analysis.plugin),
        "latents": lambda w: options("--latents", latents_of_source(w)),
    }


def named_params(key):
    """The same of further analyses, which have a name each."""
    return {
        "plugin": lambda w: PLAN.named_plugin(key, w.entry),
        "json": lambda w: as_json(PLAN.named_params(key, w.entry)),
        "seed": PLAN.config.seed,
        "code": lambda w: PLAN.code(key, PLAN.named_plugin(key, w.entry)),
        "latents": lambda w: options("--latents", latents_of_source(w)),
    }


def activations_origin(wildcards):
    """The fitted model whose hidden units they are, or the file that holds them."""
    fit = PLAN.activations_fit(wildcards.session, wildcards.activations)
    return fit or PLAN.activations_file(wildcards.session, wildcards.activations)


def activations_options(wildcards, input):
    """The same as options of the command."""
    plugin = PLAN.activations_plugin(wildcards.activations)
    if not plugin:
        return ["--file", input.origin]
    return ["--fit", input.origin, "--plugin", plugin]


def group_paths(kind):
    """Recordings, latents or encoding manifolds of a group's sessions."""
    return lambda w: PLAN.group_inputs(w.group)[kind].values()
