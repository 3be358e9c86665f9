import pytest

from tunesmith.verifiers import public_graders

GOLD = "She has 3 + 4 = <<3+4=7>>7.\n#### 1,007"
CASES = [
    (GOLD, True, True),
    ("#### 1007", True, True),
    ("#### $1,007", False, True),
    ("The answer is 1,007.", False, True),
    ("The answer is 1,007.00", False, False),
    ("#### 1007 of 2000", True, False),
    ("not enough to find f(1007)", False, True),
    ("none", False, False),
]


@pytest.mark.parametrize(("completion", "strict", "flexible"), CASES)
def test_the_filters_of_gsm8k_read_answers_as_lm_eval_does(completion: str, strict: bool, flexible: bool) -> None:
    assert public_graders.gsm8k_strict(completion, GOLD) is strict
    assert public_graders.gsm8k_flexible(completion, GOLD) is flexible


def test_math_verify_gives_its_own_verdict() -> None:
    assert public_graders.math_verify(r"so $\boxed{\frac{1}{2}}$", "0.5")
    assert not public_graders.math_verify("3", "4")
    assert not public_graders.math_verify(r"$10^{10^{10^{10}}}$", "4")  # in time
