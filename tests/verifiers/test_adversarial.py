"""Adversarial answers through every verifier; `python -m benchmarks.attack_verifiers` sends a thousand."""

import time

import pytest

from benchmarks import attack_verifiers
from tests.verifiers import universal_answers

FEW = {"math": 12, "code": 12, "instructions": 16}
"""Answers to the verifiers that take long for each."""


def test_every_verifier_is_attacked() -> None:
    assert attack_verifiers.ROWS.keys() == attack_verifiers.catalog.VERIFIERS.keys()


@pytest.mark.parametrize("name", attack_verifiers.ROWS)
def test_no_adversarial_answer_takes_long_or_is_wrongly_rewarded_or_opts_out(name: str) -> None:
    texts = attack_verifiers.answers(FEW.get(name, 60), seed=3)
    # By the CPU time of this thread, since others share the machine; a worker has a limit of its own.
    tally = attack_verifiers.attack(name, texts, clock=time.thread_time)
    assert tally.failures == []


@pytest.mark.parametrize("name", universal_answers.UNIVERSAL)
def test_no_answer_is_right_for_two_rows_that_exclude_each_other(name: str) -> None:
    tally = attack_verifiers.attack(name, universal_answers.UNIVERSAL[name], clock=time.thread_time)
    assert tally.failures == []


PATTERNS = {
    "number": ["1 000 ", "1-1-", "\\frac{1}{", "10^"],
    "choice": ["A or ", "(A)", "A. ", "answer is ", "\\boxed{A}", "A is correct. "],
    "exact": ["\u0301\u0316", "**", "İ"],
    "length": ["\u0301", " ", "\u200b"],
    "refusal": ["\u0301\u0316", "add the ", "which is (", "i cannot "],
    "regex": ["a", "x"],
    "code": ["```", "``` ", "```a", "def f", "async ", "    x\n"],
}
"""Pieces that what a verifier looks for begins with."""


@pytest.mark.parametrize(("name", "piece"), [(name, piece) for name, pieces in PATTERNS.items() for piece in pieces])
def test_time_grows_with_the_length_alone(name: str, piece: str) -> None:
    opening, rest = piece[:-1], piece[-1]
    for text in (piece * (40_000 // len(piece)), opening + rest * 40_000, f"\\boxed{{{piece * (39_000 // len(piece))}"):
        start = time.thread_time()
        attack_verifiers.catalog.verify(name, text, attack_verifiers.ROWS[name][0])
        assert time.thread_time() - start < attack_verifiers.LIMIT
