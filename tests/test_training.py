"""The training loop: best weights, early stopping, resuming after a kill, divergence."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from driftwave.errors import DriftwaveError, InputError
from driftwave.inference.training import CHECKPOINT, Schedule, seeded, train

SCHEDULE = Schedule(steps=60, batch=8, learning_rate=0.05, epoch_steps=3, save_every=4, patience=99)


class Task:
    """Linear regression with dropout: every kind of randomness the loop must carry over."""

    def __init__(self) -> None:
        with seeded(3, "weights"):
            self.module = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 1))
        drawn = torch.Generator().manual_seed(0)
        self.x = torch.randn(24, 4, generator=drawn)
        self.y = self.x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])

    def loss(self, index: torch.Tensor, step: int) -> torch.Tensor:  # noqa: ARG002
        noisy = self.x[index] + 0.1 * torch.randn(len(index), 4)
        return ((self.module(noisy) - self.y[index]) ** 2).mean()

    def validate(self) -> torch.Tensor:
        return ((self.module(self.x) - self.y) ** 2).mean()


def run(task: Task, schedule: Schedule = SCHEDULE, **options):
    return train(
        task.module,
        loss=options.pop("loss", task.loss),
        validate=options.pop("validate", task.validate),
        trials=24,
        schedule=schedule,
        seed=5,
        **options,
    )


def weights(task: Task) -> list[torch.Tensor]:
    return [w.detach().clone() for w in task.module.parameters()]


def test_learns_and_repeats_bit_for_bit():
    first, second = Task(), Task()
    history, again = run(first), run(second)
    assert history.valid_loss[-1] < 0.2 * history.valid_loss[0]
    assert history == again
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_leaves_the_callers_random_state_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    run(Task())
    assert torch.equal(torch.rand(3), expected)


def test_keeps_the_weights_of_the_best_epoch():
    task, seen = Task(), []

    def rising() -> torch.Tensor:
        seen.append(weights(task))
        return torch.tensor(abs(len(seen) - 4.0))

    history = run(task, validate=rising)
    assert history.best_epoch == 3
    assert all(torch.equal(a, b) for a, b in zip(weights(task), seen[3], strict=True))
    assert not torch.equal(seen[3][0], seen[-1][0])


def test_stops_early_after_patience():
    values = iter([3.0, 2.0, 2.5, 2.5, 2.5, 2.5])
    schedule = Schedule(steps=600, batch=8, epoch_steps=3, patience=3)
    history = run(Task(), schedule, validate=lambda: torch.tensor(next(values)))
    assert history.best_epoch == 1
    assert len(history.valid_loss) == 5
    assert history.ended == "no better validation loss for 3 epochs"


def test_few_trials_share_an_epoch():
    assert Schedule(batch=64, epoch_steps=16).epoch_length(100) == (8, 2)
    assert Schedule(batch=64, epoch_steps=16).epoch_length(1123) == (1, 18)


@pytest.mark.parametrize(
    "schedule",
    [
        SCHEDULE,
        Schedule(
            steps=60,
            batch=8,
            optimiser="adam",
            rate="plateau",
            decay_warmup=9,
            epoch_steps=3,
            save_every=4,
        ),
    ],
    ids=["cosine", "plateau"],
)
def test_resumed_run_equals_an_undisturbed_one(tmp_path: Path, schedule: Schedule):
    whole, broken, resumed = Task(), Task(), Task()
    expected = run(whole, schedule)
    calls = 0

    def interrupted() -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 11:
            raise KeyboardInterrupt
        return broken.validate()

    with pytest.raises(KeyboardInterrupt):
        run(broken, schedule, validate=interrupted, checkpoint=tmp_path, key="a")
    found = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert len(found["history"]["valid_loss"]) == 8
    epochs = 0

    def counted() -> torch.Tensor:
        nonlocal epochs
        epochs += 1
        return resumed.validate()

    history = run(resumed, schedule, validate=counted, checkpoint=tmp_path, key="a")
    assert epochs == len(expected.valid_loss) - 8
    assert history == expected
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import Task, run
task, calls = Task(), []
def validate():
    calls.append(1)
    if len(calls) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.validate()
run(task, validate=validate, checkpoint=Path({folder!r}), key="a")
"""


@pytest.mark.slow
def test_survives_sigkill(tmp_path: Path):
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]
    whole, resumed = Task(), Task()
    expected = run(whole)
    assert run(resumed, checkpoint=tmp_path, key="a") == expected
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_checkpoint_of_another_fit_is_not_used(tmp_path: Path):
    run(Task(), checkpoint=tmp_path, key="a")
    history = run(Task(), checkpoint=tmp_path, key="b")
    assert history.valid_loss == run(Task()).valid_loss
    assert history.notes == ["a checkpoint of other data, parameters or seed was left unused"]


def test_unreadable_checkpoint_is_named(tmp_path: Path):
    (tmp_path / CHECKPOINT).write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match=r"training\.pt: checkpoint: found an unreadable file"):
        run(Task(), checkpoint=tmp_path)


def test_divergence_steps_back_to_the_best_weights():
    task, steps = Task(), []

    def bursting(index: torch.Tensor, step: int) -> torch.Tensor:
        steps.append(step)
        value = task.loss(index, step)
        return value * math.nan if len(steps) == 16 else value

    history = run(task, loss=bursting)
    assert history.step_backs == 1
    assert math.isnan(history.valid_loss[5])
    assert history.notes == [
        "loss not finite in epoch 6: back to the weights of epoch 5, learning rate halved"
    ]
    assert history.best_epoch > 5
    assert all(torch.isfinite(w).all() for w in weights(task))
    assert history.best < history.valid_loss[4]


def test_hopeless_divergence_is_an_error():
    with pytest.raises(DriftwaveError, match="lower learning_rate"):
        run(Task(), loss=lambda index, step: Task().loss(index, step) * math.inf)


def test_divergence_to_the_end_keeps_the_best():
    task, steps = Task(), []

    def ruined(index: torch.Tensor, step: int) -> torch.Tensor:
        steps.append(step)
        return task.loss(index, step) * (math.nan if len(steps) > 9 else 1.0)

    history = run(task, loss=ruined)
    assert history.ended == "diverged 4 times"
    assert history.best_epoch == 2
    with torch.no_grad():
        assert float(task.validate()) == pytest.approx(history.valid_loss[2], rel=1e-6)
