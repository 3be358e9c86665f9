"""Tool calls are read in the forms that templates teach, and compared by name and typed arguments."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers import catalog

CALL = {"name": "book", "arguments": {"city": "Porto", "nights": 2}}
TEXT = json.dumps(CALL)
BEGIN, SEPARATOR, END = (f"<\uff5ctool\u2581{name}\uff5c>" for name in ("call\u2581begin", "sep", "call\u2581end"))
FORMS = [
    TEXT,
    f"[{TEXT}]",
    f"```json\n{TEXT}\n```",
    json.dumps({"name": "book", "parameters": CALL["arguments"]}),
    f"<|python_tag|>{TEXT}",
    f"<tool_call>\n{TEXT}\n</tool_call>",
    f"I book it.\n<tool_call>\n{TEXT}\n</tool_call>",
    f"<think>\nPorto?\n</think>\n\n<tool_call>\n{TEXT}\n</tool_call>",
    f"<tool_call>\n{TEXT}",
    "<tool_call>\n<function=book>\n<parameter=city>\nPorto\n</parameter>\n<parameter=nights>\n2\n</parameter>\n</function>\n</tool_call>",
    "<tool_call>book\n<arg_key>city</arg_key>\n<arg_value>Porto</arg_value>\n<arg_key>nights</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
    f"<function=book>{json.dumps(CALL['arguments'])}</function>",
    f"[TOOL_CALLS] [{TEXT}]",
    f"[TOOL_CALLS]book[ARGS]{json.dumps(CALL['arguments'])}",
    f"book{json.dumps(CALL['arguments'])}",
    f"{BEGIN}function{SEPARATOR}book\n```json\n{json.dumps(CALL['arguments'])}\n```{END}",
    f"{BEGIN}book{SEPARATOR}{json.dumps(CALL['arguments'])}{END}",
    "[book(city='Porto', nights=2)]",
    'book(nights=2, city="Porto")',
    json.dumps({"type": "function", "function": {"name": "book", "arguments": json.dumps(CALL["arguments"])}}),
]


@pytest.mark.parametrize("completion", FORMS)
def test_a_right_call_is_right_in_every_form(completion: str) -> None:
    verdict = catalog.verify("tool_call", completion, {"reference": [CALL]})
    assert (verdict.score, verdict.status) == (1, "scored"), verdict.reason
    assert verdict.answer is not None
    assert json.loads(verdict.answer)[0]["name"] == "book"


def call(**arguments: Any) -> dict[str, Any]:
    return {"name": "f", "arguments": arguments}


@pytest.mark.parametrize(
    ("made", "right", "reason"),
    [
        ("I would rather talk.", [call()], "not called: f"),
        ("<tool_call>{</tool_call>", [call()], "malformed: not JSON"),
        ('{"name": "f", "arguments": "x"}', [call()], "malformed: arguments are not JSON"),
        ("[f(1)]", [call()], "malformed: an argument without its name"),
        (json.dumps({"name": "g", "arguments": {}}), [call()], "wrong name: g, not f"),
        (json.dumps(call(x=1)), [call(x=2)], "wrong argument: 'x' of f is '1', not 2"),
        (json.dumps(call(x=1)), [call()], "wrong argument: f gets 'x'"),
        (json.dumps(call()), [call(x=1)], "wrong argument: f lacks 'x'"),
        (json.dumps([call(x=1), call(x=1)]), [call(x=1), call(x=2)], "wrong argument: 'x' of f is '1', not 2"),
        (json.dumps([call(x=1)]), [call(x=1), call(x=2)], "wrong number of calls: 1, not 2"),
        (json.dumps(call()), [], "called where nothing is to be called: f"),
        (json.dumps(call(x=True)), [call(x=1)], "wrong argument"),
        (json.dumps(call(x="1")), [call(x=1)], "wrong argument"),
        (json.dumps(call(x=[1, 2])), [call(x=[2, 1])], "wrong argument"),
    ],
)
def test_the_reason_says_what_is_wrong(made: str, right: list[Any], reason: str) -> None:
    verdict = catalog.verify("tool_call", made, {"reference": right})
    assert verdict.score == 0
    assert verdict.reason.startswith(reason)
    assert verdict.status == ("no_answer" if reason.startswith(("not called", "malformed")) else "scored")


@pytest.mark.parametrize(
    ("made", "right"),
    [
        ([call(x=2), call(x=1)], [call(x=1), call(x=2)]),
        ([call(x=1.0)], [call(x=1)]),
        ([call(x={"b": 1, "a": [None]})], [call(x={"a": [None], "b": 1})]),
        ([call(x=1), call(x=2)], [{"name": "f", "allowed": {"x": [1, 2]}}, {"name": "f", "allowed": {"x": [1]}}]),
        ([call(x="C")], [{"name": "f", "allowed": {"x": ["celsius", "C"], "y": ["", 3]}}]),
        ([call(x="C", y=3)], [{"f": {"x": ["celsius", "C"], "y": ["", 3]}}]),
        ([call(x={"k": "b"})], [{"f": {"x": [{"k": ["a", "b"], "o": ["", 1]}]}}]),
    ],
)
def test_calls_are_equal_by_value_in_any_order_and_where_several_values_are_right(made: Any, right: Any) -> None:
    for reference in (right, json.dumps(right)):
        verdict = catalog.verify("tool_call", json.dumps(made), {"reference": reference})
        assert verdict.score == 1, verdict.reason
        gold = catalog.gold("tool_call", {"reference": reference})
        assert gold is not None
        assert catalog.verify("tool_call", gold, {"reference": reference}).score == 1


def test_an_answer_of_the_row_says_what_is_to_be_called() -> None:
    called = {
        "completion": [{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]}]
    }
    assert catalog.verify("tool_call", TEXT, called).score == 1
    talked = {"completion": [{"role": "assistant", "content": "Which city?"}]}
    assert catalog.verify("tool_call", "Where to?", talked).score == 1
    assert catalog.verify("tool_call", TEXT, talked).score == 0


@pytest.mark.parametrize("reference", [[3], [{"arguments": {}}], "book(1)", [{"f": {"x": []}}]])
def test_a_row_whose_calls_cannot_be_read_is_not_gradable(reference: Any) -> None:
    assert catalog.verify("tool_call", TEXT, {"reference": reference}).status == "not_gradable"


@given(st.text() | st.sampled_from(FORMS).flatmap(lambda form: st.integers(0, len(form)).map(lambda cut: form[:cut])))
def test_no_completion_raises_and_no_part_of_one_is_right(completion: str) -> None:
    verdict = catalog.verify("tool_call", completion, {"reference": [CALL | {"arguments": {"city": "Lisboa"}}]})
    assert verdict.score == 0


HOSTILE = ["<tool_call>" * 1800, "```json\n" + "\n" * 19_000, "[" * 19_000, "f(" * 9000, "f(a=" + "-" * 19_000 + "1)",
           f"{BEGIN}f" + "\n" * 19_000, "<parameter=a>" * 1500, "[TOOL_CALLS]f{" * 1400,
           '{"name": ' * 2000]  # fmt: skip


@pytest.mark.parametrize("completion", HOSTILE)
def test_hostile_text_takes_little_time(completion: str) -> None:
    import time

    began = time.perf_counter()
    assert catalog.verify("tool_call", completion, {"reference": [CALL]}).score == 0
    assert time.perf_counter() - began < 1


def test_reasoning_is_no_part_of_the_answer_that_is_graded() -> None:
    thought = "<think>\nIt may be 7.\n</think>\n\n"
    assert catalog.verify("exact", f"{thought}Paris", {"reference": "Paris"}).score == 1
    assert catalog.verify("exact", "It may be 7.\n</think>\n\nParis", {"reference": "Paris"}).score == 1
    assert catalog.verify("number", f"{thought}4", {"reference": "7"}).score == 0
    unfinished = catalog.verify("number", "<think>\nIt may be 7", {"reference": "7"})
    assert (unfinished.score, unfinished.status) == (0, "no_answer")
    assert catalog.verify("regex", f"{thought}yes", {"pattern": "yes"}).score == 1
    assert catalog.verify("regex", f"{thought}yes", {"pattern": r"(?s)<think>.+</think>\s*yes"}).score == 1
