"""Probes are chosen so that they tell, and judged so that noise passes and the wrong model does not."""

from typing import Any

import pytest

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Sample
from tunesmith.serving import probes


def sample(number: int, completion: str, tokens: int | None = 4, **more: Any) -> Sample:
    row = {"id": f"{number:03}", "prompt": [{"role": "user", "content": f"prompt {number}"}]}
    return {"suite": "s", "row": row, "completion": completion, "tokens": tokens} | more


def model(says: str, count: int = 40, tokens: int = 4) -> list[Sample]:
    return [sample(number, f"{says} {number}", tokens) for number in range(count)]


def again(samples: list[Sample], *, differ: int = 0) -> list[Sample]:
    """Asked twice more, as the evaluation does: first alike, then with so many that differ."""
    moved = [one | {"completion": "moved"} if index < differ else one for index, one in enumerate(samples)]
    return [one | {"time": 0} for one in samples] + [one | {"time": 1} for one in moved]


def chosen(differ: int = 1, count: int = 32, tokens: int = 4) -> probes.Probes:
    base = model("base", tokens=tokens)
    return probes.choose(
        "m", model("own", tokens=tokens), base, again(base, differ=differ), count=count, dtype="float32"
    )


def replies(told: probes.Probes, *, of_base: int = 0, other: int = 0) -> list[str]:
    """As evaluated, but for so many, from the first, that the base would give, or nobody."""
    said = [probe["completion"] for probe in told["probes"]]
    said[:of_base] = [probe["base"] for probe in told["probes"][:of_base]]
    said[:other] = [f"something else {index}" for index in range(other)]
    return said


def test_prompts_that_tell_come_first_and_short_ones_before_long_ones() -> None:
    own = [sample(0, "same"), sample(1, "long", 30), sample(2, "b", 2), sample(3, "a", 2), sample(4, "unasked", None)]
    base = [sample(number, "same", 9) for number in range(5)]
    told = probes.choose("m", own, base, [], count=4, dtype="bfloat16")
    assert [probe["id"] for probe in told["probes"]] == ["002", "003", "001", "000"]
    assert [probe["max_new_tokens"] for probe in told["probes"]] == [9, 9, 30, 9], "room for either's answer"
    assert told["dtype"] == "bfloat16"
    assert probes.choose("m", own[::-1], base[::-1], [], count=4, dtype="bfloat16") == told, "whatever the order"


def test_noise_is_what_the_base_answered_otherwise_when_it_was_asked_again() -> None:
    assert chosen(differ=3)["noise"] == {"answers": 40, "differ": 3, "tokens": 160}


@pytest.mark.parametrize("own", [model("base"), []], ids=["like its base", "nothing generated"])
def test_a_model_that_no_prompt_tells_from_its_base_has_no_probes(own: list[Sample]) -> None:
    with pytest.raises(EvaluationError, match="as its base does"):
        probes.choose("m", own, model("base"), [], count=8, dtype="float32")


def test_the_evaluated_answers_pass() -> None:
    told = chosen()
    assert probes.judge(told, replies(told)) is None


@pytest.mark.parametrize(
    ("evaluated", "reply"), [(" 42\n", "42"), ("<think>\n2 + 2\n</think>\n\n4", "2 + 2 4")], ids=["space", "thoughts"]
)
def test_what_a_server_does_to_the_form_of_an_answer_is_no_difference(evaluated: str, reply: str) -> None:
    told = probes.choose("m", [sample(0, evaluated)], [sample(0, "b")], [], count=1, dtype="float32")
    assert probes.judge(told, [reply]) is None


def test_as_many_differences_pass_as_the_noise_explains_and_no_more() -> None:
    told = chosen(differ=1)
    passes = [probes.judge(told, replies(told, other=count)) is None for count in range(33)]
    allowed = passes.index(False)
    assert 1 < allowed < 16
    assert not any(passes[allowed:])


def test_long_answers_may_differ_more_often_than_short_ones() -> None:
    def allowed(tokens: int) -> int:
        base = [sample(number, f"base {number}", 50) for number in range(40)]
        told = probes.choose("m", model("own", tokens=tokens), base, again(base, differ=8), count=32, dtype="float32")
        return [probes.judge(told, replies(told, other=n)) is None for n in range(33)].index(False)

    assert allowed(2) < allowed(20)


def test_noise_that_was_not_measured_explains_nothing() -> None:
    told = probes.choose("m", model("own"), model("base"), [], count=32, dtype="float32")
    assert probes.judge(told, replies(told)) is None
    assert probes.judge(told, replies(told, other=1)) is not None


def test_answers_of_the_base_are_refused_as_an_adapter_that_is_not_applied() -> None:
    told = chosen()
    reason = probes.judge(told, replies(told, of_base=32))
    assert reason is not None
    assert "adapter" in reason
    assert "'prompt 0': expected 'own 0', got 'base 0'" in reason


def test_another_models_answers_are_refused_by_naming_the_first_few_prompts() -> None:
    told = chosen()
    reason = probes.judge(told, replies(told, other=32))
    assert reason is not None
    assert "32 of 32" in reason
    assert "'prompt 2': expected 'own 2', got 'something else 2'; …" in reason
    assert "prompt 3" not in reason


def test_another_engine_is_held_to_its_own_noise_but_never_let_through_with_the_bases_answers() -> None:
    told = chosen(differ=0)
    moved = replies(told, other=8)
    assert probes.judge(told, moved) is not None
    assert probes.judge(told, moved, again=replies(told)) is None, "it answers these eight now so, now so"
    of_base = replies(told, of_base=8)
    assert probes.judge(told, of_base, again=replies(told)) is not None
