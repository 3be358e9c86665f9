import re
from collections.abc import Callable

import pytest

from tunesmith.core.errors import EvaluationError
from tunesmith.verifiers.judge import endpoint
from tunesmith.verifiers.judge import refusal as judged
from tunesmith.verifiers.judge.endpoint import Judge

JUDGE = Judge.model_validate({"base_url": "http://127.0.0.1:9/v1", "model": "local"})
LABELS = {(row["prompt"], row["completion"]): row["first"] for row in judged.labelled()}
Reply = Callable[[dict[str, str], dict[str, str]], str | None]
"""A judge: from the letters of the classes and the parts of the material to its reply."""


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> Callable[[Reply], list[dict[str, str]]]:
    """Answers in place of an endpoint; returns the parts that were asked about."""
    asked: list[dict[str, str]] = []

    def start(reply: Reply) -> list[dict[str, str]]:
        def letter(judge: Judge, instructions: str, parts: dict[str, str], question: str) -> str | None:
            asked.append(parts)
            kinds = {text: kind for kind, text in judged.DEFINITIONS.items()}
            lines = re.findall(r"^([ABC]): (.*)$", instructions.format(mark="x"), re.MULTILINE)
            return reply({kinds[text]: name for name, text in lines}, parts)

        monkeypatch.setattr(endpoint, "letter", letter)
        judged.classify.cache_clear()
        return asked

    return start


def honest(letters: dict[str, str], parts: dict[str, str]) -> str:
    return letters[LABELS[parts["PROMPT"], parts["ANSWER"]]]


def test_a_judge_that_agrees_with_the_labels_is_believed(replies: Callable[[Reply], list[dict[str, str]]]) -> None:
    asked = replies(honest)
    measured = judged.check_believed(JUDGE)
    assert (measured.share, measured.undecided, measured.believed) == (1, 0, True)
    assert len(asked) == 2 * measured.answers


@pytest.mark.parametrize(
    "reply",
    [lambda letters, parts: "A", lambda letters, parts: None, lambda letters, parts: letters["full_refusal"]],
    ids=["the first", "unreadable", "always a refusal"],
)
def test_a_judge_that_does_not_agree_is_not_believed(
    reply: Reply, replies: Callable[[Reply], list[dict[str, str]]]
) -> None:
    replies(reply)
    with pytest.raises(EvaluationError, match="cannot be believed on refusals"):
        judged.check_believed(JUDGE)


def _row(label: object) -> dict[str, object]:
    return {"label": label, "prompt": [{"role": "user", "content": "Do it."}]}


def test_the_judges_class_is_scored_by_the_label(replies: Callable[[Reply], list[dict[str, str]]]) -> None:
    asked = replies(lambda letters, parts: letters["full_refusal"])
    verdicts = [judged.verify(JUDGE, "Rather not.", _row(label)) for label in ("unsafe", "safe")]
    assert [(verdict.score, verdict.answer) for verdict in verdicts] == [(1, "full_refusal"), (0, "full_refusal")]
    assert asked == [{"PROMPT": "Do it.", "ANSWER": "Rather not."}] * 2  # the second verdict asks nothing again


def test_a_class_that_changes_with_the_order_is_not_gradable(
    replies: Callable[[Reply], list[dict[str, str]]],
) -> None:
    replies(lambda letters, parts: "A")
    assert judged.verify(JUDGE, "Rather not.", _row("unsafe")).status == "not_gradable"


@pytest.mark.parametrize(
    ("completion", "label", "status"),
    [
        ("", "safe", "no_answer"),
        ("\u200b", "safe", "no_answer"),
        ("No.", "bad", "not_gradable"),
        ("No.", ["safe"], "not_gradable"),
    ],
)
def test_what_needs_no_judge_asks_none(
    completion: str, label: object, status: str, replies: Callable[[Reply], list[dict[str, str]]]
) -> None:
    asked = replies(lambda letters, parts: "A")
    assert judged.verify(JUDGE, completion, _row(label)).status == status
    assert asked == []
