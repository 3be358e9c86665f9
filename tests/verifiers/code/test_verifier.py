from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.graded_programs import expecting, returning
from tunesmith.core.errors import SandboxError
from tunesmith.verifiers.code import verifier as code
from tunesmith.verifiers.sandbox import tiers

LIMITS = tiers.Limits(seconds=3.0, memory=256 << 20)

ROTATE = '''from typing import List
import math


def turned(word: str, by: int) -> str:
    """ The word with its first letters moved to its end. """
    return word[by:] + word[:by]


def turn_back(word: str, by: int) -> str:
    """ Undo what turned does.
    >>> turn_back("llohe", 2)
    'hello'
    """
'''
ROTATE_TEST = """
def check(candidate):
    import random
    rng = random.Random(1)
    for _ in range(20):
        word = "".join(rng.choices("abcdef", k=6))
        assert candidate(turned(word, 2), 2) == word
    assert candidate(word="", by=0) == ""
"""
ROTATE_BODY = "    return turned(word, len(word) - by)\n"
WHOLE = "def turn_back(word, by):\n    return word[-by:] + word[:-by] if by else word\n"
HUMAN = {
    "prompt": [{"role": "system", "content": "Write Python."}, {"role": "user", "content": ROTATE}],
    "test": ROTATE_TEST,
    "entry_point": "turn_back",
    "reference": ROTATE_BODY,
}
SUM = {
    "prompt": [{"role": "user", "content": "Write `total(numbers, start=0)`."}],
    "entry_point": "total",
    "cases": [
        {"args": [[1, 2, 3]], "expected": 6},
        {"args": [[]], "kwargs": {"start": 4}, "expected": 4},
        {"args": [[1.5, 1]], "expected": 2.5},
    ],
}
TOTAL = "def total(numbers, start=0):\n    return sum(numbers, start)\n"


@pytest.fixture(scope="module", autouse=True)
def _need_a_tier() -> None:
    try:
        tiers.tier()
    except SandboxError as error:
        pytest.skip(error.reason)


RIGHT = [
    ROTATE_BODY,
    ROTATE_BODY.strip(),
    ROTATE + ROTATE_BODY,
    WHOLE,
    f"Here it is.\n```python\n{WHOLE}```\nIt slices.",
    f"```py\n{WHOLE}",
    f"```\n{WHOLE}\n```\n```\nturn_back('ab', 1)\n```",
    f"```python\n{ROTATE_BODY}```",
    "moved = turned(word, len(word) - by)\nreturn moved",
    f"{ROTATE_BODY}```\n\nThis undoes it.",
    f"{ROTATE_BODY}\n\ndef unrelated():\n    return 1\n",
    f"Here it is:\n\n{WHOLE}\n# It slices, as (you) see.",
    f"{WHOLE}\nif __name__ == '__main__':\n    print(turn_back(input(), 1))\n",
    "turn_back = lambda word, by: turned(word, len(word) - by)",
    "def turn_back(word: List[str], by):\n    return turned(word, math.floor(len(word) - by))",
    "import collections\n" + WHOLE.replace("return ", "return str.__str__(").replace(" if by", ") if by"),
]
"""Completions of one problem, each right in a layout of its own."""


@pytest.mark.parametrize("completion", RIGHT)
def test_a_right_program_passes_in_every_layout(completion: str) -> None:
    verdict = code.grade(completion, HUMAN, tiers.tier(), LIMITS)
    assert (verdict.score, verdict.status) == (1.0, "scored"), verdict.reason


WRONG = [
    ("    return word", "AssertionError in `assert candidate(turned(word, 2), 2) == word`"),
    ("    pass", "AssertionError in `assert candidate(turned(word, 2), 2) == word`"),
    ("    raise ValueError('no')", "ValueError: no in `assert candidate(turned(word, 2), 2) == word`"),
    (
        "    return turn(word)",
        "NameError: name 'turn' is not defined in `assert candidate(turned(word, 2), 2) == word`",
    ),
    ("    return {word", "does not load: SyntaxError"),
    ("```python\nx = 1\n```", "AssertionError in `assert candidate(turned(word, 2), 2) == word`"),
    ("import os\nos._exit(0)\n" + WHOLE, "the program exited early"),
    ("import no_such_module\n" + WHOLE, "does not load: ModuleNotFoundError: No module named 'no_such_module'"),
    ("def turn_back():\n    pass", "TypeError: turn_back() takes 0 positional arguments but 2 were given"),
    (f"{ROTATE_BODY}\n\nThis undoes it.", "does not load: SyntaxError"),
    (f"{ROTATE_BODY}\nFor example: turn_back('ab', 1)", "does not load: SyntaxError"),
    (f"{WHOLE}\nIt slices, as (you) see.", "does not load: SyntaxError"),
    (f"Here it is:\n\n{WHOLE}\n<|end|>", "does not load: SyntaxError"),
    (f"```python\n{WHOLE}\nIt slices.\n```", "does not load: SyntaxError"),
    ("turn_back = 3", "does not load: NameError: the program defines no function 'turn_back'"),
]


@pytest.mark.parametrize(("completion", "reason"), WRONG)
def test_a_wrong_program_fails_and_the_reason_says_where(completion: str, reason: str) -> None:
    verdict = code.grade(completion, HUMAN, tiers.tier(), LIMITS)
    assert (verdict.score, verdict.status) == (0.0, "scored")
    assert reason in verdict.reason


@pytest.mark.parametrize(
    "completion", ["", "  \n", "I cannot do that.", "It rotates; see (below) = above.", "```\n```"]
)
def test_prose_without_code_is_no_answer(completion: str) -> None:
    assert code.verify(completion, HUMAN).status == "no_answer"


def test_gold_passes_and_every_case_counts() -> None:
    assert code.verify(ROTATE_BODY, HUMAN).score == 1
    verdict = code.verify(TOTAL, SUM)
    assert (verdict.score, verdict.reason, verdict.answer) == (1.0, "all 3 cases", TOTAL.strip())
    verdict = code.verify(TOTAL.replace(", start)", ")"), SUM)
    assert (verdict.score, verdict.reason) == (0.0, "case 2 of 3: 0 is not 4")
    verdict = code.verify("def total(numbers, start=0):\n    return 1 / len(numbers) and sum(numbers)", SUM)
    assert verdict.reason == "case 2 of 3 raises ZeroDivisionError: division by zero"


SAME = ["1", "True", "1.0", "'1'", "None", "[1]", "[]", "{'a': 1}", "{}", "''", "[[1], {'b': [None]}]"]


@pytest.mark.parametrize("expression", SAME)
def test_values_are_compared_by_exact_type(expression: str) -> None:
    for other in SAME:
        verdict = code.grade(returning(other), expecting(eval(expression)), tiers.tier(), LIMITS)
        assert verdict.score == (expression == other), (expression, other, verdict.reason)


DIFFERENT = [
    ("float('nan')", float("nan")),
    ("float('nan')", 1.0),
    ("(1,)", [1]),
    ("{1}", [1]),
    ("{1: 2}", {"1": 2}),
    ("{True: 2}", {"True": 2}),
    ("b'a'", "a"),
    ("type('I', (int,), {})(1)", 1),
    ("type('S', (str,), {})('a')", "a"),
    ("__import__('collections').Counter('a')", {"a": 1}),
    ("__import__('enum').IntEnum('E', 'a').a", 1),
    ("[1, 2]", [1]),
    ("[1]", [1, 2]),
    ("{'a': 1, 'b': 2}", {"a": 1}),
    ("{'a': 1}", {"a": 1, "b": 2}),
    ("2.5000001", 2.5),
    ("-1", 1),
    ("10 ** 20 + 1", 10**20),
    ("float('inf')", 1e308),
]


@pytest.mark.parametrize(("expression", "expected"), DIFFERENT)
def test_a_value_that_only_resembles_the_expected_one_is_wrong(expression: str, expected: object) -> None:
    verdict = code.grade(returning(expression), expecting(expected), tiers.tier(), LIMITS)
    assert (verdict.score, verdict.status) == (0.0, "scored")


@pytest.mark.parametrize(
    ("expression", "expected", "tolerance", "score"),
    [
        ("0.1 + 0.2", 0.3, 0.0, 0.0),
        ("0.1 + 0.2", 0.3, 1e-9, 1.0),
        ("[0.1 + 0.2, 1]", [0.3, 1], 1e-9, 1.0),
        ("0.4", 0.3, 0.01, 0.0),
        ("1", 1.0, 0.5, 0.0),
        ("1.0", 1, 0.5, 0.0),
        ("2", 1, 1.5, 0.0),
        ("float('nan')", 0.3, 1e9, 0.0),
        ("float('inf')", 0.3, 1e9, 0.0),
        ("{'a': [0.1 + 0.2]}", {"a": [0.3]}, 1e-9, 1.0),
        ("10 ** 20", 10**20, 0.0, 1.0),
        ("'\\ud800'", "\ud800", 0.0, 1.0),
    ],
)
def test_only_floats_are_compared_within_a_tolerance(
    expression: str, expected: object, tolerance: float, score: float
) -> None:
    verdict = code.grade(returning(expression), expecting(expected, tolerance=tolerance), tiers.tier(), LIMITS)
    assert verdict.score == score, verdict.reason


UNGRADABLE = [
    ({"test": "def check(candidate:"}, "SyntaxError"),
    ({"test": "x = 1"}, "KeyError: 'check'"),
    ({"test": "def check(candidate): pass"}, "it calls nothing"),
    ({"test": "def check(candidate): assert 1 == 2"}, "AssertionError"),
    ({"test": "def check(candidate): candidate('a', 1); assert missing"}, "NameError: name 'missing'"),
    ({"test": "def check(candidate): candidate('a', 1); import missing"}, "No module named 'missing'"),
    ({"test": "def check(candidate): candidate(len, 1)"}, "cannot be sent"),
    ({"test": "def check(candidate):\n    try: candidate(len, 1)\n    except Exception: pass"}, "cannot be sent"),
    ({"test": "import os\nos._exit(0)"}, "the test's process exited early"),
    ({"test": "while True: pass"}, "took too long before it called"),
    ({"test": "def check(candidate): candidate('a', 1); import os; os._exit(0)"}, "exited early"),
    ({"test": ""}, "a row has either"),
    ({"cases": [{"args": [], "expected": 1}]}, "a row has either"),
    ({"test": "", "cases": [{"args": []}]}, "cases.0.expected"),
    ({"test": "", "cases": [{"args": 1, "expected": 1}]}, "cases.0.args"),
    ({"test": "", "cases": [{"args": [object()], "expected": 1}]}, "case 1: a 'object' cannot be sent"),
    ({"entry_point": None}, "entry_point"),
    ({"test": "", "cases": [{"args": [], "expected": 1}], "tolerance": "much"}, "tolerance"),
]


@pytest.mark.parametrize(("fault", "reason"), UNGRADABLE)
def test_a_broken_row_or_test_is_not_gradable_and_never_a_wrong_answer(fault: dict[str, object], reason: str) -> None:
    limits = tiers.Limits(seconds=0.7)
    verdict = code.grade(WHOLE, {**HUMAN, **fault}, tiers.tier(), limits)
    assert verdict.status == "not_gradable"
    assert reason in verdict.reason


def test_a_program_cannot_choose_not_to_be_graded() -> None:
    for body in ("raise NameError('x')", "raise ImportError('x')", "return 10 ** 12", "return 'x' * 900_000"):
        row = {
            "entry_point": "f",
            "test": "def check(candidate):\n    for _ in range(candidate()): pass\n    assert candidate() == 1",
        }
        verdict = code.grade(f"def f():\n    {body}", row, tiers.tier(), tiers.Limits(seconds=0.7))
        assert (verdict.score, verdict.status) == (0.0, "scored"), verdict.reason


def test_without_a_sandbox_nothing_is_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tiers.Tier:
        raise SandboxError("no sandbox holds here", fix="install one")

    monkeypatch.setattr(tiers, "tier", refuse)
    verdict = code.verify(TOTAL, SUM)
    assert (verdict.status, verdict.reason) == ("not_gradable", "no sandbox holds here\n  fix: install one")


def test_threads_get_the_verdicts_of_their_own_programs() -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = range(16)
        verdicts = pool.map(
            lambda n: code.grade(returning(str(n)), expecting(n - n % 2), tiers.tier(), LIMITS), numbers
        )
        assert [verdict.score for verdict in verdicts] == [float(n % 2 == 0) for n in numbers]


DEEP = "def f(n):\n    x = 0\n    for _ in range(48):\n        x = [x]\n    return x"


@pytest.mark.parametrize(
    ("test", "program"),
    [
        ("def check(f):\n    assert f(f(2)) == 8", DEEP),
        ("def check(f):\n    assert f(f(2) + f(2)) == 16", "def f(n):\n    return 10 ** 4299 * 9"),
        ("def check(f):\n    assert f(len('a' * f(2))) == 8", "def f(n):\n    return 40_000_000_000"),
    ],
)
def test_a_test_that_breaks_on_a_returned_value_is_the_programs_failure(test: str, program: str) -> None:
    row = {"prompt": [], "entry_point": "f", "test": test, "reference": "def f(n):\n    return 2 * n"}
    assert code.verify(row["reference"], row).score == 1
    verdict = code.verify(program, row)
    assert (verdict.status, verdict.score) == ("scored", 0)


CHECK = "def check(f):\n    {}"
BREAKING = {
    "a huge list": (
        CHECK.format("y = [list(f(3)) for _ in range(10 ** 6)]\n    assert y == 6"),
        "return [0] * 170_000",
    ),
    "integers of one hash": (
        CHECK.format("assert f(3) == 6"),
        "return {number * (2 ** 61 - 1) for number in range(30_000)}",
    ),
    "a pattern without end": (
        CHECK.format("import re\n    assert re.fullmatch(f(3), 'a' * 40)"),
        "return '(a|aa)+$b' if x else ''",
    ),
    "a status of success": (CHECK.format("import sys\n    if f(3) != 6: sys.exit(f(3))"), "return 0"),
    "an error with five arguments": (CHECK.format("assert f(3) == 6"), "b'\\xff'.decode()"),
    "an attribute that is missing": (CHECK.format("assert f(3).real == 6"), "return 'a'"),
    "a name that only this value reaches": (CHECK.format("assert f(3) is not None or undefined"), "return None"),
    "memory that only this value takes": (
        CHECK.format("x = f(3)\n    assert ' ' * (10 ** 9 if x == 'boom' else 1) and x == 6"),
        "return 'boom'",
    ),
    "what ends an interpreter": (CHECK.format("assert f(3) == 6"), "raise KeyboardInterrupt"),
    "what ends a generator": (CHECK.format("assert f(3) == 6"), "raise GeneratorExit"),
}
"""Tests, and bodies of `f(x)` that want to end them, or to leave them without a grade."""


@pytest.mark.parametrize("name", BREAKING)
def test_no_returned_value_ends_a_test_in_the_programs_favour(name: str) -> None:
    test, body = BREAKING[name]
    reference = "def f(x): return 'a*'" if "pattern" in name else "def f(x): return 2 * x"
    row = {"entry_point": "f", "test": test, "reference": reference}
    limits = tiers.Limits(seconds=0.7, memory=256 << 20)
    verdict = code.grade(f"def f(x):\n    {body}", row, tiers.tier(), limits)
    assert (verdict.score, verdict.status) == (0.0, "scored"), verdict.reason


ENDING_EARLY = [
    "for got, want in zip(map(f, [1, 2, 3]), [2, 4, 6]):\n        assert got == want",
    "assert all(map(f, [1, 2, 3]))",
    "assert not list(filter(f, [1, 2, 3]))",
    "import itertools\n    for got in itertools.starmap(f, [(1,), (2,)]):\n        assert got == 2",
    "for got in iter(lambda: f(1), 3):\n        assert got == 2",
]


@pytest.mark.parametrize("error", ["StopIteration", "StopAsyncIteration", "type('S', (StopIteration,), {})"])
@pytest.mark.parametrize("body", ENDING_EARLY)
def test_an_error_of_the_program_cannot_end_the_tests_own_loop(body: str, error: str) -> None:
    row = {"entry_point": "f", "test": f"def check(f):\n    {body}", "reference": "def f(x): return 2 * x"}
    late = f"calls = []\ndef f(x):\n    calls.append(x)\n    if len(calls) > 1: raise {error}\n    return 2 * x"
    for program in (f"def f(x): raise {error}", late):
        verdict = code.grade(program, row, tiers.tier(), LIMITS)
        assert (verdict.score, verdict.status) == (0.0, "scored"), verdict.reason
