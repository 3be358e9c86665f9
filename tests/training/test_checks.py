import math
from typing import Any

import pytest

from tunesmith.core.errors import TrainingError
from tunesmith.training import checks
from tunesmith.training.measurements import Preference


def steps(**series: list[float]) -> list[dict[str, Any]]:
    return [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]


def test_a_falling_loss_passes() -> None:
    falling = steps(loss=[3, 2.5, 2, 1.5, 1.2, 1, 0.9, 0.9, 0.8])
    checks.check_steps(falling)
    assert checks.warnings(falling) == []


@pytest.mark.parametrize("loss", [[1.0] * 9, [0.5, 0.6, 0.5, 0.8, 0.9, 0.7, 0.8, 0.9, 0.8]])
def test_a_loss_that_does_not_fall_is_an_error(loss: list[float]) -> None:
    with pytest.raises(TrainingError, match="the loss did not fall"):
        checks.check_steps(steps(loss=loss))


def test_a_fall_within_the_noise_is_a_warning() -> None:
    noisy = steps(loss=[0.7, 0.6, 0.8, 0.9, 0.5, 0.7, 0.6, 0.8, 0.71])
    checks.check_steps(noisy)
    assert "cannot be told from noise" in checks.warnings(noisy)[0]


def test_losses_of_few_steps_and_of_rl_are_not_checked() -> None:
    checks.check_steps(steps(loss=[1.0, 2.0]))
    rising = [float(number) for number in range(12)]
    checks.check_steps(steps(loss=rising), online=True)
    assert checks.warnings(steps(loss=rising), online=True) == []


def test_a_training_without_steps_is_an_error() -> None:
    with pytest.raises(TrainingError, match="ended without a single step"):
        checks.check_steps([])


def test_a_base_that_moved_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"1 of the base's tensors changed.*: w"):
        checks.check_weights_moved("lora", ({"w": "a", "v": "b"}, {"w": "c", "v": "b"}), ({}, {}))
    with pytest.raises(TrainingError, match="tensors changed"):
        checks.check_weights_moved("qlora", ({"w": "a"}, {}), ({}, {}))


def test_all_weights_must_move_when_all_train() -> None:
    before = {"a": "1", "b": "1", "c": "1", "d": "1"}
    checks.check_weights_moved("full", ({}, {}), (before, before | {"a": "2", "b": "2", "c": "2"}))
    with pytest.raises(TrainingError, match="only 2 of the 4 tensors that were trained changed"):
        checks.check_weights_moved("full", ({}, {}), (before, before | {"a": "2", "b": "2"}))
    with pytest.raises(TrainingError, match="only 0 of the 4"):
        checks.check_weights_moved("lora", ({}, {}), (before, before))


def test_answers_that_all_stay_the_same_are_an_error() -> None:
    with pytest.raises(TrainingError, match="all 2 probe prompts exactly as its start does"):
        checks.check_answers_moved(["x", "y"], ["x", "y"])
    checks.check_answers_moved(["x", "y"], ["x", "z"])
    checks.check_answers_moved([], [])


def test_a_model_that_never_ends_its_turn_is_an_error() -> None:
    with pytest.raises(TrainingError, match="after none of 2 right answers"):
        checks.check_stops([False, False])
    checks.check_stops([False, True])
    checks.check_stops([])


def prefers(accuracy: float, margin: float = 1.0, low: float = 0.6) -> Preference:
    return Preference(pairs=10, accuracy=accuracy, low=low, high=1, margin=margin, loss=0.5)


@pytest.mark.parametrize("after", [prefers(0.5), prefers(0.45), prefers(0.7, margin=-0.1)])
def test_a_held_out_preference_no_better_than_chance_is_an_error(after: Preference) -> None:
    with pytest.raises(TrainingError, match="of 10 held-out pairs are preferred as labelled, by"):
        checks.check_prefers(after)


def test_a_held_out_preference_above_chance_passes_and_one_within_the_noise_is_a_warning() -> None:
    checks.check_prefers(prefers(0.7))
    assert checks.warnings([], prefers(0.7)) == []
    assert "cannot be told from chance" in checks.warnings([], prefers(0.6, low=0.4))[0]


def test_a_reward_that_was_constant_in_every_step_is_an_error() -> None:
    constant = [{"step": float(step), "loss": 0.0, "reward": 0.0, "equal_groups": 1.0} for step in range(1, 4)]
    with pytest.raises(TrainingError, match="in each of 3 steps all answers to a prompt had the same reward"):
        checks.check_signal(constant)
    checks.check_signal([*constant, constant[0] | {"equal_groups": 0.5}])
    checks.check_signal([{"step": 1.0, "loss": 0.5}])


def test_rows_that_the_trainer_dropped_are_an_error() -> None:
    with pytest.raises(TrainingError, match="63 rows were trained over all epochs, and 64 were prepared"):
        checks.check_rows(64, 63)
    checks.check_rows(64, 64)


RISING, FALLING, FLAT = [0.1 * i for i in range(12)], [2 - 0.1 * i for i in range(12)], [1.0] * 12
HEALTHY = [2.2, 2.0, 2.1, 1.8, 1.9, 1.7, 1.8, 1.5, 1.6, 1.4, 1.5, 1.3, 1.4, 1.3]


@pytest.mark.parametrize(
    ("series", "swings"),
    [
        ({"loss": HEALTHY}, False),
        ({"loss": [*HEALTHY[:5], 3.1, *HEALTHY[6:]]}, False),  # one batch of hard rows
        ({"loss": [1.9, 1.7, 2.0, 1.8, 1.9, 1.6, 3.1, 1.5, 3.5, 1.7, 2.9, 1.6, 1.4, 1.5]}, True),
        ({"loss": [0.69, 0.7, 0.69, 0.7, 0.69, 0.4, 0.9, 0.5, 0.9, 0.3, 1.1, 0.2], "margin": RISING}, False),
    ],
)
def test_losses_that_swing_above_those_of_the_start_are_a_warning(series: dict[str, list[float]], swings: bool) -> None:
    assert any("the losses swing" in text for text in checks.warnings(steps(**series))) is swings


def test_a_model_that_lost_the_right_answers_is_an_error_and_a_lesser_loss_a_warning() -> None:
    with pytest.raises(TrainingError, match=r"ruined the model: .* by 3\.6 nats each, and by 1\.2 before"):
        checks.check_not_ruined(1.2, 3.6)
    with pytest.raises(TrainingError, match="ruined"):
        checks.check_not_ruined(1.2, math.nan)
    for before, after in ((1.2, 0.9), (1.2, 2.2), (None, None)):
        checks.check_not_ruined(before, after)
    assert "less likely than before (1.2 → 1.3 nats" in checks.warnings([], None, (1.2, 1.3))[0]
    assert checks.warnings([], None, (1.2, 1.1)) == checks.warnings([], prefers(0.7), (1.2, 1.8)) == []
    assert "less likely than before" in checks.warnings([], prefers(0.7), (1.2, 2.0))[0]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ({"reward": RISING, "score": FALLING}, ["reward hacking?"]),
        ({"reward": RISING, "score": RISING}, []),
        ({"reward": FALLING, "score": FALLING}, ["the reward fell by 0.8"]),
        ({"reward": RISING}, []),
        ({"completion_tokens": RISING}, ["does the reward pay for length?"]),
        ({"completion_tokens": FLAT}, []),
        ({"reward": RISING[:4], "score": FALLING[:4]}, []),
    ],
)
def test_signs_of_a_gamed_reward_are_warnings(series: dict[str, list[float]], expected: list[str]) -> None:
    warnings = checks.warnings(steps(**series), online=True)
    assert len(warnings) == len(expected)
    assert all(part in text for part, text in zip(expected, warnings, strict=True))
