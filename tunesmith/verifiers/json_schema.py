"""Is the completion JSON that the row's schema allows, with the reference's fields?

The completion must hold one JSON value: alone, or in its only code fence, with any prose around that. Repeated keys,
NaN, Infinity and numbers beyond a double's range are not JSON; what is not JSON is no answer. The value must be valid
under the row's ``schema``; where the row has a ``reference`` (an object, or its JSON text), the value must have each
of its fields with an equal value, and may have others (``additionalProperties: false`` forbids them). A reference that
is no object must be equal as a whole. Numbers are equal by value, as in JSON Schema: 1 is 1.0, and is not true.

The schema is the project's own, the completion is not: patterns are matched by RE2 in linear time, nothing is
fetched (a ``$ref`` leads into the schema itself), ``format`` is not checked. A schema that needs more, such as
``patternProperties``, cannot be graded with.
"""

import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import re2
from jsonschema import SchemaError, ValidationError, validators
from referencing import Registry
from referencing.exceptions import Unresolvable

from tunesmith.verifiers import regex
from tunesmith.verifiers.verdict import Columns, Verdict

LONGEST = 100_000
"""Characters of the longest completion that is read."""
DEEPEST = 32
"""Objects and arrays within each other; deeper, validation could exhaust the stack."""
FENCE = re.compile(r"```[a-zA-Z]{0,9}[ \t]{0,9}\n(.*?)```", re.DOTALL)
UNSUPPORTED = {"patternProperties", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"}


def verify(completion: str, row: Columns) -> Verdict:
    """Validate the JSON in ``completion`` and compare its fields with the reference's."""
    try:
        validator = _validator(json.dumps(_given(row["schema"]), sort_keys=True))
        expected = [] if row.get("reference") is None else [_given(row["reference"])]
    except (ValueError, TypeError, RecursionError, SchemaError, re2.error) as error:
        return Verdict(
            0.0, None, f"the row's schema or reference cannot be used: {regex.told(error)[:200]}", "not_gradable"
        )
    try:
        text = _json_text(completion)
        value = loads(text)
    except ValueError as error:
        return Verdict(0.0, None, f"no JSON in the completion: {str(error)[:200]}", "no_answer")
    try:
        flaw = next(validator.iter_errors(value), None)
    except OverflowError:  # multipleOf, of an integer beyond a double's range: the completion's doing
        return Verdict(0.0, text, "a number too large to be checked")
    except (RecursionError, Unresolvable) as failure:  # of the schema: the value is no deeper than DEEPEST
        return Verdict(0.0, text, f"the row's schema cannot be used: {str(failure)[:200]}", "not_gradable")
    if flaw is not None:
        return Verdict(0.0, text, f"not valid at {flaw.json_path}: {flaw.message[:200]}")
    different = _different(value, expected[0]) if expected else ""
    if different:
        return Verdict(0.0, text, f"not as in the reference: {different}")
    return Verdict(1.0, text, "valid, and as in the reference" if expected else "valid")


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for what strict JSON has not, and for more than `DEEPEST` levels."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("too deep") from None
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels deep")
        level = [inner for outer in level for inner in _inside(outer)]
    return value


def _given(value: Any) -> Any:
    """What the row gives as a value, or as its JSON text."""
    return loads(value) if isinstance(value, str) else value


def _json_text(completion: str) -> str:
    text = completion.strip().removeprefix("\ufeff")
    if len(text) > LONGEST:
        raise ValueError(f"more than {LONGEST} characters")
    fenced = FENCE.findall(text)
    if text[:1] in ("{", "[", '"') or not fenced:
        return text
    if len(fenced) > 1:
        raise ValueError(f"{len(fenced)} code fences")
    return str(fenced[0]).strip()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number[:40])


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _different(value: Any, expected: Any) -> str:
    """Where ``value`` is not as expected, or ""."""
    if not isinstance(expected, dict):
        return "" if _key(value) == _key(expected) else "the value"
    if not isinstance(value, dict):
        return "no object"
    names = (name for name in expected if name not in value or _key(value[name]) != _key(expected[name]))
    return next((repr(name) for name in names), "")


def _key(value: Any) -> Any:
    """Something hashable that is the same for equal JSON values only."""
    if isinstance(value, dict):
        return ("object", frozenset((name, _key(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return ("array", tuple(map(_key, value)))
    return (isinstance(value, bool), value)


@lru_cache(maxsize=64)
def _validator(schema_text: str) -> Any:
    """The validator of a schema. Raises SchemaError, ValueError for what is not supported, and re2.error."""
    schema = json.loads(schema_text)
    if not isinstance(schema, dict | bool):
        raise ValueError("a schema is an object, true or false")
    level = [schema]
    while level:
        for part in (part for part in level if isinstance(part, dict)):
            if UNSUPPORTED & part.keys():
                raise ValueError(f"{min(UNSUPPORTED & part.keys())} is not supported")
            if isinstance(part.get("pattern"), str):
                regex.compile_pattern(part["pattern"])
        level = [inner for outer in level for inner in _inside(outer)]
    dialect = validators.validator_for(schema)
    dialect.check_schema(schema)
    made = validators.extend(dialect, {"pattern": _pattern, "uniqueItems": _unique_items})
    return made(schema, registry=Registry())


def _pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not regex.compile_pattern(wanted).search(regex.encoded(value)):
        yield ValidationError(f"{value[:80]!r} does not match {wanted!r}")


def _unique_items(validator: Any, wanted: bool, value: Any, schema: Any) -> Iterator[ValidationError]:
    """In linear time, where jsonschema compares each with each."""
    if wanted and isinstance(value, list) and len(set(map(_key, value))) < len(value):
        yield ValidationError("an item stands twice")
