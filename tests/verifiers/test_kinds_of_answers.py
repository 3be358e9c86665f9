"""Kinds of answers that several verifiers once read in part, or did not read."""

import pytest

from tunesmith.verifiers import catalog

IN_PART = [
    *(
        "42 dozen",
        "She has 42 dozen eggs.",
        r"\boxed{42\text{ dozen}}",
        r"\boxed{42} million",
        r"\boxed{42}\text{ dozen}",
    ),
    *("#### 42 + 1", "#### 42 or 43", "#### between 42 and 50", "#### 42 x 2", "#### f(42)", "#### more than 42"),
    *(r"\boxed{42} \times 2", r"$\boxed{42} + 1$", r"$-\boxed{42}$", r"2 \cdot \boxed{42}", r"$\boxed{42}^2$"),
    *(
        r"$\frac{\boxed{42}}{2}$",
        r"\sqrt{\boxed{42}}",
        r"\boxed{42}x",
        r"\boxed{42}\pi",
        r"2(\boxed{42})",
        r"\boxed{2} + \boxed{42}",
        r"\boxed{> 42}",
        r"\boxed{42}/2",
        r"\boxed{41} or \boxed{42}",
    ),
    *(r"\(\boxed{41}\) or \(\boxed{42}\)", r"\boxed{41} or maybe \boxed{42}", r"$\boxed{41}$ / $\boxed{42}$"),
    *("minus 42", "The answer is minus 42.", "negative 42", "#### minus 42", "It fell to minus 42 degrees."),
    *(
        "between two and 42",
        "up to 42",
        "twice 42",
        "42 squared",
        "42 plus 1",
        "the square root of 42",
        "2 ... 42",
        "<answer>41 or 42</answer>",
    ),
]
WHOLE = [
    *("#### 40 + 2 = 42", "#### 42 = 6 * 7", "#### **42**", "#### 42 dollars", "#### Result\n42", "it rounds up to 42"),
    *(
        r"$2 \cdot 21 = \boxed{42}$",
        r"$\boxed{42}$ - as was asked",
        r"- \boxed{42}",
        r"\boxed{42}^\circ",
        r"\boxed{42}!",
    ),
    *(r"Step 3 - \boxed{42}", r"**Answer** \boxed{42}", r"Answer:-\boxed{42}", r"So $\boxed{42}$ dollars."),
    *(r"The answer is \boxed{42}." "\n" r"Check: $\boxed{42} = 6 \cdot 7$.", r"\boxed{42}, or \boxed{42}"),
    *(
        "<answer>42</answer>",
        "I get 7.\n<answer>\n42\n</answer>\nThis took 3 steps.",
        "Answer: <b>42</b>",
        "the answer is 42 and not 7",
        "=> 42",
    ),
]


@pytest.mark.parametrize("text", IN_PART)
@pytest.mark.parametrize("name", ["number", "math"])
def test_a_number_in_an_expression_a_choice_or_a_bound_is_not_paid(name: str, text: str) -> None:
    assert catalog.verify(name, text, {"reference": "42"}).score == 0


@pytest.mark.parametrize("text", WHOLE)
def test_a_number_that_is_the_answer_is_paid(text: str) -> None:
    assert catalog.verify("number", text, {"reference": "42"}).score == 1


@pytest.mark.parametrize(
    "text", ["minus 5", "The answer is negative 5.", "#### minus 5", "It fell to minus 5 degrees."]
)
def test_a_sign_in_words_counts(text: str) -> None:
    assert catalog.verify("number", text, {"reference": "-5"}).score == 1
    assert catalog.verify("math", text, {"reference": "-5"}).score == 1


@pytest.mark.parametrize(
    ("reference", "completion"),
    [
        *((empty, other) for empty in (r"\emptyset", r"$\varnothing$") for other in ("the empty set", r"\{\}", "∅")),
        ("5 million", "5,000,000"), ("3 dozen", "36"), ("12 cm", r"$12\text{ cm}$"), ("12 cm", r"$12\ \mathrm{cm}$"),
        ("60 km/h", "60 kilometers per hour"), ("60 mph", "60 miles per hour"), ("9 J", "9 joules"),
        ("3 hr", "3 hours"),
        ("3 N", "3N"),
        ("$12", "12 dollars per hour"), ("12 cm", "The length is 12 cm."), ("3:10", r"\boxed{3:10}"),
        ("5:2", "the ratio of boys to girls is 5:2"), ("12", r"$\$100 - \$88 = \$12$"),
        ("[-2,2]", r"-2\leqslant x\leqslant 2"),
        ("7", "Therefore, x = 7."),
        ("7", "$m$ must equal 7"), ("7", "So 7 is the largest $n$."), ("7", "There are 7 values of $n$."),
        ("n", "The sum is $n$"), (r"(\alpha,\beta)=(1,2)", "(1,2)"), ("(x,y)=(1,2)", "(y,x)=(2,1)"),
        ("(x,y)=(1,2)", "y = 2, x = 1"), ("(1,2)", "P = (1,2)"), (r"\ln 2", r"\mathrm{ln} 2"),
        (r"\pi", r"\mathrm{\pi}"),
    ],
)  # fmt: skip
def test_math_reads_the_same_answer_in_another_form(reference: str, completion: str) -> None:
    assert catalog.verify("math", completion, {"reference": reference}).score == 1


@pytest.mark.parametrize(
    ("reference", "completion"),
    [
        ("0", r"$\varnothing$"), (r"\emptyset", "0"), (r"\emptyset", r"\{0\}"), ("5", "5 million"), ("3 dozen", "3"),
        ("12 cm", "The length is 12 km."), (r"30^\circ", "30 radians"), ("60 km/h", "60 mph"),
        ("9 gallons", "9 quarts"),
        ("3:10", "10:3"), ("(p,q)=(3,2)", "(q,p)=(3,2)"), ("(p,q)=(3,2)", "(x,y)=(3,2)"),
        ("(x,y)=(1,2)", "x = 2, y = 1"),
    ],
)  # fmt: skip
def test_math_tells_other_answers_apart(reference: str, completion: str) -> None:
    assert catalog.verify("math", completion, {"reference": reference}).score == 0


CHOICES = ["Paris", "London", "Rome", "Berlin"]


@pytest.mark.parametrize(
    "text",
    [
        *("It is option B.", "So the right one is B.", "The capital is the (B) London", "B London", "B is our answer."),
        *(
            "[B]",
            '"B"',
            "<answer>B</answer>",
            'The answer is "B"',
            "Answer - B",
            "选B",
            "The answer is London (B).",
            "\u7b54\u3048\u306fB\u3067\u3059",
            "It should be B.",
            "答案\uff1aB\n答案\uff1a",
            "It is London.",
        ),
    ],
)
def test_more_ways_of_choosing_an_option_are_read(text: str) -> None:
    assert catalog.verify("choice", text, {"reference": "B", "choices": CHOICES}).score == 1


@pytest.mark.parametrize(
    "text",
    [
        *("It is B, Paris", "The capital is the (B) Paris", "B Paris", "Is it the (A) Paris or the (B) London?"),
        *(
            "It is not London",
            "<answer>B or C</answer>",
            "B is our guess, C is our answer",
            "Die Antwort ist B oder C",
            "答案是B或C",
            "不选B",
            "The answer is not the (B) London",
        ),
    ],
)
def test_a_letter_beside_another_text_or_another_letter_is_not_paid(text: str) -> None:
    assert catalog.verify("choice", text, {"reference": "B", "choices": CHOICES}).score == 0


@pytest.mark.parametrize("choices", [["`*args`", "`**args`"], ["2*3", "2**3"], ["a*b", "ab"]])
def test_choices_that_differ_in_marks_alone_match_their_own_text(choices: list[str]) -> None:
    for letter, text in zip("AB", choices, strict=True):
        for reference in "AB":
            row = {"reference": reference, "choices": choices}
            assert catalog.verify("choice", text, row).score == (letter == reference)
