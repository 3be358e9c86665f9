from typing import Any

import pytest

from tunesmith.data.records import RowError
from tunesmith.data.turns import markup, messages, order

TURNS = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
BRIEF = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n", TURNS),
        ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n4",
         [BRIEF, *TURNS]),
        ("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n2 + 2?<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n4<|eot_id|>", TURNS),
        ("<bos><start_of_turn>user\n2 + 2?<end_of_turn>\n<start_of_turn>model\n4<end_of_turn>", TURNS),
        ("<|system|>\nBe brief.</s>\n<|user|>\n2 + 2?</s>\n<|assistant|>\n4</s>", [BRIEF, *TURNS]),
        ("<s>[INST] 2 + 2? [/INST] 4 </s>", TURNS),
        ("<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n2 + 2? [/INST] 4 </s><s>[INST] And 3? [/INST] 7 </s>",
         [BRIEF, *TURNS, {"role": "user", "content": "And 3?"}, {"role": "assistant", "content": "7"}]),
        ("\n\nHuman: 2 + 2?\n\nAssistant: 4", TURNS),
        ("### Instruction:\n2 + 2?\n\n### Response:\n4", TURNS),
        ("Be brief.\n\n### Instruction:\nAdd.\n\n### Input:\n2, 2\n\n### Response:\n4",
         [BRIEF, {"role": "user", "content": "Add.\n\n2, 2"}, TURNS[1]]),
        ("### Human: 2 + 2?\n### Assistant: 4", TURNS),
        ("### Instruction:\n2 + 2?\n\n### Response:\n    return 4\n### Input:\nfoo",
         [TURNS[0], {"role": "assistant", "content": "    return 4\n### Input:\nfoo"}]),
    ],
)  # fmt: skip
def test_chat_markup_is_split_into_turns(text: str, turns: list[dict[str, str]]) -> None:
    assert markup.from_text(text) == turns


@pytest.mark.parametrize("text", ["Once upon a time.", "He said:\n\nHuman: they said\n\nAssistant: ok"])
def test_text_that_does_not_mark_its_speakers_is_refused(text: str) -> None:
    with pytest.raises(RowError, match="no turns"):
        markup.from_text(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"role": "user", "content": "x"}, {"role": "user", "content": "x"}),
        ({"from": "human", "value": "x"}, {"role": "user", "content": "x"}),
        ({"from": "gpt", "value": "x", "weight": None}, {"role": "assistant", "content": "x"}),
        ({"role": "developer", "content": "x"}, {"role": "system", "content": "x"}),
        ({"role": "User", "content": [{"type": "text", "text": "x"}]}, {"role": "user", "content": "x"}),
        ({"role": "tool", "content": "x", "tool_call_id": "1"}, {"role": "tool", "content": "x", "tool_call_id": "1"}),
        ({"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}}]},
         {"role": "assistant", "content": "",
          "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}),
    ],
)  # fmt: skip
def test_a_turn_becomes_a_message(value: Any, message: dict[str, Any]) -> None:
    assert messages.from_list([value]) == [message]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("hello", "wrong type: turn 1 is str"),
        ({"content": "x"}, "missing field: turn 1 has no 'role'; it has 'content'"),
        ({"role": "user"}, "missing field: turn 1 has no 'content'; it has 'role'"),
        ({"role": "narrator", "content": "x"}, "unknown role: 'narrator'"),
        ({"role": ["user"], "content": "x"}, "unknown role"),
        ({"role": "user", "content": 3}, "wrong type: the content of turn 1 is int"),
        ({"role": "assistant", "content": "x", "mood": "sad"}, "field lost: 'mood' of turn 1"),
        ({"role": "assistant", "content": "x", "weight": 0.5}, "wrong type: 'weight' of turn 1 is 0.5"),
        ({"role": "assistant", "content": "x", "train": True, "masked": True}, "wrong type: the marks of turn 1"),
        ({"role": "user", "content": "x", "loss": True}, "wrong role: turn 1 is marked as trained"),
        ({"role": "assistant", "content": "x", "thinking": "a", "reasoning": "b"}, "field lost: turn 1 has reasoning"),
        ({"role": "user", "content": "x", "tool_calls": [{"name": "f"}]}, "wrong role: turn 1 is the user's"),
        ({"role": "assistant", "tool_calls": 5}, "wrong type: the tool calls of turn 1"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "wrong type: the arg"),
        ({"role": "user", "content": [{"type": "image"}]}, "wrong type: turn 1 has a part of type 'image'"),
    ],
)
def test_a_malformed_turn_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(RowError) as error:
        messages.from_list([value])
    assert str(error.value).startswith(reason)


def speakers(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": "x"} for role in roles]


@pytest.mark.parametrize(
    "roles",
    [
        ["user", "assistant"],
        ["system", "user", "assistant", "user", "assistant"],
        ["user", "assistant", "tool", "tool", "assistant"],
    ],
)
def test_turns_in_order_pass(roles: list[str]) -> None:
    order.check_order(speakers(*roles))


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        (["assistant", "user"], "wrong role order: assistant at the start (turn 1)"),
        (["user", "user"], "wrong role order: user after user (turn 2)"),
        (["user", "assistant", "system"], "wrong role order: system after assistant (turn 3)"),
        (["user", "tool"], "wrong role order: tool after user (turn 2)"),
    ],
)
def test_turns_out_of_order_are_refused(roles: list[str], reason: str) -> None:
    with pytest.raises(RowError) as error:
        order.check_order(speakers(*roles))
    assert str(error.value) == reason


def test_turns_are_counted_by_speaker() -> None:
    assert order.count_speakers([]) == (0, 0, 0, 0)  # type: ignore[arg-type]
    assert order.count_speakers([BRIEF, *TURNS, *TURNS]) == (1, 2, 2, 0)  # type: ignore[list-item]
    assert order.count_speakers(TURNS * 40_000) == (0, 40_000, 40_000, 0)  # type: ignore[arg-type]
    assert order.count_speakers(TURNS[:1] * 70_000) == (0, order.MOST, 0, 0)  # type: ignore[arg-type]
