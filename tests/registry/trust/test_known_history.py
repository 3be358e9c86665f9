"""A history cannot be rolled back in silence: what a tracker lost or got back is compared with what was seen before."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from registered_versions import NAME, SIGNING, fetch_version, folder, register, unprobed

from tunesmith.cli.main import main
from tunesmith.core.errors import IntegrityError, RegistryError, TunesmithError, UnreachableTrackerError, UntrustedError
from tunesmith.registry import ledger, promotion, versions
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment
from tunesmith.registry.signing import Key
from tunesmith.registry.trust import known_history
from tunesmith.registry.trust.chain import LOST_TAG, Entry, name_of
from tunesmith.registry.trust.known_history import Span
from tunesmith.registry.versions import STATEMENT_TAG

LEDGER = name_of(NAME)


def prepare(project: Path) -> None:
    registry = Registry()
    for number, content in (("1", b"weights"), ("2", b"other")):
        register(registry, folder(project, content), f"k{number}")
        promote(registry, number)


@pytest.fixture
def registry(replayed: Registry) -> Registry:
    """A registry with versions 1 and 2, the champion."""
    return replayed


@pytest.fixture
def project(replayed: Registry) -> Path:
    return Path.cwd()


def promote(registry: Registry, which: str, signing: Key = SIGNING) -> Entry:
    return promotion.promote(registry, NAME, which, signing=signing, probe=unprobed)


def restore_backup(registry: Registry, project: Path) -> None:
    """Put back the database as it was before the last promotion."""
    chain = ledger.read(registry, NAME, SIGNING)
    while registry.versions(LEDGER)[0].number != str(len(chain.entries) - 1):
        registry.remove_version(LEDGER, registry.versions(LEDGER)[0].number)
    registry.move_alias(NAME, "champion", "1")


def cut_off(registry: Registry, project: Path) -> None:
    registry.remove_version(LEDGER, registry.versions(LEDGER)[0].number)


def delete(registry: Registry, project: Path) -> None:
    registry.client.delete_registered_model(LEDGER)


def lose_the_winner(registry: Registry, project: Path) -> None:
    """Leave the entry that lost a race, and delete the one that won."""
    loser = promote_in_a_race(registry, project)
    winner = next(v for v in registry.versions(LEDGER) if LOST_TAG not in v.tags)
    registry.remove_version(LEDGER, winner.number)
    registry.client.delete_model_version_tag(LEDGER, loser, LOST_TAG)


def promote_in_a_race(registry: Registry, project: Path) -> str:
    """Promote two versions at once; return the number of the late entry."""
    for number in ("3", "4"):
        register(registry, folder(project, number.encode() * 50), f"k{number}")
    with pytest.raises(RegistryError, match="made version 3"):
        promotion.promote(registry, NAME, "4", signing=SIGNING, probe=lambda _: promote(Registry(), "3"))
    return registry.versions(LEDGER)[0].number


LOSSES: dict[str, Callable[[Registry, Path], None]] = {
    "an older database": restore_backup,
    "the last entry deleted": cut_off,
    "the ledger deleted": delete,
    "the winner of a race deleted": lose_the_winner,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_a_history_without_an_entry_seen_before_is_refused_until_it_is_accepted_with_a_reason(
    registry: Registry, project: Path, lose: Callable[[Registry, Path], None]
) -> None:
    lose(registry, project)
    with pytest.raises(IntegrityError, match=r"lacks the entry .*\n  fix: .*history --accept REASON"):
        promote(registry, "1")
    for command in (["history"], ["lineage", "@champion", "--verify"], ["promote", "1"]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1, command
        assert "lacks the entry" in done.output + str(done.exception)
    done = CliRunner().invoke(main, ["history", "--accept", "the disk of the tracker broke"])
    assert done.exit_code == 0, done.output
    assert "the disk of the tracker broke" in CliRunner().invoke(main, ["history"]).output
    ledger.read(registry, NAME, SIGNING).verified(NAME)
    with pytest.raises(RegistryError, match="no action is needed"):
        ledger.accept(registry, NAME, "again", SIGNING)


def test_a_project_that_moves_takes_its_memory_along(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(registry, project)
    moved = project.with_name("moved")
    shutil.copytree(project, moved)
    with monkeypatch.context() as patch:
        patch.chdir(moved)  # and back before the fixture leaves the project
        with pytest.raises(IntegrityError, match="lacks the entry"):
            ledger.read(Registry(), NAME, SIGNING).verified(NAME)


def test_a_history_copied_to_another_tracker_makes_no_version_there(
    registry: Registry, project: Path, schema: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries, tags = registry.versions(LEDGER), registry.tags(LEDGER)
    shutil.copy(schema, project / "another.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/another.db")
    another = Registry()
    run = Experiment("arithmetic").run("k", "sft-lora", 0, {})
    another.create(NAME, {})
    another.create(LEDGER, tags or {})
    for entry in reversed(entries):
        another.client.create_model_version(LEDGER, "x", run, tags=entry.tags)
    for which in ("@champion", "sft-lora"):
        with pytest.raises(RegistryError, match="was deleted"):
            versions.choose(another, NAME, which, SIGNING)


def test_a_history_that_is_not_valid_cannot_be_accepted(registry: Registry) -> None:
    registry.add_version(LEDGER, registry.versions(NAME)[0], {"tunesmith.entry": "{}"}, "slipped in")
    with pytest.raises(IntegrityError, match="not an entry of Tunesmith"):
        ledger.accept(registry, NAME, "why not", SIGNING)


def test_an_entry_that_lost_a_race_is_marked_and_shows_the_deletion_of_the_winner_anywhere(
    registry: Registry, project: Path
) -> None:
    loser = promote_in_a_race(registry, project)
    assert LOST_TAG in next(v.tags for v in registry.versions(LEDGER) if v.number == loser)
    assert ledger.read(registry, NAME, SIGNING).verified(NAME).head("champion").version == "3"
    registry.remove_version(LEDGER, str(int(loser) - 1))
    shutil.rmtree(project / known_history.FOLDER)
    with pytest.raises(IntegrityError, match="lost to an entry that was deleted"):
        ledger.read(registry, NAME, SIGNING).verified(NAME)


@pytest.mark.parametrize("by", ["name", "number"])
def test_an_old_statement_under_a_new_number_is_not_promoted(registry: Registry, by: str) -> None:
    old = registry.versions(NAME)[-1]
    registry.client.create_model_version(NAME, old.source, old.run, tags=dict(old.tags))
    if by == "name":
        with pytest.raises(RegistryError, match="version 2 is the champion already"):
            promote(registry, "sft-lora")
    else:
        with pytest.raises(IntegrityError, match="its statement is that of version 1"):
            promote(registry, "3")


def test_deleting_evidence_and_setting_the_tag_back_does_not_undo_a_failed_evaluation(
    registry: Registry, project: Path
) -> None:
    path = folder(project, b"third" * 50)
    register(registry, path, "k3")
    passed = registry.versions(NAME)[0]
    register(registry, path, "k3", outcome="fail")
    failed = registry.versions(NAME)[0].tags[STATEMENT_TAG]
    registry.tag_version(NAME, "3", STATEMENT_TAG, passed.tags[STATEMENT_TAG])
    shutil.rmtree(Path(registry.artifacts(passed.run), "evidence", failed))
    with pytest.raises(IntegrityError, match="evaluated again"):
        promote(registry, "3")


def test_the_newest_version_of_a_model_is_the_one_registered_last_and_not_another_where_it_was_deleted(
    registry: Registry, project: Path
) -> None:
    assert versions.choose(registry, NAME, "sft-lora", SIGNING).number == "2"
    registry.remove_version(NAME, "2")
    with pytest.raises(RegistryError, match="version 2 of calculator, which sft-lora names, was deleted"):
        versions.choose(registry, NAME, "sft-lora", SIGNING)


def test_a_version_that_the_history_does_not_hold_is_registered_again_before_it_is_promoted(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = ledger.read(registry, NAME, SIGNING)
    with monkeypatch.context() as patch:
        patch.setattr("tunesmith.registry.registration._record", lambda *_: chain)
        register(registry, folder(project, b"third"), "k3")
    with pytest.raises(RegistryError, match=r"does not hold the registration of version 3: .*\n  fix: register"):
        promote(registry, "3")
    (project / "into").mkdir()
    assert fetch_version(registry, registry.versions(NAME)[0], project / "into").claims["outcome"] == "pass"
    assert register(registry, folder(project, b"third"), "k3") == "3"
    assert promote(registry, "3").version == "3"


def test_a_teams_file_protects_a_machine_that_sees_the_tracker_for_the_first_time(
    registry: Registry, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    team = Key(history=project / "keys" / "history.json")
    register(registry, folder(project, b"third" * 50), "k3")
    promote(registry, "3", team)
    assert f"commit {team.history}" in capsys.readouterr().err
    cut_off(registry, project)
    shutil.rmtree(project / known_history.FOLDER)
    assert ledger.read(registry, NAME, SIGNING).faults == []
    shutil.rmtree(project / known_history.FOLDER)
    with pytest.raises(IntegrityError, match=r"lacks the entry .*history\.json remembers"):
        ledger.read(registry, NAME, team).verified(NAME)
    assert ledger.accept(registry, NAME, "we lost it", team) == [known_history.memory(), team.history]
    ledger.read(registry, NAME, team).verified(NAME)


def test_a_teams_file_counts_only_by_a_key_that_still_does(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    team = Key(history=project / "keys" / "history.json")
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "eve"))
        known_history.share(NAME, Span(None, None, 0), team)
        eve = Path(f"{signatures.own_key()}.pub")
    entry = ledger.read(registry, NAME, SIGNING).entries[-1].hash
    for withdrawn in ({"revoked": {eve: None}}, {"revoked": {eve: entry}}, {"retired": {eve: entry}}):
        with pytest.raises(UntrustedError, match=r"history\.json: signed by .*\n  fix: bring back one"):
            ledger.read(registry, NAME, team.model_copy(update=withdrawn))


def test_a_history_is_known_again_where_its_tracker_has_another_address(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger.read(registry, NAME, SIGNING).faults == []
    cut_off(registry, project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/../{project.name}/mlflow.db")
    with pytest.raises(IntegrityError, match="lacks the entry"):
        ledger.read(elsewhere := Registry(), NAME, SIGNING).verified(NAME)
    ledger.accept(elsewhere, NAME, "we lost it", SIGNING)
    ledger.read(elsewhere, NAME, SIGNING).verified(NAME)


def test_a_history_that_was_set_aside_does_not_come_back(registry: Registry) -> None:
    aside, _ = ledger.restart(registry, NAME, "somebody had the tracker", SIGNING)
    registry.rename(aside, LEDGER)
    with pytest.raises(IntegrityError, match=r"history that was set aside, as .* remembers\n  fix: find out who"):
        ledger.read(registry, NAME, SIGNING).verified(NAME)


def test_a_teams_file_that_was_edited_is_refused(registry: Registry, project: Path) -> None:
    team, another = (Key(history=project / "keys" / name) for name in ("history.json", "another.json"))
    chain = ledger.read(registry, NAME, SIGNING)
    known_history.share(NAME, chain.span, team)
    known_history.share("another", chain.span, another)
    assert ledger.read(registry, NAME, team).faults == []
    document = json.loads(team.history.read_text())
    earlier = json.dumps(document | {"text": document["text"].replace('"number": 4', '"number": 1')})
    for text in (earlier, "{", "[" * 90_000, '{"text": 1, "signature": 2}', another.history.read_text()):
        team.history.write_text(text)
        with pytest.raises(IntegrityError, match=r"history\.json: (not a signed memory|.* was signed|its signature)"):
            ledger.read(registry, NAME, team)


def test_a_memory_that_cannot_be_read_is_an_error_that_names_its_file(registry: Registry) -> None:
    known_history.memory().write_text("[")
    with pytest.raises(IntegrityError, match=r"histories\.json: not readable"):
        ledger.read(registry, NAME, SIGNING)


def test_a_project_that_cannot_be_written_to_remembers_elsewhere(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(project / "state"))
    monkeypatch.setattr("os.access", lambda *_: False)
    assert known_history.memory() == project / "state" / "tunesmith" / "histories.json"
    (project / "state").write_text("no folder")
    with pytest.raises(IntegrityError, match=r"cannot be remembered here: .*\n  fix: let XDG_STATE_HOME"):
        known_history.remember("tracker", NAME, Span(None, None, 1))


def test_whoever_promotes_learns_how_to_see_whether_it_counts_when_the_tracker_dies(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, folder(project, b"third" * 50), "k3")
    with monkeypatch.context() as patch:
        add = registry.add_version

        def dies(*args: object) -> None:
            add(*args)
            patch.setattr(registry, "versions", unreachable)
            unreachable()

        patch.setattr(registry, "add_version", dies)
        with pytest.raises(UnreachableTrackerError, match="may or may not be recorded") as caught:
            promote(registry, "3")
    shown = CliRunner().invoke(main, ["history"]).output
    entry = ledger.read(registry, NAME, SIGNING).head("champion")
    assert entry is not None
    assert entry.version == "3"
    assert f"shows the entry {entry.hash[:16]}" in caught.value.fix
    assert f"entry: {entry.hash[:16]}" in shown
    assert promote(registry, "3") == entry


def unreachable(*_: object) -> None:
    raise UnreachableTrackerError("the tracker is gone", fix="start it")


def test_a_refused_history_is_shown_before_the_reason(registry: Registry, project: Path) -> None:
    cut_off(registry, project)
    done = CliRunner().invoke(main, ["history"])
    assert "version 1 (sft-lora)" in done.output
    assert isinstance(done.exception, SystemExit | TunesmithError)
