import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers import number

FINAL = [
    ("42", "42"),
    ("the answer is 42.", "42"),
    ("The answer is -4", "-4"),
    ("5 - 9 = -4", "-4"),
    ("(−7)", "−7"),
    ("first 3, then 12", "12"),
    ("it costs $1,234.50!", "$1,234.50"),
    ("**42**", "42"),
    ("{42}", "42"),
    ("2 * 3 = 6\n#### 6", "6"),
    ("#### 1,000\nThat took 3 steps", "1,000"),
    ("#### 5\n#### 7", "7"),
    ("10 apples\n#### none", None),
    ("on the 12th of x3", None),
    ("12.5kg", "12.5"),
    ("it weighs 1,234kg.", "1,234"),
    (".5", ".5"),
    ("20*2 = <<20*2=40>>40", "40"),
    ("-$5", "-$5"),
    ("10%", "10"),
    ("5 on the 12th", "5"),
    ("1e5", "1e5"),
    ("3 is 7/8", "7/8"),
    ("3 is 10^3", "10^3"),
    ("version 1.2.3", None),
    ("1,2", None),
    ("1" * 5000, None),
    ("", None),
    (r"\boxed{42}", "42"),
    (r"\boxed{42}, which is 7 more than 35", "42"),
    (r"\boxed{1}, no: \boxed{2}", "2"),
    (r"\boxed{\frac{1}{2}}", "1/2"),
    (r"\boxed{\$1{,}234.50 \text{ dollars}}", "$1\N{THIN SPACE}234.50"),
    (r"\boxed{3 + 4 = 7}", "7"),
    (r"\boxed{- 4}", "-4"),
    (r"#### 5 \boxed{7}", "7"),
    (r"\boxed{7} #### 5", "5"),
    (r"\boxed{1 or 2}", None),
    (r"5 \boxed{}", None),
    (r"5 \boxed{\text{none}}", None),
    (r"5 \boxed{7", None),
    (r"-\frac12", "-1/2"),
    (r"1\frac{1}{2}", "1 1/2"),
    ("1 1/2 cups", "1 1/2"),
    ("1½ litres", "1 1/2"),
    ("The answer is 42. I checked it in 3 steps.", "42"),
    ("Therefore, of the 20 apples, 8 remain", "8"),
    ("12 boys and 15 girls, 27 in all", "27"),
    ("He makes 9 * 2 = $18 every day", "$18"),
    ("so f(0) is 5", "5"),
    ("It needs at least 5 cars", "5"),
    (r"\boxed{32,\! 349}", "32\N{THIN SPACE}349"),
    ("-½", "-1/2"),
    (r"1.5\times10^{3}", "1.5×10^3"),
    ("10³ m", "10^3"),
    ("25 cm², or 25 cm^2", "25"),
    (r"90^\circ", "90"),
    (r"50\%", "50"),
    ("1_000", "1_000"),
    ("1'000", "1'000"),
    (r"1\,000", "1\N{THIN SPACE}000"),
    ("10 000", "10,000"),
    ("#### 10 000 apples", "10,000"),
    ("x = - 4", "-4"),
    ("–7", "-7"),
    ("4\u200b2", "42"),
    ("60km/h", "60"),
    ("$5/hour", "$5"),
    (r"\begin{aligned} x &= 5 \end{aligned}", "5"),
]
PARTS = [
    *(
        "2^10",
        "1.2.3.4",
        "2024-05-01",
        "1/2/2024",
        "555-123-4567",
        "12:30",
        "3/4/5",
        "5/0",
        "1,00,000",
        "3 7/2",
        "1e5000",
    ),
    *(
        "√2",
        "2√3",
        "2π",
        "π/2",
        "x/2",
        "4⁵",
        "٤٢",
        "\U0001d7d92",
        "there are 5 100",
        "5 million",
        "5million",
        "5K",
        "10^5000",
    ),
    *(
        r"\sqrt{2}",
        r"2\sqrt{3}",
        r"\frac{\pi}{2}",
        r"\log_2 8",
        r"2\pi",
        r"x^{2}",
        r"\binom{5}{2}",
        r"\sqrt[3]{8}",
        "½½",
    ),
    r"\begin{pmatrix}1\\2\end{pmatrix}",
]


@pytest.mark.parametrize(("text", "expected"), FINAL)
def test_the_final_number_is_found(text: str, expected: str | None) -> None:
    assert number.final_number(text) == expected


NO_OUTCOME = [
    *("not enough to find f(0)", "We cannot say; it may be 6", "The value is unknown, so use 3", "Is it 5?"),
    *("I need to know x to find 7", "We need 2 more equations", "There is no solution for 4", "Let me find 5"),
    *(
        "between 2000 and 2005",
        "from 3 to 7",
        "20-30",
        "so 3-4",
        "1, 2, 3",
        "3 or 4",
        "5 hours and 30 minutes",
        "$5 to $10",
    ),
    *("more than 5", "less than 10", "not 5", "x > 5", "x ≥ 3", "10 or more"),
    *("as in step 4", "see equation 2", "Case 2", "as of March 2024", "COVID-19"),
    *("f(5)", "x_2", "a[0]", "log(5)", "sin 30", "n choose 2", "6 mod 4"),
    *("(n/2) + 1", "n - 1", "2n", "17 + 25", "3n + 2", "2x + 3", "(x+1)/2", "g(x) = x^2 + 1"),
]
"""Unmarked texts whose last number is not what they come to."""


@pytest.mark.parametrize("text", NO_OUTCOME)
def test_a_last_number_that_a_text_does_not_come_to_is_no_answer(text: str) -> None:
    assert number.final_number(text) is None
    assert number.final_number(f"The answer is 12. {text}") in (None, "12")
    assert number.final_number(f"{text}\n#### 12") == "12"


@pytest.mark.parametrize("text", PARTS)
def test_an_expression_that_is_not_a_plain_number_is_not_read_in_part(text: str) -> None:
    assert number.final_number(text) is None


@pytest.mark.parametrize("same", ["42", "42.0", "+42", "The answer is 42.", "$42", "#### 42"])
def test_the_same_value_in_another_form_is_right(same: str) -> None:
    assert number.compare(same, "42").score == 1


@pytest.mark.parametrize("other", ["41.999", "-42", "420", "4 2", "42.0000001"])
def test_another_value_is_wrong(other: str) -> None:
    verdict = number.compare(other, "42")
    assert (verdict.score, verdict.status) == (0, "scored")


def test_a_completion_without_a_number_is_no_answer() -> None:
    assert number.compare("I do not know", "42").status == "no_answer"


def test_a_reference_without_a_number_is_not_gradable() -> None:
    assert number.compare("42", "no number").status == "not_gradable"


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_integers_match_exactly_when_equal(answer: int, expected: int) -> None:
    assert number.compare(f"The answer is {answer:,}.", f"#### {expected}").score == float(answer == expected)


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    assert number.compare(text, "1").score in (0, 1)


VALUES = [
    ("1/2", Fraction(1, 2)),
    ("-1 1/2", Fraction(-3, 2)),
    ("−$1,234.5", Fraction(-2469, 2)),
    ("1.5e-3", Fraction(3, 2000)),
    ("1.5 × 10^3", Fraction(1500)),
    ("-10^-2", Fraction(-1, 100)),
    ("1'000_000", Fraction(10**6)),
]


@pytest.mark.parametrize(("written", "value"), VALUES)
def test_values_are_exact(written: str, value: Fraction) -> None:
    assert number.final_number(written) == written
    assert number.value(written) == value


@pytest.mark.parametrize(
    ("completion", "reference", "score"),
    [
        ("50%", "50", 1),
        ("50", "50%", 1),
        (r"$50\%$", "50%", 1),
        ("0.5", "50%", 0),
        ("50%", "0.5", 0),
        ("0.333", "1/3", 0),
        ("2/6", "1/3", 1),
        ("0.5", r"\frac{1}{2}", 1),
        ("10 000", "0", 0),
        ("103", "10³", 0),
        ("1.5e3", "1500", 1),
        ("100000000000000000000000001", "1e26", 0),
    ],
)
def test_a_percent_sign_is_a_unit_and_values_are_compared_exactly(completion: str, reference: str, score: int) -> None:
    assert number.compare(completion, reference).score == score


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("#### 5", True),
        (r"so \boxed{5}", True),
        ("5", True),
        ("10 000", True),
        ("5 apples", False),
        (r"\boxed{x}", False),
    ],
)
def test_an_answer_is_marked_by_a_mark_a_box_or_the_lack_of_other_text(text: str, marked: bool) -> None:
    assert number.is_marked(text) is marked


HOSTILE = [
    *(
        "1",
        "1,",
        "1 ",
        "111 ",
        "1-",
        "1:",
        "1/",
        "1e",
        "10^",
        "1.1x",
        "1'111",
        ".,",
        "-",
        "= ",
        "½",
        "√",
        "####",
        "1 1/1 ",
    ),
    *(r"\frac{", r"\boxed{", r"\boxed{}", "^{", "{", r"\a[", "\\ ", "\\", r"\sqrt{1}", r"\text", "_[]", r"\log_"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_time_is_linear_in_hostile_text(text: str) -> None:
    start = time.perf_counter()
    number.final_number(text * (100_000 // len(text)))
    assert time.perf_counter() - start < 5


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
def test_fractions_match_exactly_when_equal(answer: Fraction, expected: Fraction) -> None:
    box = rf"\boxed{{{'-' if answer < 0 else ''}\frac{{{abs(answer.numerator)}}}{{{answer.denominator}}}}}"
    assert number.compare(box, f"#### {expected}").score == float(answer == expected)
