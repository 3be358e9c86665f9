"""Stages in real containers: hostile ones are confined, and killed ones leave nothing.

Needs a Docker engine and TUNESMITH_TEST_IMAGE, the name of a `train` image; .ci/engine makes both.
"""

import io
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import containers
import hostile_stage
import pytest
import yaml

from tunesmith.runtime import docker

ROOT = Path(__file__).parents[2]
ATTEMPTS = ["network", "write", "link", "allocate", "fork", "privileges", "fill"]
ATTEMPTS += ["secrets", "cache", "threads", "terminal", "sleep", "ignore", "leave", "say"]
LIMITS = {"memory": "256m", "cpus": 1.0, "pids": 64, "scratch": "16m", "shared_memory": "8m", "grace": 20}

pytestmark = pytest.mark.engine


class Hostile:
    """A project with one stage, tests/hostile_stage.py, and an output for each of its attempts."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "tunesmith", folder / "tunesmith", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "stages").mkdir()
        shutil.copy(hostile_stage.__file__, folder / "stages" / "hostile.py")
        shutil.copy(ROOT / "stages" / "fingerprint.py", folder / "stages")
        command = "exec python -m tunesmith.runtime hostile ${item}"
        body = {"cmd": command, "outs": [{"out/${item}.json": {"persist": True}}]}
        shutil.copy(hostile_stage.__file__, folder / "stages" / "train_hostile.py")
        training = {
            "cmd": "exec python -m tunesmith.runtime train_hostile checkpoints",
            "outs": [{"models/checkpoints": {"persist": True}}, {"out/checkpoints.json": {"persist": True}}],
        }
        stages = {"hostile": {"foreach": ATTEMPTS, "do": body}, "train_hostile": training}
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        self.limits = containers.runtime(digest, **LIMITS)
        self.write()
        (folder / "out").mkdir()
        (folder / "out" / "other.json").write_text("not yours")
        fingerprint = [sys.executable, "-m", "stages.fingerprint"]  # without it no stage runs
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"], fingerprint):
            subprocess.run(command, cwd=folder, check=True)

    def write(self, **changes: Any) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump({"runtime": self.limits | changes}))

    @contextmanager
    def params(self, **changes: Any) -> Iterator[None]:
        """While the block runs, these params are in params.yaml."""
        self.write(**changes)
        yield
        self.write()

    def command(self, attempt: str) -> list[str]:
        return [sys.executable, "-m", "tunesmith.runtime", "hostile", attempt]

    def run(self, attempt: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(attempt), cwd=self.folder, capture_output=True, text=True, check=False)

    def start(self, attempt: str) -> subprocess.Popen[str]:
        """The process of the stage's engine, once the stage has printed its first line."""
        process = subprocess.Popen(self.command(attempt), cwd=self.folder, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "sleeping\n"
        return process

    def result(self, attempt: str) -> Any:
        """What the attempt wrote to its output."""
        done = self.run(attempt)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((self.folder / "out" / f"{attempt}.json").read_text())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    return Hostile(tmp_path_factory.mktemp("hostile"), containers.image())


@pytest.fixture
def client() -> Iterator[Any]:
    with closing(docker.connect()) as engine:
        yield engine


@pytest.fixture(autouse=True)
def no_container_left(hostile: Hostile) -> Iterator[None]:
    yield
    containers.wait_until_removed(hostile.folder)


def test_a_stage_has_no_network(hostile: Hostile) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        (hostile.folder / "port").write_text(str(server.getsockname()[1]))
        assert hostile.result("network") == {"refused": True, "interfaces": ["lo"]}


def test_a_stage_writes_its_outputs_alone(hostile: Hostile) -> None:
    before = {path: path.stat().st_mtime_ns for path in hostile.folder.rglob("*") if path.is_file()}
    assert hostile.result("write") == dict.fromkeys(hostile_stage.FORBIDDEN, True)
    after = {path: path.stat().st_mtime_ns for path in hostile.folder.rglob("*") if path.is_file()}
    changed = {path.relative_to(hostile.folder).as_posix() for path in after if after[path] != before.get(path)}
    assert {path for path in changed if not path.startswith((".dvc/tmp/", "tunesmith/"))} <= {"out/write.json"}


def test_a_training_writes_its_own_checkpoints_and_nothing_but_plain_files_is_left_of_it(hostile: Hostile) -> None:
    folder = hostile.folder / "build" / "checkpoints"
    for place in ("host/checkpoints", "container/other"):
        (folder / place).mkdir(parents=True)
    command = [sys.executable, "-m", "tunesmith.runtime", "train_hostile", "checkpoints"]
    done = subprocess.run(command, cwd=hostile.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((hostile.folder / "out" / "checkpoints.json").read_text())
    assert [place for place, refused in result.items() if not refused] == ["container/checkpoints/own", "lock"]
    assert "2 entries were no plain files" in done.stderr
    assert sorted(path.name for path in (folder / "container" / "checkpoints").iterdir()) == [".lock", "own"]


def test_a_stage_reads_no_file_that_may_hold_passwords(hostile: Hostile) -> None:
    for name in (".env", ".dvc/config.local"):
        (hostile.folder / name).write_text("[core]\n    site_cache_dir = secret\n")
    try:
        assert set(hostile.result("secrets").values()) == {""}
    finally:
        for name in (".env", ".dvc/config.local"):
            (hostile.folder / name).unlink()


def test_an_output_that_is_a_link_is_refused(hostile: Hostile) -> None:
    done = hostile.run("link")
    assert done.returncode == 1
    assert "out/link.json: the stage wrote a link" in done.stderr
    assert not (hostile.folder / "out" / "link.json").is_symlink()


def test_a_stage_over_its_memory_limit_ends_with_that_error(hostile: Hostile) -> None:
    done = hostile.run("allocate")
    assert done.returncode == 1
    assert "hostile@allocate was killed: it needed more memory than runtime.memory (256m) gives" in done.stderr


def test_a_stage_over_its_process_limit_ends_with_that_error(hostile: Hostile) -> None:
    done = hostile.run("fork")
    assert done.returncode == 1
    assert "more processes and threads than runtime.pids (64)" in done.stderr


def test_a_stage_reads_the_hubs_cache_and_cannot_write_it(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = hostile.folder.parent / "hub"
    hub.mkdir()
    (hub / "model").write_text("cached")
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    assert hostile.result("cache") == ["cached", True]


def test_an_image_without_python_is_an_error_and_leaves_no_container(hostile: Hostile, client: Any) -> None:
    base = docker.resolve(client, "tunesmith-base")  # Debian without Python
    with hostile.params(image=base):
        done = hostile.run("say")
    assert done.returncode == 1
    assert "the image has no Python where it should be" in done.stderr


def test_an_image_for_another_processor_is_an_error(hostile: Hostile, client: Any) -> None:
    config = json.dumps({"architecture": "s390x", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
    contents = json.dumps([{"Config": "config.json", "RepoTags": ["tunesmith-elsewhere:latest"], "Layers": []}])
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in (("config.json", config), ("manifest.json", contents)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    (image,) = client.images.load(archive.getvalue())
    with hostile.params(image=image.id):
        done = hostile.run("say")
    assert done.returncode == 1
    assert "is built for s390x; this engine runs" in done.stderr


def test_a_folder_that_the_container_cannot_write_is_an_error(hostile: Hostile) -> None:
    if os.getuid() == 0:
        pytest.skip("NOT TESTED: a folder that its user cannot write, since root writes everywhere")
    out = hostile.folder / "out"
    out.chmod(0o555)
    try:
        done = hostile.run("say")
    finally:
        out.chmod(0o755)
    assert done.returncode == 1
    assert str(out) in done.stderr
    assert "fix: " in done.stderr


def test_a_gpu_that_the_engine_does_not_have_is_an_error(hostile: Hostile) -> None:
    with hostile.params(gpus=["none-such"]):
        done = hostile.run("say")
    assert done.returncode == 1
    assert "error: the Docker engine" in done.stderr
    assert "none-such" in done.stderr or "has no GPU driver" in done.stderr


def test_a_stage_with_a_full_scratch_disk_ends_with_that_error(hostile: Hostile) -> None:
    done = hostile.run("fill")
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "hostile@fill failed with /tmp full: runtime.scratch is 16m" in done.stderr


def test_a_stage_has_the_callers_user_and_no_privilege_to_gain(hostile: Hostile) -> None:
    refused = hostile.result("privileges")
    assert refused.pop("capabilities") == ["0000000000000000"] * 5
    assert refused.pop("no_new_privileges") == "1"
    assert refused.pop("user")[:2] == [os.getuid(), os.getgid()]
    if os.getuid() == 0:
        refused.pop("setuid")
    assert all(refused.values()), refused
    written = (hostile.folder / "out" / "privileges.json").stat()
    assert (written.st_uid, written.st_gid) == (os.getuid(), os.getgid())


def test_threads_follow_the_quota(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):  # which the caller may choose instead
        monkeypatch.delenv(name, raising=False)
    assert hostile.result("threads") == {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "torch": 1}


def test_the_output_and_the_exit_status_of_a_stage_are_passed_on(hostile: Hostile) -> None:
    done = hostile.run("say")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_process_left_running_ends_with_the_stage(hostile: Hostile) -> None:
    assert hostile.result("leave") == {}


def test_the_callers_terminal_is_the_stages(hostile: Hostile) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(hostile.command("terminal"), cwd=hostile.folder, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert process.wait() == 0
    os.close(ours)
    result = json.loads((hostile.folder / "out" / "terminal.json").read_text())
    assert result["terminal"]
    assert len(result["size"]) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_engine_leaves_no_container(hostile: Hostile, number: int) -> None:
    with hostile.start("sleep") as process:
        assert len(containers.of(hostile.folder)) == 1
        process.send_signal(number)
    containers.wait_until_removed(hostile.folder)


def test_an_interrupt_reaches_the_stage_and_lets_it_end_by_itself(hostile: Hostile) -> None:
    with hostile.start("sleep") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert not containers.of(hostile.folder)


def test_an_interrupted_stage_that_outlives_its_grace_period_counts_as_interrupted(hostile: Hostile) -> None:
    with hostile.params(grace=0.5), hostile.start("ignore") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert not containers.of(hostile.folder)


def test_a_second_run_of_the_same_stage_is_refused_and_the_first_goes_on(hostile: Hostile) -> None:
    with hostile.start("sleep") as process:
        second = hostile.run("sleep")
        assert second.returncode == 1
        assert f"process {process.pid} is writing it" in second.stderr
        assert len(containers.of(hostile.folder)) == 1
        process.kill()
