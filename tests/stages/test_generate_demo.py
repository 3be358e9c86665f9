from collections.abc import Iterator
from typing import Any

import pytest

from stages.demo import open_questions
from stages.demo.everyday_things import THINGS
from stages.generate_demo import Demo, generate
from tunesmith.core.errors import ParamsError
from tunesmith.verifiers import length

SIZES = {"rows": 100, "open": 60, "pairs": 80, "marks": 90, "prompts": 70}
BOUNDS = {"min_words": open_questions.MIN_WORDS, "max_words": open_questions.MAX_WORDS}


def of_each_seed(kind: str) -> Iterator[dict[str, Any]]:
    """The rows of a kind, under several seeds."""
    for seed in range(5):
        yield from generate(Demo(**SIZES, seed=seed))[kind]


def test_prompts_are_distinct_and_the_same_for_the_same_seed() -> None:
    demo = generate(Demo(**SIZES, seed=1))
    prompts = [row.get("question", row.get("prompt")) for rows in demo.values() for row in rows]
    assert (len(prompts), len(set(prompts))) == (400, 400)
    assert demo == generate(Demo(**SIZES, seed=1))
    assert demo != generate(Demo(**SIZES, seed=2))


def test_sums_have_their_right_answers() -> None:
    for row in of_each_seed("answers"):
        sum_of = row["question"].removeprefix("State the final answer to the following arithmetic problem: ")
        assert eval(sum_of.rstrip(" =")) == int(row["answer"])


def test_of_a_pair_the_verifier_passes_the_chosen_answer_alone() -> None:
    for pair in of_each_seed("pairs"):
        assert length.verify(pair["chosen"], BOUNDS).score == 1
        assert length.verify(pair["rejected"], BOUNDS).score == 0
        assert pair["chosen"] in pair["rejected"]  # it says the same, in more words


def test_marks_are_the_verifiers() -> None:
    labels = set()
    for row in of_each_seed("marks"):
        assert length.verify(row["completion"], BOUNDS).score == row["label"]
        labels.add(row["label"])
    assert labels == {True, False}


def test_most_answers_to_imitate_are_long_winded_and_some_are_brief() -> None:
    brief = [length.verify(row["answer"], BOUNDS).score for row in of_each_seed("open")]
    assert 0 < sum(brief) < 0.2 * len(brief)


def test_the_own_answers_of_open_questions_pass_their_verifier() -> None:
    assert all(length.verify(row["reference"], row).score == 1 for row in of_each_seed("prompts"))


def test_rows_of_open_questions_name_the_thing_that_they_ask_about() -> None:
    for kind in ("open", "pairs", "marks", "prompts"):
        assert all(row["thing"] in row.get("question", row.get("prompt")) for row in of_each_seed(kind))


def test_things_are_said_to_do_different_things() -> None:
    assert len(set(THINGS.values())) == len(THINGS)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"rows": 16_363}, "demo: 16363 rows are more than the 16362 distinct sums"),
        ({"pairs": 609}, "demo: 829 rows are more than the 828 distinct open questions"),
    ],
)
def test_more_rows_than_distinct_questions_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        generate(Demo(**(SIZES | sizes), seed=1))
