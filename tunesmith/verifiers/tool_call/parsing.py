"""Read the tool calls of a completion.

Forms: JSON {name, arguments} alone, in a list, in a code fence, or between Hermes' and Qwen's `<tool_call>` tags;
Llama's {name, parameters}, `<|python_tag|>` and `<function=name>`; Mistral's `[TOOL_CALLS]`; DeepSeek's marks; Qwen
Coder's and GLM's tags for each argument; and Python calls, as in `[f(a=1), g(b="x")]`. Prose around tags is no part of
the calls, but a completion without tags is read as calls only as a whole.
"""

import ast
import json
import re
from collections.abc import Callable
from typing import NamedTuple

import jiter

LONGEST = 20_000
"""Characters of the longest completion that is read."""
MOST = 64
"""The most calls of a completion that is read."""
BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
PARAMETER = re.compile(r"<parameter=([^>\s]+)>(.*?)</parameter>", re.DOTALL)
PAIR = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
BEGIN, SEPARATOR, END = (f"<\uff5ctool\u2581{name}\uff5c>" for name in ("call\u2581begin", "sep", "call\u2581end"))
"""DeepSeek's marks."""
FENCED = ("json", "python", "tool_code", "tool_call", "")
CALLED = re.compile(r"\[?\s*[A-Za-z_][\w.]*\s*\(")
NAME = re.compile(r"[A-Za-z_][\w.-]*")


class Call(NamedTuple):
    """A tool call."""

    name: str
    arguments: dict[str, object]


class Untyped(str):
    """An argument that a form writes without its type: a text, or the JSON that it is."""


class MalformedError(ValueError):
    """The text begins as tool calls, and they cannot be read; the text of the error is the reason."""


def calls(text: str) -> list[Call]:
    """Return the calls of a completion; an empty list where it calls nothing. Raises MalformedError."""
    if len(text) > LONGEST:
        raise MalformedError(f"longer than {LONGEST:,} characters")
    found = _calls(text)
    if len(found) > MOST:
        raise MalformedError(f"more than {MOST} calls")
    return found


def _calls(text: str) -> list[Call]:
    if "<tool_call>" in text:
        return [call for block in BLOCK.findall(text) for call in _block(block.strip())]
    if "<function=" in text:
        return [_function(*parts) for parts in FUNCTION.findall(text)]
    if BEGIN in text:
        return [_deepseek(part.partition(END)[0]) for part in text.split(BEGIN)[1:]]
    if "[TOOL_CALLS]" in text:
        return _mistral(text.partition("[TOOL_CALLS]")[2].strip())
    plain = _unfenced(text.rpartition("<|python_tag|>")[2].strip())
    if plain.startswith(("{", "[")) and not CALLED.match(plain):
        return _json(plain) if _names_a_call(plain) else []
    if CALLED.match(plain) and plain.endswith((")", "]")):
        return _python(plain)
    name, brace, _ = plain.partition("{")  # Mistral's form without its special tokens
    return _mistral(plain) if brace and NAME.fullmatch(name.strip()) and plain.endswith("}") else []


def _unfenced(text: str) -> str:
    """Return what is in a code fence, where a text is nothing else."""
    kind, _, body = text.removeprefix("```").partition("\n")
    alone = text.startswith("```") and body.endswith("```") and body.count("```") == 1
    return body.removesuffix("```").strip() if alone and kind.strip() in FENCED else text


def _names_a_call(text: str) -> bool:
    """Tell a JSON text that is meant as calls from any other."""
    return re.search(r'"(?:name|function)"\s*:', text) is not None


def _block(text: str) -> list[Call]:
    """Read what stands between `<tool_call>` tags."""
    if "<function=" in text:
        return [_function(*parts) for parts in FUNCTION.findall(text)]
    if "<arg_key>" in text or (text and re.fullmatch(r"[\w.-]+", text)):
        name = text.partition("<arg_key>")[0].strip()
        return [Call(name, {key.strip(): Untyped(value.strip()) for key, value in PAIR.findall(text)})]
    return _json(text)


def _function(name: str, body: str) -> Call:
    if body.strip().startswith("{"):
        return Call(name, _arguments(body))
    return Call(name, {key: Untyped(value.strip("\n")) for key, value in PARAMETER.findall(body)})


def _deepseek(text: str) -> Call:
    """Read `name<sep>{…}`, or `function<sep>name` and a code fence."""
    first, _, rest = text.partition(SEPARATOR)
    if rest.lstrip().startswith("{"):
        return Call(first.strip(), _arguments(rest))
    name, _, fence = (rest or first).partition("\n")
    return Call(name.strip(), _arguments(_unfenced(fence.strip())))


def _mistral(text: str) -> list[Call]:
    """Read a list of calls, or a name and its arguments for each."""
    if text.startswith("["):
        return _json(text)
    found = []
    for part in filter(None, map(str.strip, text.split("[TOOL_CALLS]"))):
        name, _, arguments = part.partition("{")
        found.append(Call(name.replace("[ARGS]", "").strip(), _arguments("{" + arguments)))
    return found


def _json(text: str) -> list[Call]:
    """Read an object, a list of objects, or several objects one after the other, with or without `;` between them."""
    values = []
    start, decoder = 0, json.JSONDecoder()
    try:
        values.append(jiter.from_json(text.encode(errors="replace"), allow_inf_nan=False, catch_duplicate_keys=True))
    except ValueError as error:
        first = str(error)
        try:
            while text[start:].strip(" ;,\n"):
                start += len(text[start:]) - len(text[start:].lstrip(" ;,\n"))
                value, start = decoder.raw_decode(text, start)
                values.append(value)
        except (ValueError, RecursionError):
            raise MalformedError(f"not JSON: {first}") from None
    return [call(one) for value in values for one in (value if isinstance(value, list) else [value])]


def call(value: object) -> Call:
    """Read a call from its object. Raises MalformedError."""
    inner = value.get("function", value) if isinstance(value, dict) else value
    if isinstance(inner, str) and isinstance(value, dict):
        inner = {**value, "name": inner}
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise MalformedError("a call names no function")
    arguments: object = next(
        (inner[key] for key in ("arguments", "parameters", "args") if inner.get(key) is not None), {}
    )
    return Call(inner["name"], _arguments(arguments))


def _arguments(value: object) -> dict[str, object]:
    if isinstance(value, str):
        try:
            value = jiter.from_json(value.strip().encode(errors="replace") or b"{}", catch_duplicate_keys=True)
        except ValueError as error:
            raise MalformedError(f"arguments are not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedError(f"arguments are {type(value).__name__}, not an object")
    return value


def _python(text: str) -> list[Call]:
    """Read Python calls of literals; a text that is no Python calls nothing."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []
    nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
    if not nodes or not all(isinstance(node, ast.Call) for node in nodes):
        return []
    return [_python_call(node) for node in nodes if isinstance(node, ast.Call)]


def _python_call(node: ast.Call) -> Call:
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise MalformedError("an argument without its name")
    literal: Callable[[ast.expr], object] = ast.literal_eval
    try:
        arguments = {str(keyword.arg): literal(keyword.value) for keyword in node.keywords}
        return Call(ast.unparse(node.func), arguments)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise MalformedError("an argument is no literal") from None
