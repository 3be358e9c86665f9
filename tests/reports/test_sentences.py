import pytest
from shoot_out import HOW, evaluated

from tunesmith.evaluation import comparison
from tunesmith.reports import sentences


def right(count: int) -> list[str]:
    """Answers of which the first ``count`` of 40 are right."""
    return [str(number) if number < count else "x" for number in range(40)]


@pytest.mark.parametrize(
    ("counts", "start", "end"),
    [
        pytest.param([2, 20, 38], "b scores highest. b is better than base", "than every other model.", id="clear"),
        pytest.param([2, 36, 38], "b scores highest.", "Not told apart from b on these prompts: a.", id="close"),
        pytest.param([12, 0, 10], "No model scores higher than base: 30.0%", "on these prompts: b.", id="base leads"),
        pytest.param([2, 38], "a is better than base: 5.0% → 95.0%", "points).", id="one alone"),
    ],
)
def test_the_sentence_names_the_leader_and_the_models_that_may_be_as_good(
    counts: list[int], start: str, end: str
) -> None:
    models = [evaluated(name, right(count)) for name, count in zip(("base", "a", "b"), counts, strict=False)]
    sentence = sentences.best(comparison.compare(models, [], HOW))
    assert sentence.startswith(start)
    assert sentence.endswith(end)
