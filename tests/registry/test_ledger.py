"""The chain of promotions: which entries count, and how every edit is detected."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from registered_versions import NAME, SIGNING

from tunesmith.core.errors import IntegrityError
from tunesmith.registry import signing as signatures
from tunesmith.registry.ledger import CHAMPION
from tunesmith.registry.registered_models import Version
from tunesmith.registry.trust import chain as chains
from tunesmith.registry.trust.chain import ENTRY_TAG, SIGNATURE_TAG, Chain, Entry


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def entry(parent: Entry | None, version: str, nonce: str = "", kind: chains.Move = "promotion") -> Entry:
    texts = dict.fromkeys(("model", "who", "when", "why", "evidence", "digest", "statement"), "x")
    return Entry(
        parent=parent.hash if parent else None,
        of=NAME,
        alias=CHAMPION,
        kind=kind,
        version=version,
        previous=parent.version if parent else None,
        nonce=nonce,
        **texts,
    )


def stored(entries: list[Entry]) -> list[Version]:
    return [
        Version(
            str(number),
            "run",
            {ENTRY_TAG: entry.text(), SIGNATURE_TAG: signatures.sign_text(entry.text(), SIGNING)},
            "",
        )
        for number, entry in enumerate(entries, 1)
    ]


def fold(versions: list[Version]) -> Chain:
    return chains.fold(NAME, versions, SIGNING)


@pytest.fixture
def three() -> list[Entry]:
    first = entry(None, "1")
    second = entry(first, "2")
    return [first, second, entry(second, "3")]


def test_an_unedited_chain_has_every_entry_and_no_fault(three: list[Entry]) -> None:
    assert fold(stored(three)) == Chain(three, [])


def test_of_entries_with_one_parent_the_first_counts_and_the_others_are_not_faults(three: list[Entry]) -> None:
    late = [entry(three[0], "4"), entry(None, "5")]
    assert fold(stored([three[0], three[1], *late, three[2]])) == Chain(three, [])


def test_the_same_entry_stored_twice_counts_once(three: list[Entry]) -> None:
    assert fold(stored([*three, three[2], three[0]])) == Chain(three, [])


def edited(versions: list[Version], number: int, **changes: str) -> list[Version]:
    version = versions[number]
    text = json.dumps(json.loads(version.tags[ENTRY_TAG]) | changes, sort_keys=True)
    return [*versions[:number], replace(version, tags=version.tags | {ENTRY_TAG: text}), *versions[number + 1 :]]


EDITS: dict[str, Callable[[list[Version]], list[Version]]] = {
    "another version": lambda versions: edited(versions, 1, version="9"),
    "another author of the last": lambda versions: edited(versions, 2, who="nobody"),
    "taken out": lambda versions: [versions[0], versions[2]],
    "the first taken out": lambda versions: versions[1:],
    "swapped": lambda versions: [versions[1], versions[0], versions[2]],
    "no signature": lambda versions: [
        *versions[:2],
        replace(versions[2], tags={ENTRY_TAG: versions[2].tags[ENTRY_TAG]}),
    ],
    "another's signature": lambda versions: [
        *versions[:2],
        replace(versions[2], tags=versions[2].tags | {SIGNATURE_TAG: versions[1].tags[SIGNATURE_TAG]}),
    ],
    "no entry": lambda versions: [*versions, Version("4", "run", {}, "")],
    "no JSON": lambda versions: [*versions, Version("4", "run", {ENTRY_TAG: "champion: 7", SIGNATURE_TAG: ""}, "")],
    "a list": lambda versions: [*versions, Version("4", "run", {ENTRY_TAG: "[]", SIGNATURE_TAG: ""}, "")],
    "nested without end": lambda versions: [
        *versions,
        Version("4", "run", {ENTRY_TAG: "[" * 90_000, SIGNATURE_TAG: ""}, ""),
    ],
    "a field more": lambda versions: edited(versions, 2, more="x"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_is_detected(three: list[Entry], edit: Callable[[list[Version]], list[Version]]) -> None:
    chain = fold(edit(stored(three)))
    assert chain.faults
    with pytest.raises(IntegrityError, match="the history of calculator is not valid"):
        chain.verified(NAME)


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
        chain.verified(NAME)


def test_an_entry_of_another_model_is_detected(three: list[Entry]) -> None:
    chain = fold(stored([*three, replace(entry(three[2], "4"), of="another")]))
    assert "another history" in chain.faults[0]


def test_a_rollback_returns_to_another_version_than_the_current_one(three: list[Entry]) -> None:
    again = entry(three[1], "2", "evaluated again")
    assert Chain([*three[:2], again]).rollback_target(CHAMPION) == three[0]
    to_itself = entry(again, "2", kind="rollback")  # as an earlier release wrote them
    assert Chain([*three[:2], again, to_itself]).rollback_target(CHAMPION) == three[0]
    third = entry(again, "3")
    assert Chain([*three[:2], again, third]).rollback_target(CHAMPION) == again
    assert Chain([*three[:2], again, third, entry(third, "2", kind="rollback")]).rollback_target(CHAMPION) == three[0]


def test_a_rollback_returns_to_the_promotion_before_the_current_one(three: list[Entry]) -> None:
    back = entry(three[2], "2", kind="rollback")
    assert Chain(three).rollback_target(CHAMPION) == three[1]
    assert Chain([*three, back]).rollback_target(CHAMPION) == three[0]
    assert Chain([*three, back, entry(back, "4")]).rollback_target(CHAMPION) == three[1]
    assert Chain(three[:1]).rollback_target(CHAMPION) is None
    assert Chain(three).rollback_target("staging") is None
