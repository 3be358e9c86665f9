import json
from itertools import count
from typing import Any

import pytest

from tunesmith.core.errors import TrainingError
from tunesmith.training.objectives import verifier_rewards
from tunesmith.training.objectives.verifier_rewards import Score
from tunesmith.verifiers import catalog
from tunesmith.verifiers.judge import refusal as judged_refusal
from tunesmith.verifiers.judge.endpoint import Judge
from tunesmith.verifiers.verdict import Verdict, Verifier

ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": [], "verifier": "number", "reference": "4"},
    {"id": "b", "prompt": [], "completion": [{"role": "assistant", "content": "5 + 5 is 10"}]},
]


@pytest.fixture
def fickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier, `fickle`, whose score changes from call to call."""
    calls = count()
    monkeypatch.setitem(
        catalog.VERIFIERS, "fickle", Verifier(lambda completion, row: Verdict(float(next(calls) % 3 > 0), None, ""))
    )


def test_a_reward_is_the_weighted_sum_of_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        catalog.VERIFIERS,
        "short",
        Verifier(lambda completion, row: Verdict(float(len(completion) < 4), None, ""), needs=()),
    )
    score = Score({"number": 1.0, "short": 0.5})
    marks = score(completions=["4", "it is 4", "5", "who knows"], row=[json.dumps(ROWS[0])] * 4)
    assert marks == [1.5, 1.0, 0.5, 0.0]
    assert (score.full, score.last) == (1.5, ["a"])


def test_a_completion_that_cannot_be_graded_has_no_reward() -> None:
    assert Score({"number": 1.0})(completions=["4"], row=['{"id": "a", "reference": "none"}']) == [None]
    assert Score({"number": 1.0})(completions=["4"], row=['{"id": "a"}']) == [None]


def test_a_judge_classifies_refusals_in_place_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge.model_validate({"base_url": "http://127.0.0.1:9/v1", "model": "local"})
    monkeypatch.setattr(judged_refusal, "classify", lambda judge, prompt, completion: "full_compliance")
    row = json.dumps({"id": "a", "prompt": [], "label": "unsafe"})
    assert Score({"refusal": 1.0})(completions=["I can't help with that."], row=[row]) == [1.0]
    assert Score({"refusal": 1.0}, judge)(completions=["I can't help with that."], row=[row]) == [0.0]
    with pytest.raises(TrainingError, match="cannot be graded"):
        verifier_rewards.check_gold(Score({"refusal": 1.0}), [json.loads(row) | {"label": "harmful"}], "rows")


def test_rows_whose_own_answers_get_the_full_score_pass() -> None:
    verifier_rewards.check_gold(Score({"number": 2.0}), ROWS, "rows")


def test_rows_whose_own_answer_falls_short_are_an_error() -> None:
    rows = [*ROWS, {"id": "c", "prompt": [], "reference": "unknown"}]
    with pytest.raises(
        TrainingError, match=r"1 of 3 rows' own answers do not get full marks from number \(row c: None"
    ):
        verifier_rewards.check_gold(Score({"number": 1.0}), rows, "rows")


def test_rows_without_what_a_verifier_needs_are_an_error() -> None:
    with pytest.raises(TrainingError, match="1 of 1 rows do not say what is right: number needs 'reference'"):
        verifier_rewards.check_gold(
            Score({"number": 1.0}), [{"id": "p", "prompt": [], "chosen": [], "rejected": []}], "rows"
        )


@pytest.mark.usefixtures("fickle")
def test_a_verifier_with_changing_scores_is_an_error() -> None:
    answers = [["1", "2", "3"], ["1", "2", "3"]]
    with pytest.raises(TrainingError, match="grading the same answers twice"):
        verifier_rewards.check_rollouts(Score({"fickle": 1.0}), ROWS, [*answers[:1], ["1", "2"]], "sft")


def test_the_signal_is_the_mean_and_the_prompts_whose_answers_differ_in_score() -> None:
    signal = verifier_rewards.check_rollouts(Score({"number": 1.0}), ROWS, [["4", "3"], ["10", "10"]], "sft")
    assert (signal.mean, signal.equal_groups, signal.spread) == (0.75, 0.5, ROWS[:1])


def test_an_answer_that_cannot_be_graded_adds_no_spread() -> None:
    rows = [ROWS[0], ROWS[0] | {"reference": "none"}]
    signal = verifier_rewards.check_rollouts(Score({"number": 1.0}), rows, [["4", "3"], ["4", "3"]], "sft")
    assert signal.spread == rows[:1]


@pytest.mark.parametrize(
    ("answers", "fix"),
    [
        ([["1", "2"], ["3", "4"]], "no answer of sft is right yet: train it on answers to such prompts first"),
        ([["4", "it is 4"], ["10", "=10"]], "every answer is right already: take harder prompts"),
        ([["4", "4"], ["3", "3"]], "the policy always gives the same answer: raise temperature"),
        ([["4", "= 4"], ["3", "5"]], "take a verifier that tells better from worse"),
    ],
)
def test_equal_rewards_in_every_group_are_an_error_with_the_remedy(answers: list[list[str]], fix: str) -> None:
    with pytest.raises(TrainingError) as error:
        verifier_rewards.check_rollouts(Score({"number": 1.0}), ROWS, answers, "sft")
    assert "no signal: within each of 2 groups" in error.value.reason
    assert fix in error.value.fix
