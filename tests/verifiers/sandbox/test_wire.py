import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers.sandbox import wire

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
hashable = st.recursive(scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(hashable, max_size=3)
        | st.dictionaries(hashable, inner, max_size=3)
    ),
    max_leaves=10,
)


@given(values)
def test_plain_values_arrive_unchanged(value: object) -> None:
    received = wire.value(wire.parse(wire.dump(wire.tree(value))))
    assert repr(sorted_sets(received)) == repr(sorted_sets(value))


def sorted_sets(value: object) -> object:
    """Replace sets by sorted lists, since equal sets may print differently."""
    match value:
        case set() | frozenset():
            return [type(value), sorted(map(repr, map(sorted_sets, value)))]
        case dict():
            return {"dict": [(sorted_sets(key), sorted_sets(item)) for key, item in value.items()]}
        case list() | tuple():
            return [type(value), *map(sorted_sets, value)]
    return value


class Number(int):
    pass


@pytest.mark.parametrize("value", [object(), Number(1), Counter("a"), iter([]), len, 1j, bytearray(1), ..., int])
def test_values_of_other_types_cannot_be_sent(value: object) -> None:
    with pytest.raises(wire.WireError):
        wire.tree([value])


@pytest.mark.parametrize(("value", "base"), [(Number(1), 1), (Counter("aa"), {"a": 2}), ([Number(2)], [2])])
def test_an_instance_of_a_subclass_is_sent_as_its_base_unless_it_must_be_exact(value: object, base: object) -> None:
    tree = wire.tree(value, exact=False)
    assert (wire.value(tree), repr(wire.value(tree))) == (base, repr(base))


NOT_VALUES = [
    b"", b"{", b"\xff", b"[" * 100_000, b"{}", b'{"list":[]}', b'{"dict":[[1]]}', b'{"dict":[1]}', b'{"set":1}',
    b'{"bytes":"0"}', b'{"bytes":[]}', b'{"set":[],"tuple":[]}', b"9" * 5000, b"[" * 60 + b"]" * 60,
    b'{"tuple":[{"x":1}]}', b"1 2",
]  # fmt: skip


@pytest.mark.parametrize("data", NOT_VALUES)
def test_text_that_is_not_a_value_is_an_error(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.parse(data)


def test_parsing_a_hostile_set_does_not_build_it() -> None:
    colliding = b'{"set":[%s]}' % b",".join(str(i * (2**61 - 1)).encode() for i in range(1, 40_000))
    began = time.monotonic()
    wire.parse(colliding)
    assert time.monotonic() - began < 1


def test_a_set_of_lists_is_an_error() -> None:
    with pytest.raises(wire.WireError):
        wire.value(wire.parse(b'{"set":[[]]}'))
