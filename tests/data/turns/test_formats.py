"""Tools, calls, results, reasoning and marks of turns, in the form of each API, become the same row."""

import json
from typing import Any

import pytest

from tunesmith.data.dataset import Dataset
from tunesmith.data.records import RowError

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "weather", "parameters": SCHEMA}}]
CALLS = [
    {"type": "function", "function": {"name": "get_weather", "arguments": {"city": city}}} for city in ("Porto", "Lima")
]
USER = {"role": "user", "content": "Weather in Porto and Lima?"}
ANSWER = {"role": "assistant", "content": "Sun and rain."}


def row(*, reasoning: str = "", ids: tuple[str, ...] = (), said: str = "") -> dict[str, Any]:
    """The ready row of two parallel calls, their results and the answer."""
    calls = [call | ({"id": ids[place]} if ids else {}) for place, call in enumerate(CALLS)]
    asked = {"role": "assistant", "content": said, **({"reasoning": reasoning} if reasoning else {})}
    results = [
        {"role": "tool", "content": text, **({"tool_call_id": ids[place]} if ids else {})}
        for place, text in enumerate(("sunny", "rainy"))
    ]
    return {
        "prompt": [USER, {**asked, "tool_calls": calls, "train": True}, *results],
        "completion": [ANSWER],
        "tools": TOOLS,
    }


def function(call: dict[str, Any], *, text: bool) -> dict[str, Any]:
    arguments = call["function"]["arguments"]
    return {"name": call["function"]["name"], "arguments": json.dumps(arguments) if text else arguments}


def openai(*, text: bool) -> dict[str, Any]:
    calls = [
        {"id": str(place), "type": "function", "function": function(call, text=text)}
        for place, call in enumerate(CALLS)
    ]
    results = [
        {"role": "tool", "tool_call_id": str(place), "content": said} for place, said in enumerate(("sunny", "rainy"))
    ]
    asked = {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None}
    return {"messages": [USER, asked, *results, ANSWER], "tools": TOOLS, "parallel_tool_calls": True}


def anthropic() -> dict[str, Any]:
    uses = [{"type": "tool_use", "id": str(place), "name": "get_weather", "input": call["function"]["arguments"]}
            for place, call in enumerate(CALLS)]  # fmt: skip
    results = [{"type": "tool_result", "tool_use_id": "0", "content": "sunny"},
               {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "rainy"}]}]  # fmt: skip
    thought = {"type": "thinking", "thinking": "Two cities.", "signature": "x"}
    return {
        "tools": [{"name": "get_weather", "description": "weather", "input_schema": SCHEMA}],
        "messages": [USER, {"role": "assistant", "content": [thought, {"type": "text", "text": "I look."}, *uses]},
                     {"role": "user", "content": results}, {"role": "assistant", "content": [
                         {"type": "text", "text": "Sun and rain.", "cache_control": {"type": "ephemeral"}}]}],
    }  # fmt: skip


def bedrock() -> dict[str, Any]:
    uses = [{"toolUse": {"toolUseId": str(place), "name": "get_weather", "input": call["function"]["arguments"]}}
            for place, call in enumerate(CALLS)]  # fmt: skip
    results = [{"toolResult": {"toolUseId": str(place), "content": [{"text": text}], "status": "success"}}
               for place, text in enumerate(("sunny", "rainy"))]  # fmt: skip
    thought = {"reasoningContent": {"reasoningText": {"text": "Two cities.", "signature": "x"}}}
    spec = {"name": "get_weather", "description": "weather", "inputSchema": {"json": SCHEMA}}
    return {
        "schemaVersion": "bedrock-conversation-2024",
        "toolConfig": {"tools": [{"toolSpec": spec}]},
        "messages": [{"role": "user", "content": [{"text": USER["content"]}]},
                     {"role": "assistant", "content": [thought, {"text": "I look."}, *uses]},
                     {"role": "user", "content": results},
                     {"role": "assistant", "content": [{"text": "Sun and rain."}]}],
    }  # fmt: skip


def sharegpt() -> dict[str, Any]:
    calls = [function(call, text=False) for call in CALLS]
    return {
        "conversations": [{"from": "human", "value": USER["content"]},
                          {"from": "function_call", "value": json.dumps(calls)},
                          {"from": "observation", "value": "sunny"}, {"from": "observation", "value": "rainy"},
                          {"from": "gpt", "value": "Sun and rain."}],
        "tools": json.dumps([TOOLS[0]["function"]]),
    }  # fmt: skip


def hermes(*, column: bool) -> dict[str, Any]:
    blocks = "\n".join(f"<tool_call>\n{function(call, text=False)}\n</tool_call>" for call in CALLS)
    results = "\n".join(f"<tool_response>\n{text}\n</tool_response>" for text in ("sunny", "rainy"))
    system = (
        "You are a function calling AI model. You are provided with function signatures within <tools></tools> XML "
        f"tags.\n<tools>\n{json.dumps(TOOLS[0])}\n</tools>\nFor each call return JSON within <tool_call> tags."
    )
    asked = f"<think>\nTwo cities.\n</think>\nI look.\n{blocks}"
    turns = [
        ("system", system),
        ("human", USER["content"]),
        ("gpt", asked),
        ("tool", results),
        ("gpt", "Sun and rain."),
    ]
    fields = {"conversations": [{"from": speaker, "value": text} for speaker, text in turns]}
    return fields | ({"tools": json.dumps(TOOLS)} if column else {})


def swift() -> dict[str, Any]:
    calls = [{"role": "tool_call", "content": json.dumps(function(call, text=False))} for call in CALLS]
    results = [{"role": "tool_response", "content": text} for text in ("sunny", "rainy")]
    return {"messages": [USER, *calls, *results, ANSWER], "tools": json.dumps(TOOLS)}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (openai(text=True), row(ids=("0", "1"))),
        (openai(text=False), row(ids=("0", "1"))),
        (anthropic(), row(ids=("0", "1"), reasoning="Two cities.", said="I look.")),
        (bedrock(), row(ids=("0", "1"), reasoning="Two cities.", said="I look.")),
        (sharegpt(), row()),
        (hermes(column=False), row(reasoning="Two cities.", said="I look.")),
        (hermes(column=True), row(reasoning="Two cities.", said="I look.")),
        (swift(), row()),
    ],
)
def test_calls_of_every_api_become_the_same_turns(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert Dataset(path="x").to_row(fields).row == expected  # type: ignore[arg-type]


def test_legacy_functions_are_calls_and_tools() -> None:
    messages = [USER, {"role": "assistant", "content": None, "function_call": function(CALLS[0], text=True)}]
    result = {"role": "function", "name": "get_weather", "content": "sunny"}
    fields = {"messages": [*messages, result, ANSWER], "functions": [TOOLS[0]["function"]]}
    read = Dataset(path="x").to_row(fields).row  # type: ignore[arg-type]
    assert (read["tools"], read["prompt"][1]["tool_calls"], read["prompt"][2]) == (
        TOOLS, CALLS[:1], {"role": "tool", "content": "sunny", "name": "get_weather"})  # fmt: skip
    last = Dataset(path="x").to_row({"messages": messages, "functions": fields["functions"]}).row  # type: ignore[arg-type]
    assert last["completion"] == [{"role": "assistant", "content": "", "tool_calls": CALLS[:1]}]


def test_a_call_is_preferred_to_another_and_a_prompt_with_tools_is_scored() -> None:
    chosen, rejected = ({"role": "assistant", "content": "", "tool_calls": [call]} for call in CALLS)
    pair = {
        "input": {"messages": [USER], "tools": TOOLS},
        "preferred_output": [chosen],
        "non_preferred_output": [rejected],
    }
    assert Dataset(path="x").to_row(pair).row == {  # type: ignore[arg-type]
        "prompt": [USER], "chosen": [chosen], "rejected": [rejected], "tools": TOOLS}  # fmt: skip
    answer = {"messages": [USER, chosen], "tools": TOOLS}
    scored = Dataset(path="x", kind="scored", verifier="tool_call").to_row(answer).row  # type: ignore[arg-type]
    assert (scored["tools"], json.loads(str(scored["reference"]))) == (TOOLS, [function(CALLS[0], text=False)])


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"function": {"arguments": "{}"}}, "names no function"),
        ({"function": {"name": "f", "arguments": "{"}}, "are not JSON"),
        ({"function": {"name": "f", "arguments": [1]}}, "are list, not an object"),
    ],
)
def test_a_malformed_call_sets_its_row_aside(call: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        Dataset(path="x").to_row({"messages": [USER, {"role": "assistant", "tool_calls": [call]}]})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("as_tags", [False, True])
def test_reasoning_is_one_field_that_is_trained_left_out_or_refused(name: str, as_tags: bool) -> None:
    text = "<think>\nI add.\n</think>\n\n4" if as_tags else "4"
    answer = {"role": "assistant", "content": text, **({} if as_tags else {name: "I add.\n"})}
    fields = {"messages": [{"role": "user", "content": "2 + 2?"}, answer]}
    rows = {how: Dataset(path="x", reasoning=how).to_row(fields).row for how in ("train", "drop")}  # type: ignore[arg-type]
    assert rows["train"]["completion"] == [{"role": "assistant", "content": "4", "reasoning": "I add."}]
    assert rows["drop"]["completion"] == [{"role": "assistant", "content": "4"}]
    with pytest.raises(RowError, match="reasoning: "):
        Dataset(path="x", reasoning="refuse").to_row(fields)  # type: ignore[arg-type]


FLAGS = [("train", False), ("loss", False), ("weight", 0), ("loss_mask", 0), ("trainable", False), ("masked", True),
         ("loss_weight", 0.0), ("train_on_turn", "false")]  # fmt: skip


@pytest.mark.parametrize(("flag", "value"), FLAGS)
def test_marks_of_turns_are_the_mask(flag: str, value: Any) -> None:
    def chat(*marked: bool) -> dict[str, Any]:
        turns: list[dict[str, Any]] = []
        for place, left_out in enumerate(marked):
            turns += [{"role": "user", "content": f"q{place}"},
                      {"role": "assistant", "content": f"a{place}", **({flag: value} if left_out else {})}]  # fmt: skip
        return {"messages": turns}

    read = Dataset(path="x").to_row(chat(True, False)).row  # type: ignore[arg-type]
    assert read["prompt"][1] == {"role": "assistant", "content": "a0", "train": False}
    assert read["completion"] == [{"role": "assistant", "content": "a1"}]
    read = Dataset(path="x").to_row(chat(False, True)).row  # type: ignore[arg-type]
    assert read["completion"] == [{"role": "assistant", "content": "a0"}]
    with pytest.raises(RowError, match="nothing to train"):
        Dataset(path="x").to_row(chat(True))  # type: ignore[arg-type]
