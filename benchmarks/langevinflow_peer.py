"""Seconds per training step of ladys' LangevinFlow; run by an interpreter that has ladys.

Usage: PYTHON benchmarks/langevinflow_peer.py '{"trials": 32, ...}' prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time

import torch


def main() -> None:
    """Time training steps on Poisson counts of the size asked for."""
    size = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    from ladys.models.langevin_flow import LangevinFlowConfig
    from ladys.training.strategies import build_strategy

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seen, held_in = size["seen_bins"], size["held_in"]
    config = LangevinFlowConfig(
        hidden_size=size["latents"],
        output_neurons=size["units"],
        fwd_steps=size["bins"] - seen,
    )
    model = config.build(held_in, seen)
    strategy = build_strategy(config.optimization)
    strategy.setup(model)
    counts = torch.poisson(torch.full((size["trials"], size["bins"], size["units"]), 0.2))
    batch = {
        "spikes": counts[:, :seen, :held_in],
        "heldout_spikes": counts[:, :seen, held_in:],
        "heldin_forward_spikes": counts[:, seen:, :held_in],
        "heldout_forward_spikes": counts[:, seen:, held_in:],
    }
    seconds = []
    for _ in range(size["steps"] + 1):
        start = time.process_time()
        strategy.step(model, batch, 1)
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    step = statistics.median(seconds[1:])
    print(json.dumps({"step": step, "peak": peak, "training": peak - before}))


if __name__ == "__main__":
    main()
