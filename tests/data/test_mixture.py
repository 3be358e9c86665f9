from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import ParamsError
from tunesmith.core.params import parse
from tunesmith.core.ready_rows import Row
from tunesmith.data.mixture import Mixture, mix


def mixture(*datasets: dict[str, Any], **changes: Any) -> Mixture:
    return parse(Mixture, {"datasets": list(datasets), **changes}, "mixtures.m")


def rows(name: str, count: int) -> list[Row]:
    return [{"id": f"{name}{n}", "prompt": [{"role": "user", "content": str(n)}]} for n in range(count)]


def part(name: str, weight: float) -> dict[str, Any]:
    return {"name": name, "weight": weight}


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@settings(max_examples=60)
@given(sizes, sizes, st.floats(0.1, 10), st.sampled_from(["rows", "tokens"]), st.booleans())
def test_weights_share_out_rows_or_tokens_to_within_a_row_of_each(
    chat: list[int], sums: list[int], weight: float, by: str, repeat: bool
) -> None:
    wanted = mixture(part("chat", weight), part("sums", 1), by=by, repeat=repeat)
    parts = {"chat": rows("chat", len(chat)), "sums": rows("sums", len(sums))}
    mixed, given = mix(wanted, parts, {"chat": chat, "sums": sums})
    assert len({row["id"] for row in mixed}) == len(mixed) == sum(count for count, _, _ in given.values())
    units = {name: given[name][1 if by == "tokens" else 0] for name in given}
    largest = max(*chat, *sums) if by == "tokens" else 1
    assert abs(units["chat"] - weight * units["sums"]) <= (1 + weight) * largest
    ends = [passes for _, _, passes in given.values()]
    assert max(ends) == pytest.approx(1) if not repeat else min(ends) >= 1 - 1e-9


def test_epochs_take_rows_again_and_parts_of_a_pass_are_as_the_seed_decides() -> None:
    parts, tokens = {"a": rows("a", 10), "b": rows("b", 10)}, {"a": [3] * 10, "b": [5] * 10}
    wanted = [{"name": "a", "epochs": 2.5}, {"name": "b", "epochs": 0.4}]
    mixed, given = mix(mixture(*wanted), parts, tokens)
    assert given == {"a": (25, 75, 2.5), "b": (4, 20, 0.4)}
    copies = [row["id"].partition("~")[2] for row in mixed if row["dataset"] == "a"]
    assert sorted(copies) == [""] * 10 + ["2"] * 10 + ["3"] * 5
    assert mixed == mix(mixture(*wanted), parts, tokens)[0]
    other = mix(mixture(*wanted, seed=1), parts, tokens)[0]
    assert {row["id"] for row in other} != {row["id"] for row in mixed}


def test_a_larger_share_keeps_the_rows_that_were_taken() -> None:
    parts, tokens = {"a": rows("a", 100), "b": rows("b", 100)}, {"a": [1] * 100, "b": [1] * 100}
    taken = [
        {row["id"] for row in mix(mixture(part("a", 1), part("b", weight)), parts, tokens)[0] if row["dataset"] == "b"}
        for weight in (0.3, 0.6)
    ]
    assert (len(taken[0]), len(taken[1])) == (30, 60)
    assert taken[0] < taken[1]


@pytest.mark.parametrize(
    ("datasets", "changes", "reason"),
    [
        ([part("a", 1)], {}, "at least 2 items"),
        ([part("a", 1), part("a", 2)], {}, "named twice"),
        ([part("a", 1), {"name": "b", "epochs": 1}], {}, "give every data set a weight, or every one epochs"),
        ([{"name": "a", "epochs": 1}, {"name": "b", "epochs": 2}], {"repeat": True}, "repeat goes with weights"),
        ([part("a", 0), part("b", 1)], {}, "greater than 0"),
    ],
)
def test_a_mixture_that_says_two_things_is_refused(
    datasets: list[dict[str, Any]], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ParamsError, match=reason):
        mixture(*datasets, **changes)
