"""The chain that promotions make, and what editing does to it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from versions_made import NAME, SIGNING

from tunesmith.core.errors import IntegrityError
from tunesmith.registry import ledger
from tunesmith.registry import signing as signatures
from tunesmith.registry.ledger import CHAMPION, ENTRY, SIGNATURE, Chain, Entry
from tunesmith.registry.registered_models import Version


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def entry(parent: Entry | None, version: str, nonce: str = "", kind: str = "promotion") -> Entry:
    told = dict.fromkeys(("model", "who", "when", "why", "evidence", "digest", "statement"), "x")
    return Entry(
        parent=parent.hash if parent else None,
        of=NAME,
        alias=CHAMPION,
        kind=kind,
        version=version,
        previous=parent.version if parent else None,
        nonce=nonce,
        **told,
    )


def stored(entries: list[Entry]) -> list[Version]:
    return [
        Version(str(number), "run", {ENTRY: one.text(), SIGNATURE: signatures.sign_text(one.text(), SIGNING)})
        for number, one in enumerate(entries, 1)
    ]


def fold(versions: list[Version]) -> Chain:
    return ledger.fold(NAME, versions, SIGNING)


@pytest.fixture
def three() -> list[Entry]:
    first = entry(None, "1")
    second = entry(first, "2")
    return [first, second, entry(second, "3")]


def test_a_chain_that_nobody_touched_is_whole(three: list[Entry]) -> None:
    assert fold(stored(three)) == Chain(three, [])


def test_of_entries_with_one_parent_the_first_counts_and_the_others_are_no_fault(three: list[Entry]) -> None:
    late = [entry(three[0], "4"), entry(None, "5")]
    assert fold(stored([three[0], three[1], *late, three[2]])) == Chain(three, [])


def test_the_same_entry_stored_twice_counts_once(three: list[Entry]) -> None:
    assert fold(stored([*three, three[2], three[0]])) == Chain(three, [])


def edited(versions: list[Version], number: int, **changes: str) -> list[Version]:
    version = versions[number]
    text = json.dumps(json.loads(version.tags[ENTRY]) | changes, sort_keys=True)
    return [*versions[:number], replace(version, tags=version.tags | {ENTRY: text}), *versions[number + 1 :]]


EDITS: dict[str, Callable[[list[Version]], list[Version]]] = {
    "another version": lambda versions: edited(versions, 1, version="9"),
    "another author of the last": lambda versions: edited(versions, 2, who="nobody"),
    "taken out": lambda versions: [versions[0], versions[2]],
    "the first taken out": lambda versions: versions[1:],
    "swapped": lambda versions: [versions[1], versions[0], versions[2]],
    "no signature": lambda versions: [*versions[:2], replace(versions[2], tags={ENTRY: versions[2].tags[ENTRY]})],
    "another's signature": lambda versions: [
        *versions[:2],
        replace(versions[2], tags=versions[2].tags | {SIGNATURE: versions[1].tags[SIGNATURE]}),
    ],
    "no entry": lambda versions: [*versions, Version("4", "run", {})],
    "no JSON": lambda versions: [*versions, Version("4", "run", {ENTRY: "champion: 7", SIGNATURE: ""})],
    "a list": lambda versions: [*versions, Version("4", "run", {ENTRY: "[]", SIGNATURE: ""})],
    "nested without end": lambda versions: [*versions, Version("4", "run", {ENTRY: "[" * 90_000, SIGNATURE: ""})],
    "a field more": lambda versions: edited(versions, 2, more="x"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_is_detected(three: list[Entry], edit: Callable[[list[Version]], list[Version]]) -> None:
    chain = fold(edit(stored(three)))
    assert chain.faults
    with pytest.raises(IntegrityError, match="the history of calculator does not hold"):
        chain.sound(NAME)


def test_an_entry_signed_by_a_stranger_is_detected(
    three: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = stored(three)
    signatures.sign_text("makes the key", SIGNING)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "stranger"))
    forged = stored([entry(three[2], "7")])[0]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    chain = fold([*versions, replace(forged, number="4")])
    assert [("not trusted here" in fault) for fault in chain.faults] == [True]
    assert chain.entries == three
    with pytest.raises(IntegrityError, match=r"\n  fix: .* signing\.trusted"):
        chain.sound(NAME)


def test_an_entry_of_another_model_is_detected(three: list[Entry]) -> None:
    chain = fold(stored([*three, replace(entry(three[2], "4"), of="another")]))
    assert "another history" in chain.faults[0]


def test_a_rollback_returns_to_another_version_than_the_one_in_force(three: list[Entry]) -> None:
    again = entry(three[1], "2", "evaluated again")
    assert Chain([*three[:2], again]).before(CHAMPION) == three[0]
    to_itself = entry(again, "2", kind="rollback")  # as they once were
    assert Chain([*three[:2], again, to_itself]).before(CHAMPION) == three[0]
    third = entry(again, "3")
    assert Chain([*three[:2], again, third]).before(CHAMPION) == again
    assert Chain([*three[:2], again, third, entry(third, "2", kind="rollback")]).before(CHAMPION) == three[0]


def test_a_rollback_returns_to_what_stood_before_it(three: list[Entry]) -> None:
    back = entry(three[2], "2", kind="rollback")
    assert Chain(three).before(CHAMPION) == three[1]
    assert Chain([*three, back]).before(CHAMPION) == three[0]
    assert Chain([*three, back, entry(back, "4")]).before(CHAMPION) == three[1]
    assert Chain(three[:1]).before(CHAMPION) is None
    assert Chain(three).before("staging") is None
