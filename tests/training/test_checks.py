from typing import Any

import pytest

from tunesmith.core.errors import TrainingError
from tunesmith.training import checks
from tunesmith.training.checks import Preference


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
    checks.check_steps(steps(loss=[0.0] * 12, completion_tokens=[5.0] * 12))


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
    return Preference(pairs=10, accuracy=accuracy, low=low, high=1, margin=margin)


@pytest.mark.parametrize("after", [prefers(0.5), prefers(0.45), prefers(0.7, margin=-0.1)])
def test_a_held_out_preference_no_better_than_chance_is_an_error(after: Preference) -> None:
    with pytest.raises(TrainingError, match="of 10 held-out pairs are preferred as labelled, by"):
        checks.check_prefers(after)


def test_a_held_out_preference_above_chance_passes_and_one_within_the_noise_is_a_warning() -> None:
    checks.check_prefers(prefers(0.7))
    assert checks.warnings([], prefers(0.7)) == []
    assert "cannot be told from chance" in checks.warnings([], prefers(0.6, low=0.4))[0]


def test_preference_counts_a_tie_half_and_has_an_interval() -> None:
    measured = checks.preference([2.0, 1.0, 0.0, 5.0], [1.0, 1.0, 3.0, 1.0])
    assert (measured.pairs, measured.accuracy, measured.margin) == (4, 0.625, 0.5)
    assert measured.low < measured.accuracy < measured.high


RISING, FALLING, FLAT = [0.1 * i for i in range(12)], [2 - 0.1 * i for i in range(12)], [1.0] * 12


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ({"reward": RISING, "score": FALLING}, ["reward hacking?"]),
        ({"reward": RISING, "score": RISING}, []),
        ({"reward": FALLING, "score": FALLING}, []),
        ({"reward": RISING}, []),
        ({"completion_tokens": RISING}, ["does the reward pay for length?"]),
        ({"completion_tokens": FLAT}, []),
        ({"reward": RISING[:4], "score": FALLING[:4]}, []),
    ],
)
def test_signs_of_a_gamed_reward_are_warnings(series: dict[str, list[float]], expected: list[str]) -> None:
    warnings = checks.warnings(steps(**series))
    assert len(warnings) == len(expected)
    assert all(part in text for part, text in zip(expected, warnings, strict=True))
