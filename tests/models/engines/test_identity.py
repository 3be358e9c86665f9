"""The proof of who answers: sure where models differ, silent where they do not, and never passed by chance."""

import numpy as np
import pytest

from tunesmith.core.errors import EngineError
from tunesmith.models.engines import identity

TOKENS = (40, 60, 80, 100)
NOISE = 0.08
"""The deviation of two engines on one model, as in bfloat16."""


def model(seed: int, scale: float, of: identity.LogProbs | None = None) -> identity.LogProbs:
    """A model whose log-probabilities differ from those of another by so much."""
    random = np.random.default_rng(seed)
    before = of or [-random.gamma(2.0, 1.0, count) for count in TOKENS]
    return [np.asarray(values) + scale * random.standard_normal(len(values)) for values in before]


BASE = model(0, 0.0)


@pytest.mark.parametrize("apart", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(20))
def test_the_base_in_place_of_an_adapter_is_refused_however_light_the_adapter(seed: int, apart: float) -> None:
    references = {"base": BASE, "dpo": model(seed + 1, apart, BASE)}
    assert identity.check("dpo", model(seed + 100, NOISE, references["dpo"]), references) < 0.1
    with pytest.raises(EngineError, match="answers to 'dpo' as 'base' does"):
        identity.check("dpo", model(seed + 100, NOISE, BASE), references)


def test_models_that_are_the_same_are_not_refused_and_are_named() -> None:
    references = {"base": BASE, "again": BASE, "near": model(1, 0.003, BASE), "far": model(2, 0.5, BASE)}
    answered = model(3, NOISE, BASE)
    assert identity.check("base", answered, references) < 0.1
    assert identity.indistinguishable("base", answered, references) == ["again", "near"]
    assert identity.indistinguishable("far", model(4, NOISE, references["far"]), references) == []


def test_an_unknown_model_is_refused() -> None:
    references = {"base": BASE, "dpo": model(1, 0.3, BASE)}
    with pytest.raises(EngineError, match="as no model here does"):
        identity.check("dpo", model(2, 0.6, references["dpo"]), references)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_numbers_that_overflowed_prove_nothing(value: float) -> None:
    broken = [np.array(values) for values in BASE]
    broken[1][5] = value
    for answered, references in ((broken, {"base": BASE}), (BASE, {"base": broken})):
        with pytest.raises(EngineError, match="not all finite"):
            identity.check("base", answered, references)


def test_conversations_are_different_ones() -> None:
    rows = [{"id": str(i), "prompt": [{"role": "user", "content": f"What is {i // 2}?"}]} for i in range(80)]
    found = identity.conversations(rows)
    assert len(found) == identity.SEQUENCES == len({row["prompt"][0]["content"] for row in found})
