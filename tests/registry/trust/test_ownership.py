"""Only a trusted user's mark makes a registered model ours."""

from collections.abc import Callable
from pathlib import Path

import pytest
from registered_versions import NAME, SIGNING, folder, register, unprobed

from tunesmith.core.errors import IntegrityError, RegistryError, UntrustedError
from tunesmith.registry import ledger, promotion
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.trust import ownership
from tunesmith.registry.trust.chain import ENTRY_TAG, Entry

LEDGER = ledger.name_of(NAME)


@pytest.fixture
def registry(project: Path) -> Registry:
    return Registry()


def signed_by_a_stranger(registry: Registry, name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(Path.cwd() / "stranger"))
        ownership.create(registry, name, SIGNING)


def with_the_mark_of_another(registry: Registry, name: str) -> None:
    ownership.create(registry, "another", SIGNING)
    registry.create(name, registry.tags("another") or {})


SQUATTED: dict[str, Callable[[Registry, str], None]] = {
    "without a mark": lambda registry, name: registry.create(name, {}),
    "with the tag of an earlier release": lambda registry, name: registry.create(name, {"tunesmith": "yes"}),
    "with a text for a mark": lambda registry, name: registry.create(name, {"tunesmith.mark.0": "ours"}),
    "with half a mark": lambda registry, name: registry.create(
        name, {"tunesmith.mark.0": signatures.sign_text(ownership.mark_text(name), SIGNING)[:-1]}
    ),
    "with a mark over another text": lambda registry, name: registry.create(
        name, {"tunesmith.mark.0": signatures.sign_text(name, SIGNING)}
    ),
    "with the mark of another": with_the_mark_of_another,
    "signed by a stranger": signed_by_a_stranger,
}


@pytest.mark.parametrize("squat", SQUATTED.values(), ids=SQUATTED)
def test_a_ledger_that_somebody_else_created_first_is_refused_and_left_alone(
    registry: Registry, project: Path, squat: Callable[[Registry, str], None]
) -> None:
    squat(registry, LEDGER)
    before = registry.tags(LEDGER)
    with pytest.raises(IntegrityError, match=f"the history of {NAME} is not valid: {LEDGER} was made by somebody else"):
        register(registry, folder(project))
    assert registry.versions(NAME) == []
    assert registry.tags(LEDGER) == before


@pytest.mark.parametrize("squat", SQUATTED.values(), ids=SQUATTED)
def test_nothing_is_promoted_into_a_replaced_ledger(
    registry: Registry, project: Path, squat: Callable[[Registry, str], None]
) -> None:
    register(registry, folder(project))
    registry.client.delete_registered_model(LEDGER)
    squat(registry, LEDGER)
    with pytest.raises(IntegrityError, match=f"{LEDGER} was made by somebody else"):
        promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)
    assert registry.versions(LEDGER) == []
    assert registry.alias(NAME, "champion") is None


def test_a_strangers_mark_is_refused_with_the_key_and_how_to_trust_it(registry: Registry) -> None:
    signed_by_a_stranger(registry, "m")
    signatures.sign_text("makes the own key", SIGNING)
    with pytest.raises(UntrustedError, match=r"signed by the key .*\n  fix: .* signing\.trusted"):
        ownership.check(registry, "m", SIGNING)


def test_a_deleted_ledger_is_an_error_and_registering_starts_a_new_one(registry: Registry, project: Path) -> None:
    register(registry, folder(project))
    registry.client.delete_registered_model(LEDGER)
    with pytest.raises(IntegrityError, match=r"lacks the entry .*\n  fix: .*history --accept"):
        promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)
    ledger.accept(registry, NAME, "a new beginning", SIGNING)
    with pytest.raises(RegistryError, match=r"does not hold the registration of version 1.*\n  fix: register"):
        promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)
    register(registry, folder(project))
    assert promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed).version == "1"


@pytest.fixture
def unmarked(registry: Registry, project: Path) -> list[Entry]:
    """The history of a ledger of an earlier release, which has no mark."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ownership, "create", lambda registry, name, _: registry.create(name, {}))
        patch.setattr(ownership, "check", lambda *_: registry.tags(LEDGER) is not None)
        register(registry, folder(project))
        return [promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)]


def test_an_unmarked_history_of_an_earlier_release_is_kept_and_marked_by_registering(
    registry: Registry, project: Path, unmarked: list[Entry]
) -> None:
    with pytest.raises(IntegrityError, match=r"\n  fix: .* gets one when a model is registered again"):
        ledger.read(registry, NAME, SIGNING).verified(NAME)
    register(registry, folder(project, b"other"), "k2")
    assert ledger.read(registry, NAME, SIGNING).verified(NAME).moves == unmarked
    assert promotion.promote(registry, NAME, "2", signing=SIGNING, probe=unprobed).previous == "1"


@pytest.mark.parametrize("who", ["slipped in", "a stranger"])
def test_an_unmarked_history_with_an_entry_by_somebody_else_is_not_marked(
    registry: Registry, project: Path, unmarked: list[Entry], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    if who == "a stranger":
        monkeypatch.setenv("XDG_CONFIG_HOME", str(project / "another"))
    else:
        registry.add_version(LEDGER, registry.versions(NAME)[0], {ENTRY_TAG: "{}"}, who)
    with pytest.raises(IntegrityError, match="was made by somebody else, or by other means"):
        register(registry, folder(project, b"other"), "k2")
    assert registry.tags(LEDGER) == {}


def test_the_ledger_is_created_before_the_first_version_and_kept(registry: Registry, project: Path) -> None:
    assert not ownership.check(registry, LEDGER, SIGNING)
    register(registry, folder(project))
    before = registry.tags(LEDGER)
    assert ownership.check(registry, LEDGER, SIGNING)
    register(registry, folder(project, b"other"), "k2")
    assert registry.tags(LEDGER) == before
