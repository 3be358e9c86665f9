"""The journal of a training in a container is published as that training and as no other.

The stage is played by the test, which writes to its staging folder; follower and tracker are real.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core import journal, layout
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import ContainerError
from tunesmith.registry import publishing
from tunesmith.registry.runs import KEY, Experiment
from tunesmith.runtime import container_journals
from tunesmith.runtime.staging import Staging

DPO = Stage("train_dpo", (), (Path("models/dpo"),), runs=True)
START: dict[str, Any] = {"method": "DPO with LoRA", "device": "cpu", "params": {"dpo": {"beta": 0.1}}}
VICTIM = "0123456789abcdef0123456789abcdef"
PARTIAL, DONE = Path("models/.dpo.partial") / journal.NAME, Path("models/dpo") / journal.NAME


@pytest.fixture
def staging(project: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    monkeypatch.setattr(container_journals, "POLL_SECONDS", 0.05)
    return Staging(project, DPO)


@pytest.fixture
def experiment(project: Path) -> Experiment:
    """An experiment with the run of another model, which was trained before."""
    experiment = Experiment("arithmetic")
    run = experiment.run(VICTIM, "sft-lora", 1, {})
    experiment.finish(run, "FINISHED", 2)
    return experiment


def runs(experiment: Experiment) -> dict[str, Any]:
    return {run.data.tags[KEY]: run for run in experiment.client.search_runs([experiment.id])}


def eventually(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def forge(path: Path, staging: Staging, **changes: Any) -> Path:
    """Write a journal as this run of the stage would, except for the changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = {"event": "start", "time": 1, "key": journal.key(staging.run, "dpo"), "model": "dpo"} | START | changes
    step = {"event": "step", "time": 2, "step": 1, "loss": 0.5}
    path.write_text(f"{json.dumps(start)}\n{json.dumps(step)}\n")
    return path


def end(path: Path) -> Path:
    """Append the last event to a journal."""
    with path.open("a") as file:
        file.write(json.dumps({"event": "end", "time": 3, "steps": 1, "seconds": 1.0}) + "\n")
    return path


def first_notes(staging: Staging, capsys: pytest.CaptureFixture[str]) -> str:
    """The first output while a stage runs; by then its journal is published or refused."""
    notes = ""
    with container_journals.followed(staging.folder, staging.outputs, staging.run):

        def has_notes() -> bool:
            nonlocal notes
            notes += capsys.readouterr().err
            return bool(notes)

        eventually(has_notes)
    return notes


def test_a_training_in_a_container_is_published_live_and_again_at_registration_as_one_run(
    staging: Staging, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(layout.RUN_VARIABLE, staging.run)  # as its container does
    place = staging.folder / PARTIAL
    place.parent.mkdir(parents=True)
    key = journal.key(staging.run, "dpo")
    with container_journals.followed(staging.folder, staging.outputs, staging.run), journal.Journal(place) as log:
        log.write("start", key="its own", model="dpo", **START)
        log.write("step", step=1, loss=0.5)
        eventually(lambda: key in runs(experiment) and runs(experiment)[key].data.metrics)
        assert runs(experiment)[key].info.status == "RUNNING"
        log.write("step", step=2, loss=0.25)
        log.write("end", steps=2, seconds=1.0)
        place.parent.rename(staging.folder / "models" / "dpo")
        eventually(lambda: runs(experiment)[key].info.status == "FINISHED")
    staging.publish()
    registered = publishing.publish_training(experiment, journal.read(Path(DONE)))
    assert runs(experiment).keys() == {VICTIM, key}
    run = runs(experiment)[key]
    assert (run.info.run_id, run.info.run_name) == (registered, "dpo")
    assert [m.value for m in experiment.client.get_metric_history(registered, "training/loss")] == [0.5, 0.25]
    assert run.data.params["dpo.beta"] == "0.1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": VICTIM}, f"its key is '{VICTIM}', and must be"),
        ({"model": "sft-lora"}, "its model is 'sft-lora', and must be 'dpo'"),
        ({"model": "sft-lora", "key": VICTIM}, "its model is 'sft-lora'"),
    ],
)
def test_a_journal_of_another_training_is_refused_with_a_note(
    changes: dict[str, str], message: str, staging: Staging, experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(staging.folder / PARTIAL, staging, **changes)
    assert f"note: the journal of dpo is refused: line 1: {message}" in first_notes(staging, capsys)
    assert runs(experiment).keys() == {VICTIM}
    assert runs(experiment)[VICTIM].data.metrics == {}


def link(staging: Staging, target: Path) -> None:
    (staging.folder / PARTIAL).parent.mkdir()
    (staging.folder / PARTIAL).symlink_to(target)


def link_above(staging: Staging, target: Path) -> None:
    (staging.folder / PARTIAL).parent.symlink_to(target.parent)


def link_at_the_top(staging: Staging, target: Path) -> None:
    (staging.folder / "models").rmdir()
    (staging.folder / "models").symlink_to(target.parents[1])


def pipe(staging: Staging, target: Path) -> None:
    (staging.folder / PARTIAL).parent.mkdir()
    os.mkfifo(staging.folder / PARTIAL)


def folder(staging: Staging, target: Path) -> None:
    (staging.folder / PARTIAL).mkdir(parents=True)


def socket(staging: Staging, target: Path) -> None:
    from socket import AF_UNIX
    from socket import socket as new_socket

    (staging.folder / PARTIAL).parent.mkdir()
    os.chdir((staging.folder / PARTIAL).parent)  # the address of a socket must be short
    with new_socket(AF_UNIX) as listening:
        listening.bind(journal.NAME)


@pytest.mark.parametrize("put", [link, link_above, link_at_the_top, pipe, folder, socket])
def test_a_journal_that_is_no_plain_file_or_lies_behind_a_link_is_not_read(
    put: Callable[[Staging, Path], None],
    staging: Staging,
    experiment: Experiment,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outside = forge(tmp_path_factory.mktemp("outside") / PARTIAL, staging)  # it would be published
    put(staging, outside)
    assert f"note: {PARTIAL} is refused: not a plain file" in first_notes(staging, capsys)
    assert runs(experiment).keys() == {VICTIM}


def test_a_training_that_turns_hostile_is_marked_as_failed(
    staging: Staging, experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    place, key = forge(staging.folder / PARTIAL, staging), journal.key(staging.run, "dpo")
    with container_journals.followed(staging.folder, staging.outputs, staging.run):
        eventually(lambda: key in runs(experiment) and runs(experiment)[key].data.metrics)
        with place.open("a") as file:
            file.write(json.dumps({"event": "start", "time": 1, "key": VICTIM, "model": "sft-lora"} | START) + "\n")
        eventually(lambda: runs(experiment)[key].info.status == "FAILED")
    assert "line 3: a journal begins with `start`, has no other" in capsys.readouterr().err
    assert runs(experiment)[VICTIM].data.metrics == {}


def test_nothing_is_published_of_what_reproduce_runs(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Any] = []
    monkeypatch.setattr(container_journals.journal_follower, "follow", lambda *journal: published.append(journal))
    monkeypatch.setenv(layout.RERUN_VARIABLE, "1")
    forge(staging.folder / PARTIAL, staging)
    with container_journals.followed(staging.folder, staging.outputs, staging.run):
        time.sleep(10 * container_journals.POLL_SECONDS)
    assert published == []


@pytest.mark.parametrize("changes", [{"key": VICTIM}, {"model": "sft-lora"}, {"time": 10**30}])
def test_a_model_whose_journal_is_not_of_this_run_is_not_moved(changes: dict[str, Any], staging: Staging) -> None:
    """Registration would publish that journal under the key that it names."""
    before = forge(DONE, staging).read_bytes()
    forge(staging.folder / DONE, staging, **changes)
    with pytest.raises(ContainerError, match="the journal of dpo is refused: line 1"):
        staging.publish()
    assert DONE.read_bytes() == before


def test_a_model_whose_journal_is_incomplete_is_not_moved(staging: Staging) -> None:
    """Registration needs the values of its first and its last event."""
    for content in ("", forge(staging.folder / DONE, staging).read_text()):
        (staging.folder / DONE).write_text(content)
        with pytest.raises(ContainerError, match=r"the journal of dpo is refused: .* stops before its `end`"):
            staging.publish()
    assert not DONE.exists()


def test_a_model_of_this_run_and_a_folder_without_a_journal_are_moved(staging: Staging) -> None:
    written = end(forge(staging.folder / DONE, staging)).read_bytes()
    staging.publish()
    assert DONE.read_bytes() == written
    (staging.folder / "models" / "dpo").mkdir(parents=True)
    staging.publish()
    assert not DONE.exists()


def test_every_model_of_every_run_has_its_own_key(staging: Staging) -> None:
    other = "12345678-1234-5678-1234-567812345678"
    keys = {journal.key(run, model) for run in (staging.run, other) for model in ("dpo", "grpo")}
    assert len(keys) == 4
    assert journal.key(staging.run, "dpo") == journal.key(staging.run, "dpo")
