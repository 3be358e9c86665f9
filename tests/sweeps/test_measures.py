from typing import Any, cast

import pytest

from tunesmith.core.errors import ParamsError
from tunesmith.core.journal import Event
from tunesmith.core.params import OBJECTIVES, Objective
from tunesmith.sweeps import measures

EVENTS = cast(
    "list[Event]",
    [
        {"event": "start", "objective": "dpo"},
        {"event": "validation", "step": 0, "loss": 0.69, "accuracy": 0.5},
        {"event": "validation", "step": 5, "loss": 0.4, "accuracy": 0.8},
        {"event": "validation", "step": 10, "loss": None, "accuracy": 0.9},
        {"event": "end", "steps": 10, "kept": 5},
    ],
)


def test_every_objective_is_compared_by_what_its_trainings_measure_and_keep_their_best_step_by() -> None:
    assert set(measures.MEASURES) == set(OBJECTIVES)
    assert {objective: measures.choose(objective, None, []) for objective in OBJECTIVES} == {
        "sft": "loss", "dpo": "loss", "kto": "loss", "reward": "loss", "rlhf": "score", "grpo": "score",
    }  # fmt: skip


REFUSED: list[tuple[Objective, str | None, str, str]] = [
    ("sft", "accuracy", "epochs", "do not measure it"),
    ("grpo", "loss", "steps", "do not measure it"),
    ("sft", None, "dataset", "rows"),
    ("sft", None, "eval_steps", "when trials are measured"),
    ("sft", None, "turns", "tokens"),
    ("dpo", None, "beta", "scales with it"),
    ("kto", "loss", "beta", "scales with it"),
    ("dpo", "accuracy", "start", "against the start"),
    ("grpo", None, "rewards.number", "scored"),
    ("rlhf", None, "reward", "scored"),
]


@pytest.mark.parametrize(("objective", "by", "param", "reason"), REFUSED)
def test_a_param_with_which_trials_are_not_comparable_is_refused(
    objective: Objective, by: Any, param: str, reason: str
) -> None:
    with pytest.raises(ParamsError, match=reason):
        measures.choose(objective, by, [param])


def test_beta_may_vary_where_the_accuracy_compares() -> None:
    assert measures.choose("dpo", "accuracy", ["beta", "learning_rate"]) == "accuracy"
    assert measures.choose("grpo", None, ["beta"]) == "score"


def test_a_trial_is_measured_at_the_step_that_it_kept() -> None:
    assert measures.before(EVENTS, "loss") == 0.69
    assert measures.measured(EVENTS, "loss") == [(5, 0.4), (10, None)]
    assert measures.result(EVENTS, "loss") == (5, 0.4)
    assert measures.result(EVENTS, "accuracy") == (5, 0.8)
