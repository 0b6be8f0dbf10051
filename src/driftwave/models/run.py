"""Fit one model to one recording and write what it gives; take up again what was fitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driftwave import registry
from driftwave.compute import Clock, blas_threads, choose_device
from driftwave.config import parse_params
from driftwave.contents import CONTENTS, check_contents, seal
from driftwave.errors import InputError
from driftwave.joblog import note
from driftwave.provenance import stamp_folder, used
from driftwave.recording import open_recording
from driftwave.store import atomic_path, write_tree


def fit_and_write(
    recording_path: str | Path,
    *,
    model: str,
    plugin: str,
    params: Mapping[str, Any],
    fit_folder: str | Path,
    latents_path: str | Path,
    checkpoint: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Fit, infer and write: the fitted model into ``fit_folder``, its latents into a store.

    Parameters
    ----------
    recording_path : path
        Recording store.
    model : str
        Name the results carry (several models may use one plug-in with other parameters).
    plugin : str
        Model plug-in.
    params : mapping
        Parameters of the plug-in, checked against its ``Params``.
    fit_folder, latents_path : path
        Outputs; each appears whole or not at all.
    checkpoint : path, optional
        Scratch folder: an interrupted fit resumes from it. Removed once the fit is written.
    seed, device, threads
        As everywhere.
    """
    import shutil

    module = registry.load("models", plugin)
    chosen = parse_params(module, params, model)
    recording = open_recording(recording_path)
    with blas_threads(threads):
        clock = Clock.start()
        fitted = module.fit(
            recording,
            chosen,
            seed=seed,
            device=choose_device(device) if hasattr(module, "USES_DEVICE") else "cpu",
            progress=f"{model} {recording.attrs['session']}",
            checkpoint=Path(checkpoint) if checkpoint else None,
        )
        cost = {"cpu_seconds": clock.cpu_seconds, "wall_seconds": clock.wall_seconds}
        latents = fitted.infer(recording)
    latents.attrs.update(
        model=model,
        plugin=plugin,
        session=recording.attrs["session"],
        params=chosen.model_dump_json(),
        seed=seed,
        **{name: round(seconds, 3) for name, seconds in cost.items()},
    )
    if latents.attrs.get("step_backs"):
        note(f"{model}: training diverged: {latents.attrs.get('training_notes', '')}.")
    facts = {"stage": "fit", "model": model, "plugin": plugin, "seed": seed, **cost}
    facts |= {"params": chosen.model_dump(mode="json"), "recording": str(recording_path)}
    with atomic_path(fit_folder) as temporary:
        temporary.mkdir()
        fitted.save(temporary)
        stamp_folder(temporary, fit_folder, **facts, contents=CONTENTS)
        seal(temporary)
    write_tree(latents, latents_path, facts=facts)
    if checkpoint and Path(checkpoint).exists():
        shutil.rmtree(checkpoint)


def load_fit(folder: str | Path, plugin: str) -> Any:
    """The fitted model in a folder, if every byte of it is as it was written.

    Parameters
    ----------
    folder : path
    plugin : str
        Model plug-in that was fitted.

    Raises
    ------
    InputError
        If there is no such folder, or a file of it is lost or has changed.
    """
    if not Path(folder).is_dir():
        raise InputError(
            file=folder,
            field="fit",
            found="no such folder",
            expected=f"a fit of {plugin}",
            fix="Fit the model first",
        )
    check_contents(folder, f"a fit of {plugin}")
    used(folder)
    return registry.load("models", plugin).Fit.load(Path(folder))
