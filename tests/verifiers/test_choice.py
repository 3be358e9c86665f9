import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers import choice

CHOICES = ["Paris", "Rome", "A dog", "Vitamin C"]
CHOSEN = [
    ("B", "B"),
    ("(B)", "B"),
    ("b", "B"),
    ("B.", "B"),
    ("**B**", "B"),
    ("The answer is B.", "B"),
    ("The answer is **(B)**.", "B"),
    ("**Answer:** B", "B"),
    ("the answer is b", "B"),
    ("The answer is\n\nB", "B"),
    ("B) Rome", "B"),
    ("(B) Rome", "B"),
    ("B. Rome, because it is old", "B"),
    (r"\boxed{B}", "B"),
    (r"So $\boxed{\text{(B)}}$", "B"),
    ("The answer is A. No wait: the answer is B.", "B"),
    ("I choose B", "B"),
    ("Option B", "B"),
    ("A is correct", "A"),
    ("The answer is A because it is so", "A"),
    ("B, since I like it", "B"),
    ("Let us think.\nB", "B"),
    ("A is wrong. The answer is C.", "C"),
    ("Among A, B, C and D, the answer is D", "D"),
    ("D. Vitamin C", "D"),
    ("D. Vitamin C. It is an acid.", "D"),
    ("B) Rome, because (A) is wrong", "B"),
    ("The answer is B. So the answer is B.", "B"),
    ("The answer is A. Sorry, the answer is B.", "B"),
    (r"\boxed{A}, no: \boxed{B}", "B"),
    (r"\boxed{B} = \boxed{B}", "B"),
    ("rome", "B"),
    ("The answer is Rome.", "B"),
    ("A dog", "C"),
    ("The answer is A dog", "C"),
    ("The answer is Z", "Z"),
    ("The answer is the (B) Rome", "B"),
    ("I think it is B.", "B"),
    ("It's B", "B"),
    ("(B) is the answer.", "B"),
    ("Therefore, the correct option is (B).", "B"),
    ("So B", "B"),
    ("答案\uff1aB", "B"),
    ("正确答案是 B。", "B"),
    ("答え: \uff08B\uff09", "B"),
    ("정답은 B", "B"),
    ("Antwort: B", "B"),
    ("La respuesta es B", "B"),
    ("Ответ: B", "B"),
    (r"\boxed{\textbf{(B) }\text{Rome}}", "B"),
    ("The answer is B. The answer is …", "B"),
    ("The answer is B.\nThe answer is ...", "B"),
    ("B - Rome", "B"),
]
NOT_CHOSEN = [
    "A, B, C and D are all possible",
    "A or B",
    "The answer is A or B",
    "The answer is B or maybe C",
    "The answer is both A and B",
    "The answer is B, C",
    "A) Paris\nB) Rome\nC) A dog",
    "(A)(B)(C)(D)",
    "(A) Paris (B) Rome (C) A dog (D) Vitamin C",
    "B. Rome A. Paris",
    "B: Rome, C: a dog",
    "A is correct. B is correct. C is correct.",
    "The answer is A. The answer is B.",
    r"\boxed{A}\boxed{B}",
    r"\boxed{A} or \boxed{B}",
    "A cat",
    "The answer is A cat",
    "The answer is not B",
    "I don't choose B",
    "B is not correct",
    "Neither A nor B is correct",
    "B) Paris",  # the letter of one choice, the text of another
    "Bob",
    "B+",
    "C++",
    "I think so",
    r"\boxed{A, B}",
    r"B \boxed{}",
    "",
    "Rome is nice",
    "(B) Berlin",
    "The answer is (B) Berlin",
    r"\boxed{\textbf{(B) }\text{Oslo}}",
    "答案\uff1aA 或 B",
    "It is not B",
]


@pytest.mark.parametrize(("text", "letter"), CHOSEN)
def test_the_chosen_option_is_found(text: str, letter: str) -> None:
    assert choice.chosen_letter(text, CHOICES) == letter


MARKED = ["$10", "*x*", "`y`", "$x^2$", r"$\frac{1}{2}$", "**bold**", r"\(z\)", r"\$20"]


@pytest.mark.parametrize("place", range(len(MARKED)))
def test_a_choice_with_marks_in_it_matches_its_own_text(place: int) -> None:
    letter = "ABCDEFGH"[place]
    bare = MARKED[place].strip("$*`").removeprefix(r"\(").removesuffix(r"\)").removeprefix(r"\$")
    for text in (MARKED[place], bare, f"The answer is {MARKED[place]}", f"{letter}) {MARKED[place]}"):
        assert choice.chosen_letter(text, MARKED) == letter
    assert choice.chosen_letter(f"{letter}) {MARKED[place - 1]}", MARKED) is None


@pytest.mark.parametrize("text", ["(C) 84", "The answer is (C) 84", r"\boxed{\textbf{(C) }84}", "C. 84"])
def test_a_letter_with_another_number_than_its_choice_is_no_answer(text: str) -> None:
    choices: list[object] = ["12", "24", "48", "96"]
    assert choice.chosen_letter(text, choices) is None
    assert choice.chosen_letter(text.replace("84", "48"), choices) == "C"
    assert choice.chosen_letter(text, []) == "C"


@pytest.mark.parametrize("text", NOT_CHOSEN)
def test_an_ambiguous_choice_is_no_answer(text: str) -> None:
    assert choice.verify(text, {"reference": "B", "choices": CHOICES}).status == "no_answer"


@pytest.mark.parametrize("reference", ["B", "(B)", "b", "Rome", "rome.", "The answer is B."])
def test_gold_in_any_form_is_right_and_other_options_are_wrong(reference: str) -> None:
    row = {"reference": reference, "choices": CHOICES}
    assert choice.verify(reference, row).score == 1
    assert [choice.verify(letter, row).score for letter in "ABCDE"] == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("reference", ["E", "Berlin", "A or B", "", "2"])
def test_a_reference_that_is_not_a_choice_is_not_gradable(reference: str) -> None:
    assert choice.verify("A", {"reference": reference, "choices": CHOICES}).status == "not_gradable"


@pytest.mark.parametrize("choices", [["B", "A"], "AB", ["x"] * 27])
def test_ambiguous_or_unusable_choices_are_not_gradable(choices: object) -> None:
    assert choice.verify("A", {"reference": "A", "choices": choices}).status == "not_gradable"


def test_without_choices_letters_are_enough() -> None:
    assert choice.verify("The answer is (C).", {"reference": "C"}).score == 1
    assert choice.verify("Paris", {"reference": "C"}).status == "no_answer"


@given(st.text(), st.sampled_from("ABCD"))
def test_no_text_makes_it_raise(text: str, letter: str) -> None:
    assert choice.verify(text, {"reference": letter, "choices": CHOICES}).score in (0, 1)


@given(st.sampled_from("ABCD"), st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "The answer is {}.", "{})"]))
def test_only_the_gold_letter_is_right(letter: str, gold: str, form: str) -> None:
    assert choice.verify(form.format(letter), {"reference": gold}).score == float(letter == gold)


@pytest.mark.parametrize(
    "text", ["A, ", "(A) or ", "answer is ", "answer ", "I choose A or ", "B\n", "__", "\\text", " "]
)
def test_time_is_linear_in_hostile_text(text: str) -> None:
    start = time.perf_counter()
    choice.chosen_letter(text * (50_000 // len(text)), CHOICES)
    assert time.perf_counter() - start < 5
