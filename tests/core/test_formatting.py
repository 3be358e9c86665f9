import pytest
from shoot_out import HOW, evaluated

from tunesmith.core import formatting
from tunesmith.evaluation import comparison
from tunesmith.reports import sentences


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (12, "12 B"), (19_593_064, "19.6 MB"), (3.1e9, "3.10 GB")])
def test_sizes_read_well(value: float | None, text: str) -> None:
    assert formatting.size(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (9.4, "9s"), (99.2, "1m 39s"), (7530, "2h 05m")])
def test_times_read_well(value: float | None, text: str) -> None:
    assert formatting.seconds(value) == text


@pytest.mark.parametrize(("share", "text"), [(None, "–"), (0.359, "+35.9"), (-0.031, "−3.1"), (0.0, "+0.0")])
def test_differences_keep_their_sign(share: float | None, text: str) -> None:
    assert formatting.points(share) == text


@pytest.mark.parametrize(("pair", "text"), [((3.32e9, 3.05e9), "1.09×"), ((None, 1), "–"), ((1, None), "–")])
def test_a_ratio_needs_both(pair: tuple[float | None, float | None], text: str) -> None:
    assert formatting.ratio(*pair) == text


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
def test_the_verdict_says_who_leads_and_who_may_be_as_good(counts: list[int], start: str, end: str) -> None:
    models = [evaluated(name, right(count)) for name, count in zip(("base", "a", "b"), counts, strict=False)]
    said = sentences.best(comparison.compare(models, [], HOW))
    assert said.startswith(start)
    assert said.endswith(end)
