"""Engines that are absent, refuse or answer late, and interrupts. Real containers: test_containment.py."""

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from docker.errors import APIError, ImageNotFound, NotFound
from runtime_settings import DIGEST, STAGE, runtime, write_params

from tunesmith.core.errors import BusyError, ContainerError
from tunesmith.runtime import (
    docker,
)

ROOT = Path(__file__).parents[2]


class Interrupted:
    """A container that receives signals. obeys: the signals that end it."""

    def __init__(self, *obeys: str) -> None:
        self.obeys, self.signals, self.over = obeys, list[str](), threading.Event()

    def kill(self, number: str) -> None:
        self.signals.append(number)
        if number in self.obeys:
            self.over.set()

    def follow(self, grace: float) -> int:
        with docker._forwarding_interrupts(self, grace):
            os.kill(os.getpid(), signal.SIGINT)
            self.over.wait()
            return 137 if self.signals[-1] == "SIGKILL" else 130


def test_a_stage_that_ends_at_an_interrupt_keeps_its_exit_status() -> None:
    assert Interrupted("SIGINT").follow(60) == 130


@pytest.mark.parametrize(
    "obeys", [("SIGKILL",), ()], ids=["a stage that outlives its grace period", "an engine that does not answer"]
)
def test_an_interrupted_stage_that_goes_on_is_killed_and_counts_as_interrupted(obeys: tuple[str, ...]) -> None:
    container = Interrupted(*obeys)
    with pytest.raises(KeyboardInterrupt):
        container.follow(0.05)
    assert container.signals == list(docker.SIGNALS)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Fake:
    """A client of an engine that has one image, or raises what it is given."""

    def __init__(self, refusal: Exception | None = None, architecture: str = "amd64", **attributes: Any) -> None:
        self.refusal, self.architecture = refusal, architecture
        self.attributes = {"Id": DIGEST, "Architecture": "amd64", "RepoDigests": []} | attributes
        self.images = self.containers = self

    def get(self, name: str) -> "Fake":
        if name.startswith("tunesmith-"):
            raise NotFound("no such container")
        if name == "missing":
            raise ImageNotFound("missing", explanation="No such image: missing")
        return self

    @property
    def attrs(self) -> dict[str, Any]:
        return self.attributes

    def version(self) -> dict[str, str]:
        return {"Arch": self.architecture}

    def create(self, **arguments: Any) -> "Fake":
        assert self.refusal is not None
        raise self.refusal


def refusing(explanation: str) -> Fake:
    return Fake(APIError("400", explanation=explanation))


def test_the_error_of_an_absent_engine_names_its_address(dvc_project: Path) -> None:
    write_params(dvc_project, engine="docker", image=DIGEST)
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith.runtime", "train", "a"],
        cwd=dvc_project,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DOCKER_HOST": f"unix://{dvc_project}/none.sock"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no Docker engine answers at unix://{dvc_project}/none.sock")
    assert "Traceback" not in done.stderr


def test_the_error_of_a_missing_image_tells_how_to_get_it() -> None:
    with pytest.raises(ContainerError, match=r"has no image missing(.|\n)*docker pull missing"):
        docker.resolve(Fake(), "missing")


def test_an_image_for_another_processor_is_refused() -> None:
    with pytest.raises(ContainerError, match="is built for amd64; this engine runs arm64"):
        docker.resolve(Fake(architecture="arm64"), "mine")


def test_a_tag_is_refused_and_its_digest_named() -> None:
    with pytest.raises(ContainerError, match=f"is a tag(.|\n)*put its digest there: {DIGEST}"):
        docker.check_image(Fake(), "tunesmith:latest")


def test_the_digest_of_a_registry_is_preferred_to_the_engines_own() -> None:
    pulled = f"registry/tunesmith@{DIGEST}"
    assert docker.resolve(Fake(RepoDigests=[pulled]), "registry/tunesmith:1") == pulled
    assert docker.check_image(Fake(), pulled) == pulled


def test_of_the_digests_of_several_registries_the_one_of_the_name_is_taken() -> None:
    other, ours = f"elsewhere/tunesmith@{DIGEST}", f"registry/tunesmith@{DIGEST}"
    assert docker.resolve(Fake(RepoDigests=[other, ours]), "registry/tunesmith:1") == ours
    assert docker.resolve(Fake(RepoDigests=[other, ours]), "tunesmith") == other


@pytest.mark.parametrize(
    ("explanation", "message"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "the Docker engine has no GPU driver"),
        ("write /var/lib/docker/tmp: no space left on device", "the disk of the Docker engine is full"),
        ("invalid mount config: bind source path does not exist: /x", "the Docker engine does not see this folder"),
        ('exec: "python": executable file not found in $PATH', "the image has no Python where it should be"),
        ("could not find a network matching team: network team not found", "does not have the network"),
        ("network 3f2a not found", "does not have the network"),
        (
            'error mounting "/home/me/neural-networks/models" to rootfs: permission denied',
            "may not reach a folder of the project",
        ),
        ('invalid mount config for type "bind": stat /home/me: permission denied', "may not reach a folder"),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded", "has no GPU driver"),
        ("nvidia-container-cli: device error: 7: unknown device", "or not these GPUs"),
        ("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "does not take a limit"),
        ("Minimum memory limit allowed is 6MB", "does not take a limit"),
        ("something else", "the Docker engine refused: something else"),
    ],
)
def test_a_refusal_of_the_engine_is_explained_and_the_last_output_stays(
    explanation: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "connect", lambda: refusing(explanation))
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / "weights").write_text("before")
    with pytest.raises(ContainerError, match=message):
        docker.run(STAGE, runtime(), tmp_path)
    assert (tmp_path / "models" / "x" / "weights").read_text() == "before"


class Late(Fake):
    """An engine that answers ``call`` too late, when its container has written an output.

    sure: whether it can still tell that the container exists.
    """

    def __init__(self, call: str, *, sure: bool) -> None:
        super().__init__()
        self.call, self.sure, self.exists, self.over = call, sure, False, threading.Event()

    def get(self, name: str) -> "Fake":
        if not name.startswith("tunesmith-"):
            return self
        if self.exists and not self.sure:
            raise requests.ReadTimeout("Read timed out.")
        if not self.exists:
            raise NotFound("no such container")
        return self

    def remove(self, force: bool) -> None:
        self.exists = False

    def create(self, **arguments: Any) -> "Fake":
        (writable,) = (Path(mount["Source"]) for mount in arguments["mounts"] if not mount["ReadOnly"])
        (writable / "x").mkdir()
        (writable / "x" / "weights").write_text("after")
        self.exists = True
        return self._answer("create", self)

    def attach_socket(self, **_: Any) -> Any:
        return self._answer("attach", io.BytesIO())

    def wait(self, **_: Any) -> dict[str, int]:
        self.over.wait()
        return {"StatusCode": 0}

    def start(self) -> None:
        self._answer("start", None)

    def _answer(self, call: str, value: Any) -> Any:
        if call == self.call:
            raise requests.ReadTimeout("Read timed out.")
        return value


@pytest.mark.parametrize("call", ["create", "attach", "start"])
@pytest.mark.parametrize(
    ("sure", "message", "weights"),
    [
        (True, "the Docker engine answers too late: Read timed out", "after"),
        (False, r"the container tunesmith-train-x-\w+ may still be there, so none .* taken over", "before"),
    ],
)
def test_after_a_late_answer_outputs_move_only_when_the_container_is_gone(
    call: str, sure: bool, message: str, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(call, sure=sure)
    monkeypatch.setattr(docker, "connect", lambda: late)
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / "weights").write_text("before")
    with pytest.raises(ContainerError, match=message):
        docker.run(STAGE, runtime(), tmp_path)
    late.over.set()
    assert (tmp_path / "models" / "x" / "weights").read_text() == weights


def test_a_late_answer_about_an_image_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object) -> None:
        raise requests.ReadTimeout("Read timed out.")

    monkeypatch.setattr(Fake, "version", late)
    with pytest.raises(ContainerError, match="the Docker engine answers too late"):
        docker.resolve(Fake(), "mine")


def test_a_stage_that_is_already_running_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.core import files
    from tunesmith.runtime.staging import STAGING

    monkeypatch.setattr(docker, "connect", lambda: Fake())
    with files.only_writer(tmp_path / STAGING / STAGE.target), pytest.raises(BusyError, match="is writing it"):
        docker.run(STAGE, runtime(), tmp_path)
