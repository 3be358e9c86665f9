"""A program that writes its process's replies itself, nonce included, gets no more than a returned value would."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.graded_programs import expecting
from tunesmith.verifiers.code import verifier as code
from tunesmith.verifiers.sandbox import tiers, wire


class Forger:
    """The process of such a program."""

    def __init__(self, reply: str) -> None:
        self.reply, self.ended = reply, False

    def send(self, nonce: str, *trees: object, deadline: float) -> None:
        if len(trees) > 3:
            self.next = f'["{nonce}","loaded"]'
        else:
            self.next = f'["{nonce}","ended",1]' if trees == ("end",) else self.reply.replace("NONCE", nonce)

    def receive(self, deadline: float) -> object:
        try:
            return wire.parse(self.next.encode())
        except wire.WireError as error:
            raise tiers.ProcessError(str(error)) from None


VALUES: list[tuple[object, str, float]] = [
    (1, "true", 0),
    (1, "1.0", 0),
    (1, '"1"', 0),
    (True, "1", 0),
    (1.0, "1", 0),
    (1.5, "NaN", 0),
    (1.5, "Infinity", 0),
    (1.5, "1e400", 0),
    (0, "-0.0", 0),
    (0.0, "0", 0),
    (False, "null", 0),
    ([1, 2], '{"tuple":[1,2]}', 0),
    ([1, 2], '{"set":[1,2]}', 0),
    ([1, 2], '{"set":[9],"tuple":[1,2]}', 0),
    ([], '{"dict":[]}', 0),
    ({"a": 1, "b": 2}, '{"dict":[["a",1],["a",1]]}', 0),
    ({"a": 1}, '{"dict":[["a",2],["a",1]]}', 0),
    ({"a": 1, "b": 2}, '{"dict":[["a",1],["b",2],["b",2]]}', 0),
    ({"dict": [["a", 1]]}, '{"dict":[["a",1]]}', 0),
    ({"a": 1}, '{"dict":[[["a"],1]]}', 0),
    ("ab", '{"bytes":"6162"}', 0),
    ([1], '{"frozenset":[1]}', 0),
    ([1], "[" * 60 + "1" + "]" * 60, 0),
    ([1], "[" * 200_000, 0),
    (5, "9" * 5000, 0),
    (100, "1E2", 0),
    (1, "1] garbage", 0),
    (1, '0],"returned",[1', 0),
    (1, "\ufeff1", 0),
    ("a", '"a\\u0000"', 0),
    (1.5, "NaN", 0.1),
    (1.5, "Infinity", 0.1),
    (1.5, "true", 0.1),
    (1.5, "1", 0.1),
    (1.5, "[1.5]", 0.1),
    (1.5, "9e307", 1e-3),
]
OTHERS = [
    '[true,"returned",1]',
    '[{"set":[1]},"returned",1]',
    '["NONCE","raised",["x"],"y"]',
    '["NONCE","returned",1,1]',
    '["NONCE","ended",1]',
    '["NONCE"]',
    '[["NONCE"],"returned",1]',
]


@contextmanager
def opened(reply: str) -> Iterator[list[Forger]]:
    yield [Forger(reply)]


def grade(monkeypatch: pytest.MonkeyPatch, reply: str, row: dict[str, Any]) -> float:
    monkeypatch.setattr(tiers, "open_processes", lambda *_, **__: opened(reply))
    return code.grade("def f(): pass", row, "bubblewrap").score


def test_a_forged_reply_with_the_right_value_is_no_forgery(monkeypatch: pytest.MonkeyPatch) -> None:
    assert grade(monkeypatch, '["NONCE","returned","\\u0061"]', expecting("a")) == 1


@pytest.mark.parametrize(("expected", "value", "tolerance"), VALUES)
def test_a_forged_value_that_only_resembles_the_expected_one_is_wrong(
    monkeypatch: pytest.MonkeyPatch, expected: object, value: str, tolerance: float
) -> None:
    assert grade(monkeypatch, f'["NONCE","returned",{value}]', expecting(expected, tolerance=tolerance)) == 0


@pytest.mark.parametrize("reply", OTHERS)
def test_a_reply_of_another_form_is_wrong(monkeypatch: pytest.MonkeyPatch, reply: str) -> None:
    assert grade(monkeypatch, reply, expecting(1)) == 0
