import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith.core import journal
from tunesmith.core.errors import TrainingError
from tunesmith.training.journal_callback import CONSTANT, DRIFTING, SETTLING, SUSTAINED, Recorder


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with journal.Journal(tmp_path / journal.NAME) as log:
        recorder = Recorder(log, lambda step: ["r1", "r2"], max_kl=0.5)
        recorder.on_train_begin(None, SimpleNamespace(max_steps=100, global_step=0), None)
        yield recorder


def log(recorder: Recorder, step: int, **values: float) -> None:
    recorder.on_log(None, SimpleNamespace(global_step=step), None, logs=values)


@pytest.mark.parametrize("values", [{"loss": math.nan}, {"loss": 0.0, "grad_norm": math.nan}, {"loss": math.inf}])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_training_and_names_step_and_rows(
    recorder: Recorder, values: dict[str, float]
) -> None:
    with pytest.raises(TrainingError, match=r"step 7 \(rows r1, r2\): loss .* not finite"):
        log(recorder, 7, **values)
    assert journal.read(recorder.log.path)[-1]["step"] == 7


def test_a_spike_stops_the_training(recorder: Recorder) -> None:
    for step in range(1, SETTLING + 2):
        log(recorder, step, loss=1.0)
    last = SETTLING + SUSTAINED
    for step in range(SETTLING + 2, last):
        log(recorder, step, loss=2.1)
    with pytest.raises(TrainingError, match=rf"step {last} .*: the loss spiked from 1 to 2\.1"):
        log(recorder, last, loss=2.2)


def test_a_rough_start_or_the_loss_of_rl_is_not_a_spike(recorder: Recorder) -> None:
    log(recorder, 1, loss=1.0)
    log(recorder, 2, loss=9.0)
    recorder.online = True
    for step in range(3, 12):
        log(recorder, step, loss=-0.01 * step)
    for step in range(12, 16):
        log(recorder, step, loss=20.0)


def test_one_step_of_hard_rows_is_not_a_spike(recorder: Recorder) -> None:
    for step in range(1, SETTLING + 5):
        log(recorder, step, loss=5.0 if step == SETTLING + 3 else 1.0)


def test_a_policy_too_far_from_its_reference_stops_the_training(recorder: Recorder) -> None:
    log(recorder, 1, loss=0.0, reward=1.0, kl=0.4)
    with pytest.raises(TrainingError, match=r"0\.6 nats a token from its reference, more than max_kl \(0\.5\)"):
        log(recorder, 2, loss=0.0, reward=1.0, kl=0.6)


DRIFT = "sampling/sampling_logp_difference/mean"
"""TRL's name for it."""


def test_an_engine_that_drifts_in_rollouts_one_after_another_stops_the_training(recorder: Recorder) -> None:
    recorder.max_drift = 0.1
    drifts = [0.3, 0.05, *[0.2] * (DRIFTING - 1)]
    for step, drift in enumerate(drifts, 1):
        log(recorder, step, loss=0.0, **{DRIFT: drift})
    assert journal.steps(journal.read(recorder.log.path))[0]["drift"] == 0.3
    log(recorder, len(drifts) + 1, loss=0.0)  # on completions that it had before
    with pytest.raises(
        TrainingError, match=r"by 0\.2, 0\.2, 0\.4 nats a token, more than rollouts\.max_drift \(0\.1\)"
    ):
        log(recorder, len(drifts) + 2, loss=0.0, **{DRIFT: 0.4})


def test_the_journal_renames_what_trl_logs_to_names_shared_by_all_objectives(recorder: Recorder) -> None:
    log(recorder, 1, loss=0.5, **{"rewards/accuracies": 0.75, "completions/mean_length": 4, "rewards/score/mean": 0.2})
    step = journal.read(recorder.log.path)[-1]
    assert (step["accuracy"], step["completion_tokens"], step["score"]) == (0.75, 4, 0.2)


def test_a_constant_reward_stops_the_training(recorder: Recorder) -> None:
    for step in range(1, CONSTANT):
        log(recorder, step, loss=0.0, completion_tokens=4.0, frac_reward_zero_std=1.0)
    with pytest.raises(TrainingError, match="the reward was constant: in each of 20 steps"):
        log(recorder, CONSTANT, loss=0.0, completion_tokens=4.0, frac_reward_zero_std=1.0)
