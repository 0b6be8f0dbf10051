"""``driftwave benchmark``: h5 files of the Neural Latents Benchmark, written and scored."""

from __future__ import annotations

from pathlib import Path

import click

from driftwave.command import PATH, run_logged, stage


@click.group()
def benchmark() -> None:
    """Rates and targets as the Neural Latents Benchmark's h5 files, and their scores."""


@stage("export")
@click.argument("recording", type=PATH)
@click.argument("latents", type=PATH, required=False)
@click.option("--test", type=PATH, default=None, help="NWB file of the test phase's trials.")
@click.option("--fit", type=PATH, default=None, help="Folder of the fitted model, for --test.")
@click.option("--plugin", default=None, help="Plug-in of that model; default as LATENTS says.")
def export(
    recording: Path,
    latents: Path | None,
    test: Path | None,
    fit: Path | None,
    plugin: str | None,
    out: Path,
) -> None:
    """Write rates, or without LATENTS the targets, as the benchmark's h5.

    With --test the evaluation rates are those of the test phase: its trials, which hold held-in
    units only, go through the fitted model.
    """
    from driftwave.recording import open_recording
    from driftwave.scores.hidden_trials import hidden_rates
    from driftwave.scores.prediction_file import prediction, target, write_h5
    from driftwave.store import open_dataset

    if (test is None) != (fit is None) or (test is not None and latents is None):
        raise click.UsageError("--test and --fit go together, with LATENTS of the same fit.")
    tree = open_recording(recording)
    if latents is None:
        write_h5(out, target(tree))
        return
    rates = open_dataset(latents)
    if test is None or fit is None:
        write_h5(out, prediction(tree, rates))
        return
    name = plugin or str(rates.attrs.get("plugin", rates.attrs.get("model", "")))
    write_h5(out, prediction(tree, rates, hidden=hidden_rates(tree, test, fit, name)))


@click.command()
@click.argument("targets", type=PATH)
@click.argument("predictions", type=PATH)
@click.option("--out", type=PATH, default=None, help="Also write the scores to this table (tsv).")
@click.option("--log", type=PATH, default=None, help="Also log to this file.")
def evaluate(targets: Path, predictions: Path, out: Path | None, log: Path | None) -> None:
    """Score an h5 of predicted rates against one of targets, as the benchmark does."""
    from driftwave.provenance import used
    from driftwave.scores.benchmark import evaluate as scores_of
    from driftwave.store import write_text

    def job() -> None:
        table = scores_of(targets, predictions)
        click.echo(table.to_string(index=False))
        if out is not None:
            used(targets)
            used(predictions)
            write_text(out, table.to_csv(sep="\t", index=False))

    run_logged("evaluate", log, {"out": out}, job)


benchmark.add_command(export)
benchmark.add_command(evaluate)

COMMANDS = (benchmark,)
