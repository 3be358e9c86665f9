"""The tracker shows one run for a training: that of the last attempt, and none that is over is shown as running."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import RegistryError, UnreachableTrackerError
from tunesmith.registry import attempts
from tunesmith.registry.attempts import FOLDER, Running
from tunesmith.registry.runs import KEY, Experiment

INPUTS, OTHERS = "a" * 64, "b" * 64


@pytest.fixture
def experiment(project: Path) -> Experiment:
    (project / ".dvc").mkdir()
    return Experiment("arithmetic")


@contextmanager
def attempted(key: str, inputs: str | None = INPUTS, model: str = "dpo") -> Iterator[Running]:
    with attempts.recorded(Path.cwd(), model, key, inputs) as running:
        assert running is not None
        yield running


def killed(experiment: Experiment, key: str, inputs: str | None = INPUTS, status: str = "RUNNING") -> None:
    """An attempt that is over, whose publisher ended with it, or else left another status of its run."""
    with attempted(key, inputs):
        run = experiment.run(key, "dpo", 1, {})
    if status != "RUNNING":
        experiment.finish(run, status, 2)


def runs(experiment: Experiment) -> dict[str, str]:
    """The status of each run by its key."""
    return {run.data.tags[KEY]: run.info.status for run in experiment.client.search_runs([experiment.id])}


def records() -> list[str]:
    return sorted(path.name for path in FOLDER.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", ["RUNNING", "KILLED"])
def test_a_killed_attempt_has_no_run_once_another_on_the_same_inputs_is_published(
    experiment: Experiment, status: str
) -> None:
    killed(experiment, "k1", status=status)
    with attempted("k2") as running:
        experiment.run("k2", "dpo", 1, {})
        assert attempts.settle(experiment, "dpo", "k2")
        assert runs(experiment) == {"k2": "RUNNING"}
        running.end_well()
    assert records() == []


def test_no_run_is_deleted_that_finished_or_was_refused_or_is_of_another_model(experiment: Experiment) -> None:
    killed(experiment, "done", status="FINISHED")
    killed(experiment, "hostile", status="FAILED")
    experiment.run("not of dpo", "sft", 1, {})
    with attempted("not of dpo"):
        pass
    with attempted("k2"):
        assert attempts.settle(experiment, "dpo", "k2")
    assert runs(experiment) == {"done": "FINISHED", "hostile": "FAILED", "not of dpo": "RUNNING"}


def test_on_other_inputs_the_killed_run_stays_until_those_inputs_come_again(experiment: Experiment) -> None:
    killed(experiment, "k1")
    with attempted("k2", OTHERS):
        assert attempts.settle(experiment, "dpo", "k2")
        assert runs(experiment) == {"k1": "KILLED"}
    with attempted("k3"):
        attempts.settle(experiment, "dpo", "k3")
        assert runs(experiment) == {}


def test_once_the_model_is_trained_a_killed_run_on_other_inputs_stays_for_good(experiment: Experiment) -> None:
    """Its checkpoints are gone with it, so that a later training of those inputs is another."""
    killed(experiment, "k1")
    with attempted("k2", OTHERS) as running:
        attempts.settle(experiment, "dpo", "k2", ended=True)
        running.end_well()
    assert (runs(experiment), records()) == ({"k1": "KILLED"}, [])


@pytest.mark.parametrize("inputs", [None, INPUTS])
def test_attempts_on_unknown_inputs_supersede_none(experiment: Experiment, inputs: str | None) -> None:
    killed(experiment, "k1", inputs)
    with attempted("k2", None) as running:
        attempts.settle(experiment, "dpo", "k2")
        running.end_well()
    attempts.settle(experiment, "dpo")
    assert runs(experiment) == {"k1": "KILLED"}


def test_an_attempt_is_alive_as_long_as_its_process_or_its_publisher(experiment: Experiment) -> None:
    with attempted("k1") as first:
        experiment.run("k1", "dpo", 1, {})
        publisher = subprocess.Popen(["sleep", "600"], pass_fds=[first.lock])
    try:
        with attempted("k2"):
            assert not attempts.settle(experiment, "dpo", "k2")
            assert runs(experiment) == {"k1": "RUNNING"}
            publisher.kill()
            publisher.wait()
            assert attempts.settle(experiment, "dpo", "k2")
            assert runs(experiment) == {}
    finally:
        publisher.kill()


def test_what_no_publisher_could_delete_is_deleted_at_registration(experiment: Experiment) -> None:
    killed(experiment, "k1")
    killed(experiment, "k0", OTHERS)
    with attempted("k2") as running:
        running.end_well()
    assert records() == ["k0.open", "k1.superseded"]
    assert attempts.models() == ["dpo"]
    attempts.settle(experiment, "dpo")
    assert (runs(experiment), records()) == ({"k0": "KILLED"}, ["k0.open"])


def test_an_experiment_in_a_copy_supersedes_attempts_in_the_project(
    experiment: Experiment, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(experiment, "k1")
    copy = project / ".dvc" / "tmp" / "exps" / "tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with attempts.recorded(project, "dpo", "k2", INPUTS):
        attempts.settle(experiment, "dpo", "k2")
    assert runs(experiment) == {}


class Refusing:
    """A tracker whose every answer is an error."""

    def __init__(self, error: RegistryError) -> None:
        self.error = error

    def abandon(self, key: str, model: str, *, delete: bool) -> None:
        raise self.error


@pytest.mark.parametrize("kind", [RegistryError, UnreachableTrackerError])
def test_what_the_tracker_refuses_is_tried_again_another_time(project: Path, kind: type[RegistryError]) -> None:
    (project / ".dvc").mkdir()
    refusing: Any = Refusing(kind("no", fix="none"))
    with attempted("k1"):
        pass
    with attempted("k2"):
        if kind is UnreachableTrackerError:
            with pytest.raises(UnreachableTrackerError):
                attempts.settle(refusing, "dpo", "k2")
        else:
            attempts.settle(refusing, "dpo", "k2")
        assert records() == ["k1.open", "k2.open"]


def test_a_project_without_dvc_keeps_no_records(project: Path) -> None:
    with attempts.recorded(project, "dpo", "k1", None) as running:
        assert running is None
    assert attempts.models() == []
    assert not os.path.lexists(project / ".dvc")
