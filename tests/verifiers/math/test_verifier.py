import threading
import time
from functools import partial

import pytest

from benchmarks import fuzz_verifiers
from tunesmith.verifiers import catalog

verify = partial(catalog.verify, "math")

SAME = [
    ("5", "The answer is $5$."),
    ("5", "x = 5"),
    ("x=5", "5"),
    ("x=5", "5=x"),
    ("5", "x = 3 + 2 = 5"),
    ("1/2", "0.5"),
    ("1/3", r"\frac{2}{6}"),
    ("5/2", "2 1/2"),
    (r"-2\frac{1}{2}", "-2.5"),
    ("50", r"50\%"),
    ("50%", "50"),
    ("1234", "1,234"),
    ("1,234", r"\$1\,234"),
    ("100000", "10^5"),
    ("100000", "1e5"),
    ("7", "7 apples"),
    ("12", r"12\text{ cm}^2"),
    ("90", r"90^\circ"),
    ("100", "100_8"),
    (r"2\sqrt{2}", r"\sqrt{8}"),
    (r"\frac{\pi}{2}", "π/2"),
    ("x^2+2x+1", "(x+1)^2"),
    ("y=2x+1", "2x+1"),
    ("2x+3y=6", "6=3y+2x"),
    ("x>5", "5<x"),
    ("(1,2)", "( 1, 2 )"),
    ("[1,2)", "[1, 2)"),
    ("1,2", "2 and 1"),
    ("1,2", r"\boxed{2} and \boxed{1}"),
    (r"\{1,2\}", "x = 2 or x = 1"),
    (r"\{5\}", "5"),
    (r"\pm 3", "-3, 3"),
    (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)"),
    ("x=1, y=2", "y=2, x=1"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ("Paris", r"\text{paris}"),
    (r"\text{(A)}", "A"),
    ("120", "9 more\n#### 120"),
    ("2,3", r"\boxed{2} \quad \text{or} \quad \boxed{3}"),
    ("-2, 5", r"$\boxed{-2},\; \boxed{5}$"),
    ("12", "She pays $100 - $88 = $12"),
    ("$100 - $88 = $12", "12"),
    ("1200.5", "Total: $1,200.50"),
    ("34", "The largest $n$ is 34"),
    ("7", "the value of $f(3)$ is 7"),
    ("12 cm", "12 centimeters"),
    ("12 cm", "12"),
    ("7 apples", "7 fruits"),
    ("1:2", "1:2"),
    ("1/2", "2 : 4"),
    ("1:2:3", "1:2:3"),
    ("(3,2)", "(p,q)=(3,2)"),
    ("(x, y, z) = (1, 2, 3)", "(1,2,3)"),
    ("e", r"\mathrm{e}"),
    (r"3+2i", r"3+2\mathrm{i}"),
    ("(3,5)", "3<x<5"),
    (r"3 \le x < 5", "[3,5)"),
    (r"(5,\infty)", "x>5"),
    (r"(-\infty,1)\cup(2,\infty)", "x<1 or x>2"),
    ("32349", r"32,\! 349"),
]
OTHER = {
    "either of two": [("2", "1 or 2"), ("1", "1 or 2"), ("2", r"\boxed{1} or \boxed{2}"), ("3", "$1$ $2$ $3$")],
    "a hair's breadth": [("42", "42.0000001"), ("0", "10^{-20}"), ("2^{-60}", "2^{-70}"), ("1", "0.9999999999999999")],
    "another tiny number": [(r"10^{-60}\sqrt2", r"10^{-70}\sqrt2")],
    "an approximation": [("1/3", "0.333333"), (r"\pi", "3.14159265358979"), (r"\sqrt{2}", "1.41421356237309505")],
    "the last digit of many": [("123456789012345678901234567890", "123456789012345678901234567891")],
    "a share for a percentage": [("50", "0.5"), ("50%", "0.5"), ("0.5", "50%")],
    "an equation's right side": [("5", "2x=5"), ("5", "4=5"), ("5", "x=3=5"), ("x=5", "y=5"), ("x=5", "x=x")],
    "more solutions": [("x=5", "x^2=25"), ("5", r"\pm 5"), ("5", r"x \ne 5"), ("5", "x>5")],
    "the question again": [
        ("5050", r"\sum_{k=1}^{100} k"),
        ("2", r"\int_0^2 1 dx"),
        ("120", "5!"),
        ("10", r"\binom{5}{2}"),
    ],
    "another order": [("(1,2)", "(2,1)"), ("x=1, y=2", "2, 1"), ("(2,1)", "(5,3)")],
    "other brackets": [("(1,2)", "1,2"), ("(1,2)", "[1,2]"), (r"\{1,2\}", "(1,2)"), ("[1,2)", "(1,2]")],
    "twice the same": [("1,2", "1,1,2"), ("1,2", "1,1")],
    "another relation": [("x>5", "x<5"), ("x>5", r"x\ge 5")],
    "another letter": [("A", "a"), ("x", "y"), ("2x", "x")],
    "another base": [("12_5", "12_8")],
    "another unit": [("12 cm", "12 km"), ("5 kg", "5 g"), (r"12\text{ cm}^2", r"12\text{ cm}^3"), ("$12", "12 €")],
    "another ratio": [("1:2", "2:1"), ("1:2:3", "1:3:2")],
    "another interval": [("(3,5)", r"3\le x\le 5"), ("(5,6)", "x>5")],
    "one of two boxes": [("3", r"\boxed{2} \quad \text{or} \quad \boxed{3}")],
}
MISREAD = {
    "an anagram": ("seven", "evens"),
    "a superscript": ("103", "10³"),
    "a version": ("0.36", "1.2.3"),
    "digits side by side": ("6", r"\boxed{1 2 3}"),
    "a vector": ("2", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    "a word before it": ("5", r"\boxed{\text{not }5}"),
    "a scale": ("5", "5 million"),
    "a thin space": ("0", r"3\,000"),
    "an empty box": ("5", r"5 \boxed{}"),
    "an open box": ("5", r"5 \boxed{5"),
    "an unfinished sentence": ("0", "not enough to find f(0)"),
    "a part of a sum": ("1", "(n/2) + 1"),
    "an end of a range": ("2005", "between 2000 and 2005"),
    "an amount among others": ("20", "between $10 and $20"),
    "division by zero": ("5", r"\boxed{\frac{5}{0}}"),
}


@pytest.mark.parametrize(("reference", "completion"), SAME)
def test_the_same_answer_in_another_form_is_right_and_so_is_gold(reference: str, completion: str) -> None:
    assert verify(completion, {"reference": reference}).score == 1
    assert verify(reference, {"reference": reference}).score == 1


@pytest.mark.parametrize("name", OTHER)
def test_another_answer_is_wrong(name: str) -> None:
    for reference, completion in OTHER[name]:
        verdict = verify(completion, {"reference": reference})
        assert (verdict.score, verdict.status) == (0, "scored"), (reference, completion)
        assert verify(reference, {"reference": reference}).score == 1


@pytest.mark.parametrize("name", MISREAD)
def test_an_answer_that_an_algebra_system_would_misread_is_not_accepted(name: str) -> None:
    reference, completion = MISREAD[name]
    assert verify(completion, {"reference": reference}).score == 0


@pytest.mark.parametrize(
    "text", ["", "I do not know", "...", r"\boxed{}", r"\boxed{5 +}", r"\boxed{" + "(" * 200 + "}"]
)
def test_a_completion_that_cannot_be_read_is_no_answer(text: str) -> None:
    assert verify(text, {"reference": "5"}).status == "no_answer"


@pytest.mark.parametrize("reference", ["", "I do not know", r"\boxed{5 +}", r"\boxed{\frac{1}{0}}"])
def test_a_reference_that_cannot_be_read_is_not_gradable(reference: str) -> None:
    assert verify("5", {"reference": reference}).status == "not_gradable"


@pytest.mark.parametrize(
    "repetition",
    [
        *("17+25", r"\boxed{17+25}", r"6\times 7", "7^2-7", r"\max(42,3)", r"\lfloor 42.5\rfloor"),
        *("84/2", r"\frac{84}{2}", r"\sqrt{1764}", "43-1", r"6 \cdot 7", "|-42|"),
    ],
)
def test_repeating_the_question_is_not_an_answer(repetition: str) -> None:
    assert verify(repetition, {"reference": "42"}).score == 0


@pytest.mark.parametrize(
    ("reference", "completion"),
    [("42", "17 + 25 = 42"), ("1000", "10^3"), ("0.5", r"\frac{1}{2}"), ("5/2", "2 1/2"), ("1200", r"1.2 \times 10^3")],
)
def test_a_number_may_be_written_in_every_usual_form(reference: str, completion: str) -> None:
    assert verify(completion, {"reference": reference}).score == 1


TOWERS = [r"9^{9^{9^{9}}}", r"10^{10^{10}}", r"10^{-10^{10}}", r"2^{2^{40}}", r"1.5^{10^9}", r"(1+\frac{1}{7})^{10^8}",
          r"((x+1)^{60}(y+2)^{60})^{4000}", r"(10^9)!", r"\sum_{k=1}^{10^9}k", r"10^{10^9}+1"]  # fmt: skip


@pytest.mark.parametrize("tower", TOWERS)
def test_a_number_too_large_to_be_written_is_refused_before_it_is_computed(tower: str) -> None:
    verdict = verify(rf"\boxed{{{tower}}}", {"reference": "x+1"})
    assert verdict.score == 0
    assert "within" not in verdict.reason


@pytest.mark.parametrize(
    "power", ["10^{100}", "2^{2^{10}}", "3^{2018}", "x^{10^{10}}", "2^{50+60+70}", "e^{10^6}", "10^{-5}"]
)
def test_a_power_that_can_be_computed_is_compared(power: str) -> None:
    assert verify(power, {"reference": power}).score == 1


ENDLESS = r"(x+y+z)^{100}-(x+y)^{100}"


def test_a_completion_that_takes_too_long_is_no_answer_and_the_next_one_is_graded() -> None:
    verdicts: list[tuple[str, float]] = []

    def grade() -> None:
        for completion in (rf"\boxed{{{ENDLESS}}}", "1+x"):
            verdict = verify(completion, {"reference": "x+1"})
            verdicts.append((verdict.status, verdict.score))

    start = time.perf_counter()
    threads = [threading.Thread(target=grade) for _ in range(2)]  # outside the main thread, and beside each other
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == [("no_answer", 0)] * 2 + [("scored", 1)] * 2
    assert time.perf_counter() - start < 60


def test_a_reference_that_takes_too_long_is_not_gradable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify("5", {"reference": r"\boxed{10^{10^{10^{10}}}}"}).status == "not_gradable"
    monkeypatch.setattr(catalog.POOLS["math"], "ask", lambda request: None)
    assert verify("5", {"reference": "50!"}).status == "not_gradable"


def test_threads_get_their_own_verdicts() -> None:
    wrong: list[int] = []

    def grade(offset: int) -> None:
        for value in range(offset, offset + 20):
            if verify(str(value), {"reference": str(value)}).score != 1:
                wrong.append(value)
            if verify(str(value), {"reference": str(value + 1)}).score != 0:
                wrong.append(value)

    threads = [threading.Thread(target=grade, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", ["number", "math"])
def test_no_fuzzed_answer_crashes_hangs_or_is_falsely_accepted(name: str) -> None:
    tally = fuzz_verifiers.Tally()
    fuzzed = list(fuzz_verifiers.answers(2000 if name == "number" else 250, seed=7, hostile=0.0))
    thread = threading.Thread(target=fuzz_verifiers.judge, args=(name, fuzzed[::2], tally))
    thread.start()
    fuzz_verifiers.judge(name, fuzzed[1::2], tally)
    thread.join()
    assert tally.failures == []


def test_no_hostile_text_crashes_number_or_is_accepted() -> None:
    tally = fuzz_verifiers.Tally()
    fuzz_verifiers.judge("number", list(fuzz_verifiers.answers(500, seed=7, hostile=1.0)), tally)
    assert tally.failures == []
