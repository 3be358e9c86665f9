from typing import Any

import pytest
from shoot_out import HOW, evaluated

from tunesmith.evaluation import comparison
from tunesmith.evaluation.trainings import Selection
from tunesmith.reports import sentences


def right(count: int) -> list[str]:
    """Answers of which the first ``count`` of 40 are right."""
    return [str(number) if number < count else "x" for number in range(40)]


@pytest.mark.parametrize(
    ("counts", "start", "end"),
    [
        pytest.param([2, 20, 38], "b scores highest. b is better than base", "than every other model.", id="clear"),
        pytest.param([2, 36, 38], "b scores highest.", "Not told apart from b on these prompts: a.", id="close"),
        pytest.param(
            [12, 0, 10], "No model scores higher than base: accuracy 30.0%", "on these prompts: b.", id="base leads"
        ),
        pytest.param([2, 38], "a is better than base: accuracy 5.0% → 95.0%", "points).", id="one alone"),
    ],
)
def test_the_sentence_names_the_leader_and_the_models_that_may_be_as_good(
    counts: list[int], start: str, end: str
) -> None:
    models = [evaluated(name, right(count)) for name, count in zip(("base", "a", "b"), counts, strict=False)]
    sentence = sentences.best(comparison.compare(models, [], HOW))
    assert sentence.startswith(start)
    assert sentence.endswith(end)


@pytest.mark.parametrize(
    ("kept", "by", "values", "reason"),
    [
        (24, "loss", {0: 2.5, 24: 0.4123, 30: 0.4388}, "the lowest validation loss (0.41); the last had 0.44"),
        (24, "loss", {24: 0.41201, 30: 0.41202}, "the lowest validation loss (0.41201); the last had 0.41202"),
        (24, "loss", {24: 0.4, 30: None}, "the lowest validation loss (0.4); the last had none that is finite"),
        (30, "loss", {0: 2.5, 24: 0.44, 30: 0.41}, "the last, with the lowest validation loss (0.41)"),
        (24, "score", {0: -1.5, 24: -0.5, 30: -0.8}, "the highest validation score (−0.5); the last had −0.8"),
        (
            30,
            "score",
            {0: 0.62, 24: 0.5, 30: 0.6},
            "the last, with the highest validation score (0.6); before the training it was 0.62",
        ),
        (30, None, {0: 2.5, 30: 0.4}, "the last, as params.yaml says (keep: last)"),
        (30, None, {}, "the last, since there were no validation rows"),
    ],
)
def test_a_sentence_says_which_step_was_kept_and_why(
    kept: int, by: Any, values: dict[int, float | None], reason: str
) -> None:
    measured: Any = [{"step": step, by or "loss": value} for step, value in values.items()]
    choice: Selection = {"steps": 30, "kept": kept, "by": by, "validation": measured}
    assert sentences.kept(choice) == f"kept: step {kept} of 30, {reason}"
