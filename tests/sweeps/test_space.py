from typing import Any

import pytest

from tunesmith.core.errors import ParamsError
from tunesmith.sweeps import space
from tunesmith.sweeps.space import Choices, Range

PARSED: list[tuple[str, Any]] = [
    ("lora.rank=8,16,32", Choices("lora.rank", (8, 16, 32))),
    ("learning_rate=1e-4,2e-4", Choices("learning_rate", (1e-4, 2e-4))),
    ("weights=lora,full", Choices("weights", ("lora", "full"))),
    ("compile=true,false", Choices("compile", (True, False))),
    ("neftune=null, 5.0", Choices("neftune", (None, 5.0))),
    ("lora.targets=[q_proj, v_proj],all-linear", Choices("lora.targets", (["q_proj", "v_proj"], "all-linear"))),
    ("rewards={number: 1.0},{number: 2.0}", Choices("rewards", ({"number": 1.0}, {"number": 2.0}))),
    ("learning_rate=1e-4:1e-2:log", Range("learning_rate", 1e-4, 1e-2, True)),
    ("epochs = 1:4", Range("epochs", 1, 4)),
    ("warmup_share=0:0.3", Range("warmup_share", 0, 0.3)),
]
REFUSED = [
    ("lora.rank", "no param with its values"),
    ("=1,2", "no param"),
    ("lora.rank=", "no param"),
    ("lora.rank=8", "a single value"),
    ("lora.rank=8,8", "stated twice"),
    ("lora.rank=[8", "not YAML"),
    ("learning_rate=a:b", "not a number"),
    ("learning_rate=1:", "not a number"),
    ("learning_rate=1e-2:1e-4", "0.01 is not below 0.0001"),
    ("learning_rate=0:1:log", "begins above 0"),
    ("learning_rate=1:2:linear", "not 'linear'"),
    ("learning_rate=1:2:log:3", "two ends"),
    ("learning_rate=1:.inf", "not a number"),
]


@pytest.mark.parametrize(("text", "dimension"), PARSED, ids=[text for text, _ in PARSED])
def test_a_param_states_its_values(text: str, dimension: Any) -> None:
    assert space.parse(text) == dimension


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_states_no_values_is_refused_with_how_to_write_it(text: str, reason: str) -> None:
    with pytest.raises(ParamsError, match=reason) as refused:
        space.parse(text)
    assert "LOW:HIGH:log" in refused.value.fix


def test_a_param_is_stated_once_and_at_least_one_is() -> None:
    with pytest.raises(ParamsError, match="epochs: stated 2 times"):
        space.parse_all(["epochs=1,2", "epochs=3:4"])
    with pytest.raises(ParamsError, match="missing"):
        space.parse_all([])


def test_whole_ends_give_whole_numbers_and_others_three_digits() -> None:
    assert Range("a", 1, 4).whole
    assert not Range("a", 1, 4.0).whole
    assert Range("a", 1e-4, 1e-2).rounded(0.00123456) == 0.00123
    assert Range("a", 0.12345, 1.0).rounded(0.12345) == 0.12345  # not below its end


def test_the_number_of_trials_is_that_of_all_combinations() -> None:
    assert space.size(space.parse_all(["a=1,2,3", "b=1:4"])) == 12
    assert space.size(space.parse_all(["a=1,2,3", "b=1:4.5"])) == float("inf")
