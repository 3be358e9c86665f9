"""A pipeline whose stages run in containers: the same bytes as without, and nothing left of a run that is killed.

Needs a Docker engine and TUNESMITH_TEST_IMAGE, the name of a `train` image; .ci/engine makes both.
"""

import json
import random
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import containers
import pytest
import warm_python
from pipeline_project import ONE, Project, running

from tunesmith.cli.doctor import project as health
from tunesmith.core import manifest
from tunesmith.registry.runs import KEY, Experiment

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def digest() -> str:
    return containers.image()


@pytest.fixture(scope="module")
def project(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a model that was trained on the host, by a Python whose libraries were imported already."""
    folder = tmp_path_factory.mktemp("contained") / "project"
    folder.mkdir()
    project = Project(folder, tiny_folder, ONE, warm_python.folder())
    project.repro("train_sft@tuned")
    project.environment["PATH"] = project.environment["PATH"].removeprefix(f"{warm_python.folder()}:")
    return project


def stale(project: Project) -> set[str]:
    """The stages that `dvc repro train_sft@tuned` would run next, params and code once read."""
    project.repro("fingerprint", "resolve_params")
    return running(project.run("dvc", "repro", "--dry", "train_sft@tuned"))


def adapter(project: Project) -> bytes:
    return (project.folder / "models" / "tuned" / "adapter_model.safetensors").read_bytes()


def test_a_container_trains_the_same_bytes_and_its_image_is_in_the_lineage(project: Project, digest: str) -> None:
    on_the_host = adapter(project)
    shutil.rmtree(project.folder / "models" / "tuned")
    project.put("runtime", containers.runtime(digest, network="host"))
    assert stale(project) == {"fetch_base", "train_sft@tuned"}  # another image is another result
    project.repro("--single-item", "train_sft@tuned")
    assert adapter(project) == on_the_host
    lineage = project.read("models/tuned/lineage.json")
    assert lineage["environment"]["image_digest"] == digest
    assert lineage["code"]["commit"] == project.run("git", "rev-parse", "HEAD").stdout.strip()


def test_limits_make_no_stage_stale(project: Project) -> None:
    before = stale(project)
    project.put("runtime.memory", "3g")
    project.put("runtime.pids", 999)
    assert stale(project) == before
    assert "train_sft@tuned" not in before


def test_a_training_killed_in_its_container_goes_on_from_a_checkpoint_and_is_one_run(
    project: Project, digest: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = containers.runtime(digest, network="host", mounts=[str(tiny_folder)], checkpoint_minutes=0.00001)
    project.put("runtime", limits)
    project.put("sft.tuned.epochs", 12)
    project.repro("train_sft@tuned")
    unbroken = adapter(project)
    project.repro("resolve_params")
    project.put("sft.tuned.probes", 3)  # the same weights
    checkpoints = project.folder / "build" / "checkpoints" / "container" / "tuned"
    with started(project) as process:
        deadline = time.monotonic() + 120
        while not any(checkpoints.glob("*/step-*")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
    wait_until_over(project)
    project.repro("train_sft@tuned")
    events = [json.loads(line) for line in (project.folder / "models/tuned/training.jsonl").read_text().splitlines()]
    assert "resume" in [event["event"] for event in events]
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(1, events[-1]["steps"] + 1))
    assert adapter(project) == unbroken
    assert not [path for path in checkpoints.iterdir() if path.is_dir()]
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    experiment = Experiment("fine-tuning")
    published = {run.data.tags[KEY]: run.info.status for run in experiment.client.search_runs([experiment.id])}
    assert set(published.values()) == {"FINISHED"}
    assert events[0]["key"] in published


def test_dvc_killed_at_random_points_leaves_no_container_and_completes_the_next_time(
    project: Project, digest: str, tiny_folder: Path
) -> None:
    project.put("runtime", containers.runtime(digest, network="host", mounts=[str(tiny_folder)]))
    project.repro("train_sft@tuned")  # the base too, in its container
    began = time.monotonic()
    whole, points, kills = 0.0, random.Random(7), 6
    for kill in range(kills + 1):
        project.put("sft.tuned.learning_rate", 0.05 + (kill + 1) / 100_000)  # something to do, and still learned
        before = adapter(project)
        if kill:  # somewhere in each sixth of a whole run
            kill_after(project, whole * (kill - points.random()) / kills, ("/bin/sh", "/bin/bash")[kill % 2])
            if health.data_versions(project.folder).level == "bad":  # DVC was writing its locks: see docs/failures.md
                (project.folder / health.LOCKS).unlink()
            manifest.verify(project.folder / "models" / "tuned")  # the last result stays, or the new one came, whole
        project.repro("train_sft@tuned")
        whole = whole or time.monotonic() - began
        assert adapter(project) != before
        assert not running(project.run("dvc", "repro", "--dry", "train_sft@tuned"))


def started(project: Project, shell: str = "/bin/sh") -> "subprocess.Popen[bytes]":
    """A process of `dvc repro`."""
    command, quiet = ["dvc", "repro", "train_sft@tuned"], subprocess.DEVNULL
    environment = project.environment | {"SHELL": shell}
    return subprocess.Popen(command, cwd=project.folder, env=environment, stdout=quiet, stderr=quiet)


def kill_after(project: Project, seconds: float, shell: str) -> None:
    """Start `dvc repro`, kill it after so many seconds, and wait until nothing of it runs."""
    with started(project, shell) as process:
        time.sleep(seconds)
        process.kill()
    wait_until_over(project)


def wait_until_over(project: Project) -> None:
    deadline = time.monotonic() + 60
    while left := stages_of(project.folder):  # which may yet start a container
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    containers.wait_until_removed(project.folder)


def stages_of(folder: Path) -> list[Path]:
    """The processes that run a stage of this project, here or in a container."""
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            command = (process / "cmdline").read_bytes()
            if (b"tunesmith.runtime" in command or b"stages." in command) and (process / "cwd").readlink() == folder:
                processes.append(process)
    return processes
