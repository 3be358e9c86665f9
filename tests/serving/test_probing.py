"""A version's probes are asked of its engine once, and once more where that engine is not the evaluation's."""

from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from fake_models import NOISE
from registered_versions import NAME

from tunesmith.core.errors import ServingError
from tunesmith.serving import deployment


@pytest.mark.parametrize(
    ("evaluated_by", "answers_alike", "rounds"),
    [(None, True, 1), (None, False, 2), ("transformers", False, 2), ("vllm", False, 1)],
)
def test_the_noise_of_an_engine_other_than_the_evaluations_is_measured_where_answers_differ(
    evaluated_by: str | None, answers_alike: bool, rounds: int
) -> None:
    signed = {"probes": [probe(number) for number in range(8)], "noise": NOISE, "dtype": "float32"}
    signed |= {"engine": evaluated_by} if evaluated_by else {}
    asked = list[str]()

    class Answering:
        kind = "vllm"

        def answer(self, name: str, prompt: Any, *_: object) -> str:
            asked.append(prompt[0]["content"])
            return f"right {prompt[0]['content']}" if answers_alike else "wrong"

    candidate = SimpleNamespace(served=SimpleNamespace(name=f"{NAME}@1"), probes=signed)
    with nullcontext() if answers_alike else pytest.raises(ServingError, match="answered differently"):
        deployment._check_answers(Answering(), candidate, 1.0)
    assert Counter(asked) == {str(number): rounds for number in range(8)}


def probe(number: int) -> dict[str, Any]:
    prompt = [{"role": "user", "content": str(number)}]
    answers = {"completion": f"right {number}", "base": f"base {number}", "tokens": 3, "max_new_tokens": 8}
    return {"suite": "s", "id": str(number), "prompt": prompt, **answers}
