"""Promotions, rollbacks and their history, on a real SQLite registry."""

import contextlib
import itertools
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
from kill_points import kill_at_every_step
from mlflow.exceptions import MlflowException
from registered_versions import NAME, SIGNING, folder, overwrite, register, unprobed
from replays import Replays

from tunesmith.core.errors import IntegrityError, RegistryError, TunesmithError
from tunesmith.registry import ledger, promotion, versions
from tunesmith.registry.ledger import CHAMPION
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.trust import chain as chains
from tunesmith.registry.trust import known_history
from tunesmith.registry.trust.chain import Entry


def prepare(project: Path) -> None:
    register(Registry(), folder(project))


@pytest.fixture
def registry(replayed: Registry) -> Registry:
    """A registry with version 1, which passed the gate."""
    return replayed


@pytest.fixture
def project(replayed: Registry) -> Path:
    return Path.cwd()


def promote(registry: Registry, which: str, **options: Any) -> Entry:
    return promotion.promote(registry, NAME, which, **{"signing": SIGNING, "probe": unprobed} | options)


def rollback(registry: Registry, **options: Any) -> Entry:
    return promotion.rollback(registry, NAME, **{"signing": SIGNING, "probe": unprobed} | options)


def moves(registry: Registry) -> list[tuple[str | None, str, str]]:
    chain = ledger.read(registry, NAME, SIGNING)
    assert chain.faults == []
    return [(entry.previous, entry.version, entry.kind) for entry in chain.moves]


def add(registry: Registry, project: Path, number: int, **options: Any) -> str:
    """Register another version, compared with the current champion."""
    return register(registry, folder(project, b"%d" % number * 40), f"k{number}", **options)


def test_a_promotion_moves_the_alias_and_is_recorded(registry: Registry, project: Path) -> None:
    promote(registry, "sft-lora")
    add(registry, project, 2)
    entry = promote(registry, "2", reason="a second look")
    assert registry.alias(NAME, CHAMPION) == "2"
    assert moves(registry) == [(None, "1", "promotion"), ("1", "2", "promotion")]
    assert (entry.why, entry.evidence, entry.model) == ("a second look", "better by 36 points", "sft-lora")


def test_a_model_that_is_not_registered_cannot_be_promoted(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"no version 'dpo' .* registered: sft-lora \(version 1\)"):
        promote(registry, "dpo")


@pytest.mark.parametrize("outcome", ["fail", "undecided"])
def test_a_version_that_did_not_pass_the_gate_needs_a_reason(registry: Registry, project: Path, outcome: str) -> None:
    add(registry, project, 2, outcome=outcome)
    with pytest.raises(RegistryError, match="did not pass the gate: better by 36 points"):
        promote(registry, "2")
    assert promote(registry, "2", reason="needed for a test").why == "needed for a test"


def test_a_version_that_fails_a_new_evaluation_while_it_is_probed_is_not_promoted(
    registry: Registry, project: Path
) -> None:
    def fails_meanwhile(_: object) -> None:
        register(Registry(), folder(project), outcome="fail", files={"probes.json": "{}", "README.md": "# Worse"})

    with pytest.raises(RegistryError, match=r"was not promoted: it was evaluated again meanwhile\n  fix: "):
        promote(registry, "1", probe=fails_meanwhile)
    assert moves(registry) == []
    with pytest.raises(RegistryError, match="did not pass the gate"):
        promote(registry, "1")


def test_a_promotion_on_a_superseded_evaluation_is_a_fault_of_the_history(registry: Registry, project: Path) -> None:
    old = ledger.read(registry, NAME, SIGNING).entries[-1]
    register(registry, folder(project), outcome="fail", files={"probes.json": "{}", "README.md": "# Worse"})
    chain = ledger.read(registry, NAME, SIGNING)
    forged = chain.following(replace(old, alias=CHAMPION, kind="promotion"))
    with pytest.raises(IntegrityError, match="is about an evaluation that was not the version's last"):
        ledger.append(registry, forged, registry.versions(NAME)[0], SIGNING)


def test_another_signed_text_in_place_of_a_statement_changes_nothing(registry: Registry, project: Path) -> None:
    tags = registry.versions(ledger.name_of(NAME))[0].tags
    (evil := project / "evil").mkdir()
    (evil / "statement.json").write_text(tags[chains.ENTRY_TAG])
    (evil / "statement.sig").write_text(tags[chains.SIGNATURE_TAG])
    registry.upload(registry.versions(NAME)[0].run, evil, f"evidence/{'0' * 64}")
    assert promote(registry, "1").version == "1"
    registry.client.set_model_version_tag(NAME, "1", "tunesmith.statement", "0" * 64)
    with pytest.raises(IntegrityError):
        promote(registry, "1", alias="staging")


def test_a_pass_written_into_the_tags_does_not_count(registry: Registry, project: Path) -> None:
    add(registry, project, 2, outcome="fail")
    registry.client.set_model_version_tag(NAME, "2", "tunesmith.verdict", "pass")
    with pytest.raises(RegistryError, match="did not pass the gate"):
        promote(registry, "2")


def test_an_artifact_overwritten_through_the_tracker_is_not_promoted(registry: Registry, project: Path) -> None:
    overwrite(registry, registry.versions(NAME)[0], folder(project, b"other weights"))
    with pytest.raises(IntegrityError, match="changed after registration"):
        promote(registry, "1")
    assert registry.alias(NAME, CHAMPION) is None


def test_a_version_registered_by_hand_is_not_promoted(registry: Registry) -> None:
    registry.client.create_model_version(NAME, "somewhere", registry.versions(NAME)[0].run)
    with pytest.raises(RegistryError, match="not registered by this pipeline"):
        promote(registry, "2", reason="trust me")


def test_a_version_that_is_not_served_as_evaluated_is_not_promoted(registry: Registry) -> None:
    def fails(_: object) -> None:
        raise TunesmithError("it answers like the base", fix="f")

    with pytest.raises(TunesmithError, match="like the base"):
        promote(registry, "1", probe=fails)
    assert moves(registry) == []


def test_a_version_compared_before_the_champion_changed_must_be_compared_again(
    registry: Registry, project: Path
) -> None:
    add(registry, project, 2)
    promote(registry, "1")
    with pytest.raises(RegistryError, match=r"compared before .* made version 1 \(sft-lora\) the champion"):
        promote(registry, "2", reason="a reason does not replace the comparison")
    add(registry, project, 2)
    promote(registry, "2")
    assert moves(registry) == [(None, "1", "promotion"), ("1", "2", "promotion")]


@pytest.mark.parametrize("alias", ["latest", "v3", "", "a b", "@champion"])
def test_an_invalid_alias_is_refused_and_not_recorded(registry: Registry, alias: str) -> None:
    with pytest.raises(RegistryError, match="cannot be an alias"):
        promote(registry, "1", alias=alias)
    assert moves(registry) == []


def test_a_history_that_lost_its_last_entries_is_detected_without_a_memory(registry: Registry, project: Path) -> None:
    promote(registry, "1")
    add(registry, project, 2)
    for entry in ("3", "2"):
        registry.remove_version(ledger.name_of(NAME), entry)
    shutil.rmtree(known_history.FOLDER)
    with pytest.raises(IntegrityError, match="lacks the promotion that version 2 was registered after"):
        promote(registry, "2")


def test_the_signed_name_of_a_model_counts_and_not_its_tag(registry: Registry, project: Path) -> None:
    add(registry, project, 2)
    registry.client.set_model_version_tag(NAME, "2", "tunesmith.model", "dpo")
    with pytest.raises(IntegrityError, match="another model"):
        promote(registry, "dpo")
    registry.client.set_model_version_tag(NAME, "2", "tunesmith.model", "1")
    assert promote(registry, "1").version == "1"


def test_the_champion_is_not_promoted_twice(registry: Registry) -> None:
    promote(registry, "1")
    with pytest.raises(RegistryError, match="champion already"):
        promote(registry, "1")
    assert len(moves(registry)) == 1


def test_each_alias_has_its_own_history_and_rollback(registry: Registry, project: Path) -> None:
    add(registry, project, 2)
    promote(registry, "2", alias="staging")
    promote(registry, "1")
    promote(registry, "1", alias="staging")
    rollback(registry, alias="staging")
    assert (registry.alias(NAME, "staging"), registry.alias(NAME, CHAMPION)) == ("2", "1")


def test_successive_rollbacks_go_further_back_and_not_in_circles(registry: Registry, project: Path) -> None:
    for number in (1, 2, 3):
        if number > 1:
            add(registry, project, number)
        promote(registry, str(number))
    rollback(registry)
    assert rollback(registry, reason="worse on Mondays").why == "worse on Mondays"
    assert registry.alias(NAME, CHAMPION) == "1"
    assert moves(registry)[3:] == [("3", "2", "rollback"), ("2", "1", "rollback")]
    with pytest.raises(RegistryError, match="no champion before"):
        rollback(registry)
    add(registry, project, 4)
    promote(registry, "4")
    rollback(registry)
    assert registry.alias(NAME, CHAMPION) == "1"


def test_a_version_that_was_promoted_twice_is_rolled_back_by_one_rollback(registry: Registry, project: Path) -> None:
    promote(registry, "1")
    add(registry, project, 2)
    promote(registry, "2")
    assert add(registry, project, 2) == "2"
    promote(registry, "2")
    rollback(registry)
    assert moves(registry)[2:] == [("2", "2", "promotion"), ("2", "1", "rollback")]


def test_a_rollback_to_the_same_version_by_an_earlier_release_is_not_taken_for_an_interrupted_one(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(registry, "1")
    add(registry, project, 2)
    second = promote(registry, "2")
    with monkeypatch.context() as patch:
        patch.setattr(chains.Chain, "rollback_target", lambda *_: second)
        rollback(registry)
    assert moves(registry)[2:] == [("2", "2", "rollback")]
    assert rollback(registry).version == "1"


def test_a_completed_rollback_says_that_it_went_no_further(
    registry: Registry, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in ("1", "2", "3"):
        if number > "1":
            add(registry, project, int(number))
        promote(registry, number)
    rollback(registry)
    assert "note: this only" not in capsys.readouterr().err
    registry.move_alias(NAME, CHAMPION, "3")
    assert rollback(registry).version == "2"
    assert "only completed the rollback to version 2" in (message := capsys.readouterr().err)
    assert "to go back further, run it again" in message
    assert rollback(registry).version == "1"


def test_a_rollback_checks_the_bytes(registry: Registry, project: Path) -> None:
    promote(registry, "1")
    add(registry, project, 2)
    promote(registry, "2")
    [first] = [version for version in registry.versions(NAME) if version.number == "1"]
    overwrite(registry, first, folder(project, b"other weights"))
    with pytest.raises(IntegrityError):
        rollback(registry)
    assert registry.alias(NAME, CHAMPION) == "2"


def test_a_champion_whose_version_was_deleted_is_rolled_back_from_and_none_deleted_is_rolled_back_to(
    registry: Registry, project: Path
) -> None:
    for number in ("1", "2", "3"):
        if number > "1":
            add(registry, project, int(number))
        promote(registry, number)
    registry.remove_version(NAME, "3")
    with pytest.raises(RegistryError, match="version 3 of calculator, which @champion names, was deleted"):
        versions.choose(registry, NAME, "@champion", SIGNING)
    assert rollback(registry).version == "2"
    registry.remove_version(NAME, "1")
    with pytest.raises(RegistryError, match="no version '1'"):
        rollback(registry)
    assert registry.alias(NAME, CHAMPION) == "2"


def test_the_order_of_moves_is_that_of_the_chain_and_not_of_the_clock(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Earlier":
            return cls(1999, 1, 1, tzinfo=tz)

    add(registry, project, 2)
    promote(registry, "1")
    monkeypatch.setattr(chains, "datetime", Earlier)
    add(registry, project, 2)
    assert promote(registry, "2").when.startswith("1999")
    assert [version for _, version, _ in moves(registry)] == ["1", "2"]
    assert rollback(registry).version == "1"


def test_a_version_slipped_into_the_history_stops_everything_until_it_is_deleted(
    registry: Registry, project: Path
) -> None:
    promote(registry, "1")
    slipped_in = registry.add_version(ledger.name_of(NAME), registry.versions(NAME)[0], {}, "hello")
    for step in (lambda: promote(registry, "1"), lambda: rollback(registry), lambda: add(registry, project, 2)):
        with pytest.raises(IntegrityError, match=r"not an entry of Tunesmith\n  fix: .*delete the version"):
            step()
    registry.remove_version(ledger.name_of(NAME), slipped_in)
    assert promote(registry, add(registry, project, 2)).version == "2"


def test_an_alias_moved_by_other_means_does_not_count(registry: Registry, project: Path) -> None:
    promote(registry, "1")
    add(registry, project, 2)
    registry.move_alias(NAME, CHAMPION, "2")
    assert promote(registry, "1").version == "1"
    assert registry.alias(NAME, CHAMPION) == "1"
    assert len(moves(registry)) == 1


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize("backwards", [False, True])
def test_a_move_killed_anywhere_is_recorded_once_and_completes_when_run_again(
    tmp_path: Path, schema: Path, backwards: bool
) -> None:
    def start(place: Path) -> Callable[[Any], None]:
        registry = Registry()
        register(registry, folder(place))
        if not backwards:
            return forward_to_one
        promote(registry, "1")
        add(registry, place, 2)
        promote(registry, "2")
        return back_to_one

    def forward_to_one(registry: Registry) -> None:
        if registry.alias(NAME, CHAMPION) != "1":  # otherwise it was killed after its last step
            promote(registry, "1")

    def back_to_one(registry: Registry) -> None:
        if registry.alias(NAME, CHAMPION) != "1":
            rollback(registry)

    def check(place: Path, registry: Registry, completed: bool) -> None:
        both = [(None, "1", "promotion"), ("1", "2", "promotion"), ("2", "1", "rollback")]
        actual, expected = moves(registry), both if backwards else both[:1]
        assert actual == expected if completed else actual in (expected[:-1], expected)
        if completed:
            assert registry.alias(NAME, CHAMPION) == "1"

    assert kill_at_every_step(tmp_path, schema, start, check) >= 3


class Failing:
    """A tracking client whose ``step``-th call succeeds on the server and raises an error here."""

    def __init__(self, client: Any, step: int) -> None:
        self.client, self.left = client, step

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                raise MlflowException("the connection was lost")
            return answer

        return call


@pytest.mark.usefixtures("replayed")
def test_a_rollback_with_a_failed_call_goes_back_one_version_when_run_again(tmp_path: Path, schema: Path) -> None:
    def prepare(place: Path) -> None:
        for number in (1, 2, 3):
            promote(Registry(), add(Registry(), place, number))

    failed, replays = 0, Replays(tmp_path, schema, prepare)
    for step in itertools.count(1):
        with replays.again() as registry:
            client = registry.client
            registry.client = failing = Failing(client, step)
            try:
                rollback(registry)
            except RegistryError as error:
                failed += 1
                completed = "is the champion now" in error.reason
                registry.client = client
                with contextlib.suppress(RegistryError):  # "the champion already"
                    promote(registry, "2") if completed else rollback(registry)
            registry.client = client
            assert [move for move in moves(registry) if move[2] == "rollback"] == [("3", "2", "rollback")]
            assert registry.alias(NAME, CHAMPION) == "2"
            if failing.left > 0:
                break
    assert failed


def test_of_concurrent_promotions_one_wins_and_the_errors_of_the_others_name_it(
    registry: Registry, project: Path
) -> None:
    numbers = [add(registry, project, number) for number in range(2, 8)]
    ready, refused = threading.Barrier(len(numbers)), []

    def race(number: str) -> None:
        own = Registry()
        try:
            promote(own, number, probe=lambda _: ready.wait())
        except RegistryError as error:
            refused.append(error.reason)

    threads = [threading.Thread(target=race, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [(_, winner, _)] = moves(registry)
    assert registry.alias(NAME, CHAMPION) == winner
    assert len(refused) == len(numbers) - 1
    assert all(f"made version {winner} (sft-lora) the champion" in reason for reason in refused)
