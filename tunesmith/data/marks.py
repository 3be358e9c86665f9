"""Marks of single answers, and ratings of several: the columns that hold them, and what their values mean.

A mark is good or bad by itself: a boolean, a thumb, a word, 0 or 1. A rating is a number on a scale that only the
author of the data set knows: `data.<dataset>.neutral_rating` divides it. Of several rated answers to one prompt, the
best and the worst make a pair.
"""

import functools
import math
from typing import NamedTuple, cast

from tunesmith.core.ready_rows import Message
from tunesmith.data.records import Fields, RowError
from tunesmith.data.turns import messages

GOOD = (
    *("true", "1", "1.0", "+1", "yes", "good", "up", "thumbs_up", "thumbs-up", "thumbs up", "thumbsup", "👍", "like"),
    *("liked", "upvote", "upvoted", "positive", "desirable", "accept", "accepted", "approve", "approved", "chosen"),
    *("correct", "right", "pass", "passed", "helpful"),
)
BAD = (
    *(
        "false",
        "0",
        "0.0",
        "-1",
        "-1.0",
        "no",
        "bad",
        "down",
        "thumbs_down",
        "thumbs-down",
        "thumbs down",
        "thumbsdown",
    ),
    *(
        "👎",
        "dislike",
        "disliked",
        "downvote",
        "downvoted",
        "negative",
        "undesirable",
        "reject",
        "rejected",
        "discarded",
    ),
    *("incorrect", "wrong", "fail", "failed", "unhelpful"),
)
MEANING = dict.fromkeys(GOOD, True) | dict.fromkeys(BAD, False)
"""Whether an answer with this mark is good, by the mark's text in lower case."""
OPPOSITE = ("thumbs_down", "thumb_down", "disliked", "downvoted", "is_bad", "bad", "undesirable")
"""Columns whose yes marks an answer as bad."""
COLUMNS = (
    *("label", "kto_tag", "thumbs_up", "thumb_up", "thumbs", "thumb", "liked", "upvoted", "is_good", "good"),
    *("desirable", "accepted", "is_accepted", "approved", "correct", "is_correct", "feedback", "user_feedback"),
    *("human_feedback", "reaction", "vote", "verdict", "decision", "status", *OPPOSITE),
)
"""Names of columns that mark an answer; a value without a meaning of the table above is no mark."""
BALANCES = (("thumbs_up", "thumbs_down"), ("upvotes", "downvotes"), ("likes", "dislikes"))
"""Pairs of columns that count, for one answer, those who found it good and those who found it bad."""
RATINGS = (
    *("rating", "score", "overall_score", "stars", "helpfulness", "quality", "user_rating", "human_rating"),
    *("user_score", "human_score", "average_rating", "overall_rating", "grade"),
)
"""Names of columns that rate an answer with a number, the first of them before the others."""
RANKS = ("rank", "ranking", "ranks")
"""Names of columns that number answers from the best, which is the lowest."""
LISTS = ("completions", "responses", "answers", "outputs", "candidates", "generations", "replies")
"""Names of columns with several answers to one prompt."""
ORDERED = ("ranked_responses", "ranked_completions", "ranked_answers", "ranked_outputs")
"""Names of columns with several answers to one prompt, the best first."""
TEXTS = ("response", "answer", "completion", "text", "output", "content", "reply", "message", "messages")
"""Names of the field that holds an answer, within an element of such a list."""
PAIR_RATINGS = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"),
                ("rating_chosen", "rating_rejected"), ("chosen_rating", "rejected_rating"))  # fmt: skip
"""Pairs of columns that rate the two answers of a preference."""
COMPARED = {name for pair in PAIR_RATINGS for name in pair} | {f"{name}s" for name in (*RATINGS, *RANKS)} | {*RANKS}
"""Columns that are read beside the answers of a pair or of a list."""


class Mark(NamedTuple):
    """The mark of an answer, or its rating as a number, with the columns that hold it."""

    columns: tuple[str, ...]
    value: bool | float


def find(fields: Fields) -> Mark | None:
    """The mark or the rating of a row's answer, which may be within an object; None where no column holds one."""
    for columns in _candidates(tuple(fields)):
        if isinstance(value := fields[columns[0]], dict):
            if (inner := find(value)) is not None:
                return Mark(columns, inner.value)
        elif len(columns) == 2:
            good, bad = (_number(fields[name]) for name in columns)
            if good is not None and bad is not None:
                return Mark(columns, math.nan if good == bad else good > bad)
        elif columns[0] in RATINGS:
            if (rating := _number(value)) is not None:
                return Mark(columns, rating)
        elif (mark := _mark(value)) is not None:
            return Mark(columns, mark is not (columns[0] in OPPOSITE))
    return None


def is_good(mark: bool | float, neutral: float | None) -> bool:
    """Whether a mark, or a rating of a scale around ``neutral``, is good. Raises RowError where that is not decided."""
    if isinstance(mark, bool):
        return mark
    if mark != mark or mark == neutral:  # NaN: as many found the answer good as bad
        raise RowError("neutral rating: the answer is rated neither good nor bad")
    if neutral is None:
        raise RowError(
            f"rating without a scale: the answer is rated {mark:g}; name the rating that is neither good nor bad in "
            "data.<dataset>.neutral_rating, or train on every answer by naming prompt and completion in its columns"
        )
    return mark > neutral


def is_list_of_rated(fields: Fields, column: str) -> bool:
    """Whether a column holds several answers with a rating or a rank of each, or in a stated order."""
    return _order(fields, column) is not None


def best_and_worst(fields: Fields, column: str) -> tuple[list[Message], list[Message]]:
    """The best and the worst of the rated answers in ``column``, the first of equals. Raises RowError for a tie."""
    ratings = _order(fields, column) or []
    if len(set(ratings)) < 2:
        raise RowError(f"equal ratings: all {len(ratings)} answers in {column!r} are rated alike, so none is preferred")
    answers = cast("list[object]", fields[column])
    return _answer(answers[ratings.index(max(ratings))]), _answer(answers[ratings.index(min(ratings))])


def check_pair(fields: Fields) -> None:
    """Raise RowError where the ratings of a preference's two answers do not prefer the chosen one."""
    for names in PAIR_RATINGS:
        chosen, rejected = (_number(fields.get(name)) for name in names)
        if chosen is not None and rejected is not None and chosen <= rejected:
            if chosen == rejected:
                raise RowError(f"equal ratings: chosen and rejected are both rated {chosen:g}")
            raise RowError(f"rated the other way: chosen is rated {chosen:g}, rejected {rejected:g}")


@functools.lru_cache(maxsize=1024)
def _candidates(columns: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The columns of a row, or pairs of them, that may mark its answer, in the order in which they are read."""
    pairs = [pair for pair in BALANCES if {*pair} <= {*columns}]
    return (*pairs, *((name,) for name in (*COLUMNS, *RATINGS) if name in columns))


def _mark(value: object) -> bool | None:
    """The meaning of a mark; None for anything else, such as the number of a class."""
    return MEANING.get(str(value).strip().lower()) if isinstance(value, str | int | float) else None


def _number(value: object) -> float | None:
    """A finite number, which tables may hold as text; None for anything else."""
    if isinstance(value, str | int | float):
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


def _order(fields: Fields, column: str) -> list[float] | None:
    """A number for each answer in ``column``, higher for a better one; None where there is none, or no list."""
    answers = fields.get(column)
    if not isinstance(answers, list) or len(answers) < 2:
        return None
    if column in ORDERED:
        return [float(-place) for place in range(len(answers))]
    for names, sign in ((RATINGS, 1), (RANKS, -1)):
        for name in names:
            beside = next((value for key in (name, f"{name}s") if isinstance(value := fields.get(key), list)), None)
            values = beside or [answer.get(name) for answer in answers if isinstance(answer, dict)]
            numbers = [sign * number for value in values if (number := _number(value)) is not None]
            if len(numbers) == len(answers):
                return numbers
    return None


def _answer(element: object) -> list[Message]:
    """An element of a list of answers, or the field of it that holds the answer, as messages."""
    if isinstance(element, dict) and "role" not in element:
        element = next((element[name] for name in TEXTS if element.get(name)), None)
    if isinstance(element, str):
        return [{"role": "assistant", "content": element}]
    if isinstance(element, dict):
        element = [element]
    if not isinstance(element, list):
        raise RowError(f"wrong type: an answer in the list is {type(element).__name__}, not text or turns")
    return messages.from_list(element)
