import json
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers.json_schema import verifier as json_schema

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^(a+)+$"}, "age": {"type": "integer"}},
    "required": ["age"],
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
VALID = ['{"age": 1}', '```json\n{"age": 1}\n```', 'Sure!\n```\n{"age": 1, "x": 2}\n```\nDone.', '{"age": 1.0}',
         '{"age": ' + "9" * 4000 + "}", '{"age": 1, "x": "```"}']  # fmt: skip
INVALID = ["{}", "[]", "1", '{"age": "1"}', '{"age": true}', '{"age": 1.5}', '{"age": null}', '{"age": 1, "name": "b"}',
           '{"age": 1, "name": "\\ud800"}']  # fmt: skip
NOT_JSON = {
    "nothing": "",
    "prose": "The age is 1",
    "two values": '{"age": 1} {"age": 1}',
    "two fences": '```json\n{"age": 1}\n```\nor\n```json\n{"age": 2}\n```',
    "prose behind": '{"age": 1} I hope this helps',
    "single quotes": "{'age': 1}",
    "a comment": '{"age": 1} // one',
    "a trailing comma": '{"age": 1,}',
    "a key twice": '{"age": "x", "age": 1}',
    "NaN": '{"age": NaN}',
    "infinity": '{"age": -Infinity}',
    "beyond a double": '{"age": 1e999}',
    "too many digits": '{"age": ' + "9" * 5000 + "}",
    "too deep": '{"age": ' + "[" * 50 + "]" * 50 + "}",
    "far too deep": "[" * 99_999,
    "too long": '{"age": 1, "x": "' + "x" * 100_000 + '"}',
}
UNUSABLE = [
    {"$ref": "http://127.0.0.1:9/schema"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "#"},
    {"$ref": "#/nowhere"},
    {"type": "nonsense"},
    {"pattern": "(?=a)"},
    {"patternProperties": {"(?=a)": {}}},
    "{not json",
    5,
    None,
]


@pytest.mark.parametrize("completion", VALID)
def test_valid_json_is_right(completion: str) -> None:
    assert json_schema.verify(completion, {"schema": PERSON}).score == 1


@pytest.mark.parametrize("completion", INVALID)
def test_json_that_the_schema_forbids_is_wrong(completion: str) -> None:
    verdict = json_schema.verify(completion, {"schema": json.dumps(PERSON)})
    assert (verdict.score, verdict.status) == (0, "scored")


@pytest.mark.parametrize("name", NOT_JSON)
def test_a_text_that_is_not_one_json_value_is_no_answer(name: str) -> None:
    assert json_schema.verify(NOT_JSON[name], {"schema": PERSON}).status == "no_answer"


@pytest.mark.parametrize("schema", UNUSABLE)
def test_a_schema_that_cannot_be_used_is_not_gradable_and_nothing_is_fetched(
    schema: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("the network was used"))
    assert json_schema.verify('"a"', {"schema": schema}).status == "not_gradable"


KEYWORDS: list[tuple[dict[str, object], str, str]] = [
    ({"dependencies": {"a": ["b"]}}, '{"a": 1, "b": 2}', '{"a": 1}'),
    ({"properties": {"x": {"dependencies": {"a": {"required": ["b"]}}}}}, '{"x": {"c": 1}}', '{"x": {"a": 1}}'),
    ({"items": [{"type": "integer"}, {"type": "string"}]}, '[1, "a"]', '["a", 1]'),
    ({"items": [{}], "additionalItems": False}, "[1]", "[1, 2]"),
    ({"minimum": 3, "exclusiveMinimum": True}, "4", "3"),
    ({"prefixItems": [{"type": "integer"}]}, "[1]", '["a"]'),
    ({"dependentRequired": {"a": ["b"]}}, "{}", '{"a": 1}'),
    ({"patternProperties": {"^a": {"type": "integer"}}}, '{"a1": 1, "b": "x"}', '{"a1": "x"}'),
    ({"patternProperties": {"^a": {}}, "additionalProperties": False}, '{"a1": 1}', '{"b": 1}'),
    ({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}, '{"a": 1, "b": null}', '{"b": 1}'),
    ({"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}, '{"a": 1}', '{"b": 1}'),
    ({"$dynamicRef": "#/$defs/n", "$defs": {"n": {"type": "null"}}}, "null", "1"),
    *(
        ({"format": name}, json.dumps(right), json.dumps(wrong))
        for name, right, wrong in (
            ("date", "2024-02-29", "2023-02-29"),
            ("time", "23:59:60Z", "24:00:00Z"),
            ("date-time", "1990-12-31T23:59:59.5+01:00", "1990-12-31 23:59"),
            ("duration", "P1Y2M3DT4H", "P"),
            ("email", "ann@example.org", "ann@"),
            ("hostname", "a-b.example", "-a.example"),
            ("ipv4", "127.0.0.1", "127.0.0.256"),
            ("ipv6", "::1", "1::2::3"),
            ("uri", "https://example.org/a?b#c", "no uri"),
            ("uuid", "2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2eb8aa08"),
            ("json-pointer", "/a~1b", "a"),
            ("regex", "a+", "a("),
        )
    ),
]
"""A schema without ``$schema``, a value that it allows and one that it does not."""


@pytest.mark.parametrize(("schema", "right", "wrong"), KEYWORDS)
def test_every_keyword_is_checked_though_no_draft_is_named(schema: dict[str, object], right: str, wrong: str) -> None:
    assert [json_schema.verify(text, {"schema": schema}).score for text in (right, wrong)] == [1, 0]
    assert json_schema.verify(wrong, {"schema": schema}).status == "scored"


def test_an_unknown_format_is_of_no_account() -> None:
    assert json_schema.verify('"x"', {"schema": {"format": "no-such-format"}}).score == 1


REFERENCES = [
    ({"age": 1}, '{"age": 1}', 1),
    ({"age": 1}, '{"age": 1.0, "more": true}', 1),
    ('{"age": 1}', '{"age": 1}', 1),
    ({"age": 1}, '{"age": 2}', 0),
    ({"age": 1}, '{"age": true}', 0),
    ({"age": True}, '{"age": 1}', 0),
    ({"age": 0}, '{"age": false}', 0),
    ({"age": "1"}, '{"age": 1}', 0),
    ({"age": None}, "{}", 0),
    ({"a": {"b": [1, 2]}}, '{"a": {"b": [1, 2]}}', 1),
    ({"a": {"b": [1, 2]}}, '{"a": {"b": [2, 1]}}', 0),
    ({"a": {"b": 1}}, '{"a": {"b": 1, "c": 2}}', 0),
    ({"a": 1}, "[1]", 0),
    ([1, 2], "[1, 2]", 1),
    ([1, 2], "[1, 2, 3]", 0),
    (10**30, str(10**30 + 1), 0),
]


@pytest.mark.parametrize(("reference", "completion", "score"), REFERENCES)
def test_the_references_fields_must_have_equal_values(reference: object, completion: str, score: int) -> None:
    assert json_schema.verify(completion, {"schema": {}, "reference": reference}).score == score


def test_a_reference_that_is_not_json_is_not_gradable() -> None:
    assert json_schema.verify("{}", {"schema": {}, "reference": "{'a': 1}"}).status == "not_gradable"


def test_a_huge_integer_is_wrong_and_does_not_leave_the_mean() -> None:
    verdict = json_schema.verify("9" * 400, {"schema": {"multipleOf": 0.1}})
    assert (verdict.score, verdict.status) == (0, "scored")


def test_time_is_linear_in_hostile_json() -> None:
    mixed = json.dumps([1, "x", {}, *({"k": number} for number in range(7000))])
    start = time.perf_counter()
    assert json_schema.verify(json.dumps({"age": 1, "name": "a" * 50_000 + "!"}), {"schema": PERSON}).score == 0
    assert json_schema.verify(mixed, {"schema": {"uniqueItems": True}}).score == 1
    assert json_schema.verify("```\n" + "`` " * 30_000, {"schema": {}}).status == "no_answer"
    assert time.perf_counter() - start < 5


def _operation(sign: str) -> dict[str, object]:
    sides = {"op": {"const": sign}, "l": {"$ref": "#/$defs/e"}, "r": {"$ref": "#/$defs/e"}}
    return {"type": "object", "properties": sides, "required": ["op", "l", "r"], "additionalProperties": False}


@pytest.mark.parametrize("union", ["oneOf", "anyOf"])
def test_a_tagged_union_that_contains_itself_takes_time_by_its_size(union: str) -> None:
    schema = {"$defs": {"e": {union: [{"type": "number"}, *map(_operation, "+-*/")]}}, "$ref": "#/$defs/e"}
    start = time.perf_counter()
    for left, right in (('{"op":"+","r":1,"l":', "}"), ('{"op":"/","l":', ',"r":{"op":"*","l":2,"r":3}}')):
        sums = left * 30 + "1" + right * 30
        assert json_schema.verify(sums, {"schema": schema}).score == 1
        verdict = json_schema.verify(sums.replace("1", "null"), {"schema": schema})
        assert (verdict.score, verdict.status) == (0, "scored")
        assert "not valid" in verdict.reason
    assert time.perf_counter() - start < 5


def test_a_verdict_is_not_remembered_for_another_value() -> None:
    schema = {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 2}}, "$ref": "#/$defs/n"}
    for completion, score in (("[[],[]]", 1), ("[[],[],[]]", 0), ("[[],[1]]", 0), ("[[[]]]", 1)) * 2:
        assert json_schema.verify(completion, {"schema": schema}).score == score


def test_numbers_with_one_hash_are_compared_in_linear_time() -> None:
    items = ",".join(str(number * (2**61 - 1)) for number in range(4000))
    start = time.perf_counter()
    assert json_schema.verify(f"[{items}]", {"schema": {"uniqueItems": True}}).score == 1
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("items", "score"), [("[1, true, 0, false]", 1), ("[1, 1.0]", 0), ("[{}, {}]", 0), ("[[1], 1]", 1)]
)
def test_items_are_unique_by_value(items: str, score: int) -> None:
    assert json_schema.verify(items, {"schema": {"uniqueItems": True}}).score == score


def test_a_schema_that_contains_itself_is_followed_as_deep_as_json_may_be() -> None:
    node = {"anyOf": [{"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}, {"type": "null"}]}
    completion = '{"x": ' * 30 + "null" + "}" * 30
    assert json_schema.verify(completion, {"schema": node}).score == 1
    assert json_schema.verify(completion.replace("null", "5"), {"schema": node}).score == 0


@given(VALUES)
def test_gold_is_right_and_corrupted_gold_is_not(value: object) -> None:
    row = {"schema": {}, "reference": {"field": value}}
    assert json_schema.verify(json.dumps({"field": value}), row).score == 1
    assert json_schema.verify(json.dumps({"field": [value, "other"]}), row).score == 0
    assert json_schema.verify(json.dumps({"other": value}), row).score == 0


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    assert json_schema.verify(text, {"schema": PERSON}).score in (0, 1)
