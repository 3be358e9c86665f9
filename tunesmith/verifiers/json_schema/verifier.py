"""Validate the completion's JSON against the row's schema, and compare its fields with the reference's.

The completion must hold one JSON value: alone, or in its only code fence, with any prose around that. Repeated keys,
NaN, Infinity and numbers beyond a double's range are not JSON; a completion without JSON is no answer. The value
must be valid under the row's ``schema``; where the row has a ``reference`` (an object, or its JSON text), the value
must have each of its fields with an equal value, and may have others (``additionalProperties: false`` forbids them). A
reference that is not an object must be equal as a whole. Numbers are equal by value, as in JSON Schema: 1 is 1.0, and
is not true.

A schema without ``$schema`` is read by the newest draft in which all of its keywords mean something: `dependencies`,
or `items` as a list, say that it was written for draft 7, a boolean `exclusiveMinimum` for draft 4. ``format`` is
checked, where `formats` knows it.

The schema is the project's own, the completion is not: patterns are matched by RE2 in linear time, and nothing is
fetched (a ``$ref`` leads into the schema itself). A part of the value meets a ``$ref`` once, so that a union which
contains itself takes no exponential time; the `catalog` limits the time of what is left.
"""

import json
import math
import re
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import re2
from jsonschema import Draft4Validator, Draft7Validator, Draft201909Validator, SchemaError, ValidationError, validators
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from tunesmith.verifiers import regex
from tunesmith.verifiers.json_schema import formats
from tunesmith.verifiers.verdict import Columns, Verdict

LONGEST = 100_000
"""Characters of the longest completion that is read."""
DEEPEST = 32
"""Levels of nested objects and arrays; with more, validation could exhaust the stack."""
FENCE = re.compile(r"```[a-zA-Z]{0,9}[ \t]{0,9}\n(.*?)```", re.DOTALL)
Reference = Callable[[Validator, str, object, object], Iterator[ValidationError]]
"""jsonschema's check of a ``$ref``: of a validator, the reference, a value, and the schema that has the reference."""
_met: ContextVar[dict[tuple[int, int], ValidationError | None]] = ContextVar("met")
"""The first error of each pair that was met in this validation: a schema that has a ``$ref``, and a part of the value.
By their ids, since both live as long as the validation."""
DYNAMIC = {"$dynamicRef", "$recursiveRef"}
"""References whose target depends on the way to them: a part of the value may meet one again with another outcome."""


def verify(completion: str, row: Columns) -> Verdict:
    """Validate the JSON in ``completion`` and compare its fields with the reference's."""
    try:
        validator = _validator(json.dumps(_value(row["schema"]), sort_keys=True))
        expected = [] if row.get("reference") is None else [_value(row["reference"])]
    except (ValueError, TypeError, RecursionError, SchemaError, re2.error) as error:
        return Verdict(
            0.0, None, f"the row's schema or reference cannot be used: {regex.error_text(error)[:200]}", "not_gradable"
        )
    try:
        text = _json_text(completion)
        value = loads(text)
    except ValueError as error:
        return Verdict(0.0, None, f"no JSON in the completion: {str(error)[:200]}", "no_answer")
    _met.set({})
    try:
        invalid = next(validator.iter_errors(value), None)
    except OverflowError:  # multipleOf of an integer beyond a double's range, which is the completion's fault
        return Verdict(0.0, text, "a number is too large to be checked")
    except (RecursionError, Unresolvable) as error:  # the schema's fault: the value has at most DEEPEST levels
        return Verdict(0.0, text, f"the row's schema cannot be used: {str(error)[:200]}", "not_gradable")
    if invalid is not None:
        return Verdict(0.0, text, f"not valid at {invalid.json_path}: {invalid.message[:200]}")
    difference = _difference(value, expected[0]) if expected else ""
    if difference:
        return Verdict(0.0, text, f"not as in the reference: {difference}")
    return Verdict(1.0, text, "valid, and as in the reference" if expected else "valid")


def loads(text: str) -> object:
    """The value of a JSON text. Raises ValueError where it is not strict JSON, and for more than `DEEPEST` levels."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("too many levels") from None
    level: list[object] = [value]
    depth = 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels deep")
        level = [inner for outer in level for inner in _inside(outer)]
    return value


def _value(value: object) -> object:
    """The JSON value of a column, which may also hold it as text."""
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


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("an object has the same key twice")
    return fields


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number[:40])


def _inside(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _difference(value: object, expected: object) -> str:
    """The place where ``value`` differs from what is expected; "" where it does not."""
    if not isinstance(expected, dict):
        return "" if _key(value) == _key(expected) else "the value"
    if not isinstance(value, dict):
        return "not an object"
    names = (name for name in expected if name not in value or _key(value[name]) != _key(expected[name]))
    return next((repr(name) for name in names), "")


def _key(value: object) -> Hashable:
    """A hashable key, equal for equal JSON values only."""
    if isinstance(value, dict):
        return ("object", frozenset((name, _key(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return ("array", tuple(map(_key, value)))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # As text, since whoever writes the numbers can choose them to have one hash: multiples of 2**61 - 1.
    return ("integer", hex(value)) if isinstance(value, int) and not isinstance(value, bool) else repr(value)


@lru_cache(maxsize=64)
def _validator(schema_text: str) -> Validator:
    """The validator of a schema. Raises SchemaError, re2.error, and ValueError for what is no schema."""
    schema = json.loads(schema_text)
    if not isinstance(schema, dict | bool):
        raise ValueError("a schema must be an object, true or false")
    parts = list(_parts(schema))
    for part in parts:
        properties = part.get("patternProperties")
        for pattern in (part.get("pattern"), *(properties if isinstance(properties, dict) else ())):
            if isinstance(pattern, str):
                regex.compile_pattern(pattern)
    dialect = validators.validator_for(schema, default=_dialect(parts))
    dialect.check_schema(schema)
    keywords = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
        "format": _format,
    }
    if not any(DYNAMIC & part.keys() for part in parts):
        keywords["$ref"] = _once(dialect.VALIDATORS["$ref"])
    linear: type[Validator] = validators.extend(dialect, keywords)
    return linear(schema, registry=Registry())


def _parts(schema: object) -> Iterator[dict[str, object]]:
    """Every object in a schema."""
    level = [schema]
    while level:
        yield from (part for part in level if isinstance(part, dict))
        level = [inner for outer in level for inner in _inside(outer)]


def _dialect(parts: list[dict[str, object]]) -> Any:
    """The class of the newest draft in which the keywords of a schema that names none mean something."""
    if any(isinstance(part.get(name), bool) for part in parts for name in ("exclusiveMinimum", "exclusiveMaximum")):
        return Draft4Validator
    newer = {
        "$defs",
        "dependentRequired",
        "dependentSchemas",
        "prefixItems",
        "unevaluatedProperties",
        "unevaluatedItems",
    }
    legacy = any(
        "dependencies" in part or isinstance(part.get("items"), list) or "additionalItems" in part for part in parts
    )
    if legacy and not any(newer & part.keys() for part in parts):
        return Draft7Validator
    if legacy or any("$recursiveRef" in part for part in parts):
        return Draft201909Validator
    return validators.validator_for({})


def _once(check: Reference) -> Reference:
    """Check a part of the value by a reference once in a validation.

    A recursive schema must go through a reference, so without this, alternatives double the work at each level.
    """

    def check_once(validator: Validator, target: str, value: object, schema: object) -> Iterator[ValidationError]:
        met, pair = _met.get(), (id(schema), id(value))
        if pair not in met:
            met[pair] = next(check(validator, target, value, schema), None)
        error = met[pair]
        if error is not None:
            yield ValidationError(error.message, path=error.relative_path)

    return check_once


def _pattern(validator: object, pattern: str, value: object, schema: object) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _matches(pattern, value):
        yield ValidationError(f"{value[:80]!r} does not match {pattern!r}")


def _matches(pattern: str, text: str) -> bool:
    return bool(regex.compile_pattern(pattern).search(regex.utf8(text)))


def _pattern_properties(
    validator: Validator, patterns: dict[str, object], value: object, schema: object
) -> Iterator[ValidationError]:
    for pattern, subschema in patterns.items():
        for name, inner in value.items() if isinstance(value, dict) else ():
            if _matches(pattern, name):
                yield from validator.descend(inner, subschema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Validator, allowed: object, value: object, schema: dict[str, dict[str, object]]
) -> Iterator[ValidationError]:
    """Check the properties that neither `properties` nor `patternProperties` names."""
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, inner in value.items() if isinstance(value, dict) else ():
        if name in known or any(_matches(pattern, name) for pattern in patterns):
            continue
        if allowed is False:
            yield ValidationError(f"the property {name[:80]!r} is not allowed")
        else:
            yield from validator.descend(inner, allowed, path=name)


def _format(validator: object, name: str, value: object, schema: object) -> Iterator[ValidationError]:
    if isinstance(value, str) and not formats.holds(name, value):
        yield ValidationError(f"{value[:80]!r} is not of the format {name!r}")


def _unique_items(validator: object, unique: bool, value: object, schema: object) -> Iterator[ValidationError]:
    """Check ``uniqueItems`` in linear time; jsonschema compares each item with each other."""
    if unique and isinstance(value, list) and len(set(map(_key, value))) < len(value):
        yield ValidationError("an item occurs twice")
