"""Compare the tool calls of a completion with the row's: their names, and their arguments as typed values.

The row's ``reference`` is a list of calls {name, arguments}, one of them, or JSON of either; without it, the calls of
the row's own completion. Where several values of an argument are right, a call has ``allowed`` in place of
``arguments``: a list of values for each, in which "" allows to leave the argument out. So do the answers of BFCL, whose
form {name: {argument: [values]}} is read too, as is a list of texts f(a=1). A row whose right answer calls nothing is
right where nothing is called.

The reason tells malformed calls, those not made, a wrong name, a wrong number of calls and a wrong argument.
"""

import json

from tunesmith.core.ready_rows import calls_text
from tunesmith.verifiers.tool_call import comparison, parsing
from tunesmith.verifiers.tool_call.comparison import Right
from tunesmith.verifiers.tool_call.parsing import Call, MalformedError
from tunesmith.verifiers.verdict import Columns, Verdict


def verify(completion: str, row: Columns) -> Verdict:
    """Compare the calls of ``completion`` with the right ones."""
    try:
        right = _right(row)
    except (MalformedError, TypeError, ValueError) as error:
        return Verdict(0.0, None, f"the row's calls cannot be read: {error}", "not_gradable")
    try:
        made = parsing.calls(completion)
    except MalformedError as error:
        return Verdict(0.0, None, f"malformed: {error}", "no_answer")
    reason = comparison.difference(made, right)
    if not made and right:
        return Verdict(0.0, None, str(reason), "no_answer")
    answer = json.dumps([call._asdict() for call in made], ensure_ascii=False, default=str) if made else completion[:80]
    return Verdict(float(reason is None), answer, reason or ("the right calls" if made else "nothing is called"))


def right_answer(row: Columns) -> str:
    """Return the row's right calls as JSON, with the first value of each argument of which several are right."""
    try:
        right = _right(row)
    except (MalformedError, TypeError, ValueError):
        right = []  # `verify` says why
    if not right:
        return str(row.get("reference") or "Nothing is to be called.")
    calls = [
        {
            "name": call.name,
            "arguments": {name: options[0] for name, options in call.allowed.items() if options[0] != ""},
        }
        for call in right
    ]
    return json.dumps(calls, ensure_ascii=False)


def _right(row: Columns) -> list[Right]:
    """Return the right calls of a row. Raises MalformedError or ValueError for what is none."""
    value = row.get("reference")
    if "reference" not in row:
        completion = row.get("completion")
        last = completion[-1] if isinstance(completion, list) and completion else {}
        value = calls_text(last["tool_calls"]) if isinstance(last, dict) and "tool_calls" in last else []
    if isinstance(value, str):
        text = value
        try:
            value = json.loads(text)
        except ValueError:
            return [_exactly(call) for call in parsing.calls(text)]
        if not isinstance(value, list | dict):
            return []  # a text that happens to be JSON, such as a number
    values = value if isinstance(value, list) else [value]
    return [right for each in values for right in (_written(each) if isinstance(each, str) else [_one(each)])]


def _written(text: str) -> list[Right]:
    """Return the calls of a text, such as f(a=1)."""
    found = [_exactly(call) for call in parsing.calls(text)]
    if not found:
        raise MalformedError(f"no call: {text[:80]!r}")
    return found


def _one(value: object) -> Right:
    if not isinstance(value, dict):
        raise MalformedError(f"a call is {type(value).__name__}, not an object")
    inner = value.get("function", value)
    if isinstance(inner, dict) and isinstance(inner.get("name"), str):
        if isinstance(allowed := inner.get("allowed"), dict):
            return Right(inner["name"], {name: _options(options) for name, options in allowed.items()})
        return _exactly(parsing.call(inner))
    name, allowed = next(iter(value.items()), ("", None))  # BFCL's form
    if len(value) != 1 or not isinstance(allowed, dict) or name in ("arguments", "parameters", "function", "allowed"):
        raise MalformedError("a call names no function")
    return Right(str(name), {argument: _options(options) for argument, options in allowed.items()})


def _options(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise MalformedError("the allowed values of an argument are no list of at least one")
    return value


def _exactly(call: Call) -> Right:
    return Right(call.name, {name: [value] for name, value in call.arguments.items()})
