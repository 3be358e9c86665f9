"""Tool calls and the definitions of tools, as OpenAI, Anthropic, Bedrock, Hermes and ShareGPT write them."""

import ast
import json

import jiter

from tunesmith.core.ready_rows import Tool, ToolCall
from tunesmith.data.records import RowError
from tunesmith.data.turns.fields import Raw, is_nothing

NAMES = ("name", "tool_name", "function_name")
ARGUMENTS = ("arguments", "parameters", "input", "args")
IDS = ("id", "tool_call_id", "toolUseId", "call_id")
SCHEMAS = ("parameters", "input_schema", "inputSchema", "parameters_json_schema", "args_schema")
LONGEST_LITERAL = 100_000
"""Characters of the longest Python literal that is parsed; its parser may exhaust the stack on longer ones."""


def from_list(values: object, position: int = 1) -> list[ToolCall]:
    """Convert the calls of a turn: a list, one object, or JSON of either. Raises RowError for a malformed call."""
    values = json_value(values)
    if isinstance(values, dict):
        values = [values]
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise RowError(f"wrong type: the tool calls of turn {position} are not a list of objects")
    return [call(value, position) for value in values]


def call(value: Raw, position: int) -> ToolCall:
    """Convert a call of any API. Raises RowError where it names no function or its arguments are no object."""
    function = value.get("function", value)
    if isinstance(function, str):  # {"function": "name", "arguments": …}
        function = {**value, "name": function}
    name = _first(function, NAMES) if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str):
        raise RowError(f"wrong type: a tool call of turn {position} names no function")
    arguments = _first(function, ARGUMENTS)
    if isinstance(arguments, str):
        try:
            arguments = _load(arguments) if arguments.strip() else {}
        except ValueError:
            raise RowError(f"wrong type: the arguments of a tool call of turn {position} are not JSON") from None
    if not isinstance(arguments, dict | None):
        kind = type(arguments).__name__
        raise RowError(f"wrong type: the arguments of a tool call of turn {position} are {kind}, not an object")
    made: ToolCall = {"type": "function", "function": {"name": name, "arguments": arguments or {}}}
    number = _first(value, IDS)
    return {"type": "function", "id": number, "function": made["function"]} if isinstance(number, str) else made


def definitions(value: object) -> list[Tool]:
    """Convert the definitions of tools of any API, or JSON of them. Raises RowError for what is none."""
    value = json_value(value)
    if isinstance(value, dict) and isinstance(value.get("tools"), list):  # Bedrock's toolConfig
        value = value["tools"]
    if is_nothing(value):
        return []
    values = [json_value(one) for one in listed(value)]
    if not all(isinstance(one, dict) for one in values):
        raise RowError("wrong type: the tools are not a list of objects, each with a name")
    return [_definition(one) for one in values if isinstance(one, dict) and "cachePoint" not in one]


def _definition(value: Raw) -> Tool:
    function = value.get("function", value.get("toolSpec", value))
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError("wrong type: the tools are not a list of objects, each with a name")
    schema = json_value(_first(function, SCHEMAS))
    if isinstance(schema, dict) and set(schema) == {"json"}:  # Bedrock
        schema = schema["json"]
    known = {name: function[name] for name in ("name", "description") if not is_nothing(function.get(name))}
    others = {
        name: part
        for name, part in function.items()
        if name not in {*known, *SCHEMAS, "type", "cache_control"} and not is_nothing(part)
    }
    return {"type": "function", "function": known | ({"parameters": schema} if schema is not None else {}) | others}


def json_value(value: object) -> object:
    """Return what a text of JSON, or of a Python literal, stands for; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return _load(value)
        except ValueError:
            return value
    return value


def without_padding(value: object) -> object:
    """Leave the nulls out that Arrow writes for fields which only other rows have."""
    if isinstance(value, dict):
        return {name: without_padding(part) for name, part in value.items() if part is not None}
    return [without_padding(part) for part in value] if isinstance(value, list) else value


def load_many(text: str) -> object:
    """Parse a value, or several on lines of their own."""
    try:
        return _load(text)
    except ValueError:
        return [_load(line) for line in text.splitlines() if line.strip()]


def _load(text: str) -> object:
    """Parse JSON, line breaks within its strings included, or a Python literal. Raises ValueError for neither."""
    for parse in (_strict, _lenient):
        try:
            return parse(text)
        except ValueError:
            continue
    return literal(text)


def _strict(text: str) -> object:
    return jiter.from_json(text.encode(errors="replace"), allow_inf_nan=False, catch_duplicate_keys=True)


def _lenient(text: str) -> object:
    try:
        return json.loads(text, strict=False)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def literal(text: str) -> object:
    """Parse a Python literal. Raises ValueError for anything else."""
    if len(text) > LONGEST_LITERAL:
        raise ValueError("too long for a literal")
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from None


def listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _first(value: Raw, names: tuple[str, ...]) -> object:
    return next((value[name] for name in names if value.get(name) is not None), None)
