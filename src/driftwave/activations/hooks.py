"""Outputs of the modules inside any torch model, by forward hooks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from driftwave.errors import InputError


def record_modules(
    module: nn.Module, names: Iterable[str], run: Callable[[], Any]
) -> dict[str, np.ndarray]:
    """What modules give while a model runs.

    Parameters
    ----------
    module : nn.Module
        Any torch model. It is put in evaluation mode while it runs, and back after.
    names : iterable of str
        Names of its submodules, as ``module.named_modules()`` lists them.
    run : callable
        Runs the model once or several times (batches, steps).

    Returns
    -------
    dict of str to ndarray
        Output of each module by name: of a tuple (as recurrent layers give) its first tensor. If a
        module ran several times, its outputs are put one after the other along their first axis.

    Raises
    ------
    InputError
        A name that the model does not have; a module that did not run, or gave no tensor; outputs
        that do not fit one after the other.
    """
    known = dict(module.named_modules())
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise _fault(module, unknown, "no such module", f"some of {[n for n in known if n]}")
    outputs: dict[str, list[Any]] = defaultdict(list)

    def keeper(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found = _first_tensor(output)
            outputs[name].append(None if found is None else found.detach().cpu())

        return keep

    training = {name: part.training for name, part in known.items()}
    with ExitStack() as stack:
        for name in wanted:
            handle = known[name].register_forward_hook(keeper(name))
            stack.callback(handle.remove)
        module.eval()
        try:
            with torch.no_grad():
                run()
        finally:
            for name, part in known.items():
                part.training = training[name]
    return {name: _joined(module, name, outputs[name]) for name in wanted}


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list | tuple):
        found = (_first_tensor(part) for part in output)
        return next((tensor for tensor in found if tensor is not None), None)
    return None


def _joined(module: nn.Module, name: str, parts: list[Any]) -> np.ndarray:
    if not parts:
        raise _fault(module, [name], "a module that did not run", "one that takes part")
    if any(part is None or part.ndim == 0 for part in parts):
        raise _fault(module, [name], "an output that is no array", "a module that gives a tensor")
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = sorted({tuple(part.shape) for part in parts})
        raise _fault(module, [name], f"outputs of shapes {shapes}", "one shape in all runs")
    return torch.cat(parts).numpy()


def _fault(module: nn.Module, names: list[str], found: str, expected: str) -> InputError:
    return InputError(
        file=type(module).__name__,
        field=f"modules {names}",
        found=found,
        expected=expected,
        fix="Name modules as `model.named_modules()` does",
    )
