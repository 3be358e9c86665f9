"""The interior of the sandbox, as programs and tests see it."""

from tests.graded_programs import expecting, returning
from tunesmith.verifiers.code import verifier as code
from tunesmith.verifiers.sandbox import tiers

LIMITS = tiers.Limits(seconds=3.0, memory=256 << 20)


def test_a_test_gets_values_of_every_plain_type_and_the_errors_raised(tier: tiers.Tier) -> None:
    row = {
        "entry_point": "echo",
        "test": """
def check(candidate):
    for value in (None, True, 1, 1.5, "x", b"x", [1], (1, (2,)), {1: "a"}, {1, 2}, frozenset([1]), 10 ** 30):
        got = candidate(value)
        assert got == value and type(got) is type(value)
    kept = [3, 1]
    candidate(kept).append(0)
    assert kept == [3, 1]
    for bad in ("KeyError", "UnicodeDecodeError", "Own"):
        try:
            candidate(bad, fail=True)
        except KeyError as error:
            assert bad == "KeyError"
        except RuntimeError as error:
            assert bad != "KeyError" and str(error).startswith(bad)
        else:
            assert False
""",
    }
    program = """
class Own(Exception): pass
def echo(value, fail=False):
    if fail:
        if value == "KeyError": raise KeyError(value)
        if value == "UnicodeDecodeError": b"\\xff".decode()
        raise Own(value)
    return value
"""
    assert code.grade(program, row, tier, LIMITS).reason == "the test passes, 16 calls"


def test_under_a_test_a_subclass_counts_as_its_base(tier: tiers.Tier) -> None:
    row = {"entry_point": "f", "test": "def check(candidate):\n    assert candidate('aab') == {'a': 2, 'b': 1}"}
    assert code.grade("from collections import Counter\ndef f(s): return Counter(s)", row, tier).score == 1


def test_large_arguments_and_answers_are_passed_on(tier: tiers.Tier) -> None:
    row = {
        "entry_point": "f",
        "test": "def check(candidate):\n    assert len(candidate(list(range(200_000)))) == 50_000",
    }
    assert code.grade("def f(x): return x[:50_000]", row, tier, LIMITS).score == 1


def test_the_largest_answer_allowed_is_read(tier: tiers.Tier) -> None:
    program = returning("[[] for _ in range(340_000)]")
    assert code.grade(program, expecting(1), tier, LIMITS).score == 0


def test_asyncio_works_inside(tier: tiers.Tier) -> None:
    program = "import asyncio\nasync def g(): return 1\ndef f(): return asyncio.run(g())"
    assert code.grade(program, expecting(1), tier, LIMITS).reason == "all 1 cases"


def test_the_standard_library_works_inside(tier: tiers.Tier) -> None:
    names = "bisect collections copy dataclasses datetime decimal fractions functools hashlib heapq itertools json"
    names += " math operator random re sqlite3 statistics string typing unicodedata uuid zlib enum queue csv numbers"
    program = f"import {', '.join(names.split())}\ndef f(): return len(hashlib.sha256(b'').hexdigest())"
    assert code.grade(program, expecting(64), tier, LIMITS).reason == "all 1 cases"


def test_the_order_of_a_set_is_the_same_in_every_run(tier: tiers.Tier) -> None:
    program = returning("''.join({'a', 'b', 'c', 'd', 'e', 'f', 'g'})")
    reasons = {code.grade(program, expecting(""), tier, LIMITS).reason for _ in range(3)}
    assert len(reasons) == 1
