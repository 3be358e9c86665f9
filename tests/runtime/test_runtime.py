"""Which engine runs a stage, with what; and what an engine that cannot says. Real containers: test_containment.py."""

import io
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import HostConfig

from tunesmith.core import journal, variables
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import BusyError, EngineError, ParamsError
from tunesmith.core.params import SECTIONS
from tunesmith.runtime import (
    container_init,
    container_options,
    docker,
    image,
    mounts,
    parent_watch,
    settings,
    stage_lookup,
)
from tunesmith.runtime.staging import Staging

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "a" * 64
GIVEN: dict[str, Any] = settings.Runtime().model_dump(mode="json")
STAGE = Stage("train@x", (), (Path("models/x"),), runs=True, command='exec python -m tunesmith.runtime train "x"')


def runtime(**changes: Any) -> settings.Runtime:
    return settings.Runtime.model_validate(GIVEN | {"engine": "docker", "image": DIGEST} | changes)


def params(folder: Path, **changes: Any) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({"runtime": GIVEN | changes}))
    return path


# Params.


def test_the_project_runs_on_the_host_as_any_does_that_says_nothing_else(tmp_path: Path) -> None:
    assert settings.read(ROOT / "params.yaml").engine == "host"
    (tmp_path / "params.yaml").write_text("sft: {}\n")
    assert settings.read(tmp_path / "params.yaml") == settings.Runtime()
    assert "runtime" in SECTIONS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "host", "image": DIGEST}, "engine host runs stages in no image"),
        ({"engine": "docker", "image": None}, "engine docker needs one"),
        ({"engine": "podman"}, "runtime.engine"),
        ({"memory": "lots"}, "runtime.memory"),
        ({"gpus": "some"}, "runtime.gpus"),
        ({"pids": 0}, "runtime.pids"),
        ({"cpus": 0}, "runtime.cpus"),
    ],
)
def test_params_that_cannot_be_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=message):
        settings.read(params(tmp_path, **changes))


def test_pinning_an_image_changes_one_value(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    before += "\nruntime: # where stages run\n  engine: docker\n  image: null # by digest\n  gpus: all\n"
    path.write_text(before)
    image.pin(DIGEST, path)
    after = path.read_text()
    assert yaml.safe_load(after)["runtime"] == {"engine": "docker", "image": DIGEST, "gpus": "all"}
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    ((old, new),) = changed
    assert old.split("#")[1] == new.split("#")[1]  # its comment stays


def test_pinning_an_image_adds_the_section_to_params_without_one(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    path.write_text(before)
    image.pin(DIGEST, path)
    assert path.read_text().startswith(before)
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(before) | {"runtime": {"image": DIGEST}}


def test_a_value_on_a_line_of_its_own_is_left_to_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"runtime:\n  image:\n    {DIGEST}\n")
    with pytest.raises(ParamsError, match="no line `image:`"):
        image.pin(DIGEST, path)


@pytest.mark.parametrize("line", ["image:", "image: ", "image:  # by digest", "image: null", "image: ''"])
def test_pinning_an_image_where_there_is_none_yet(line: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"runtime:\n  engine: docker\n  {line}\n  gpus: null\n")
    image.pin(DIGEST, path)
    assert yaml.safe_load(path.read_text())["runtime"] == {"engine": "docker", "image": DIGEST, "gpus": None}
    assert ("# by digest" in path.read_text()) is ("#" in line)


def test_pinning_where_there_is_no_line_for_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("runtime: {image: null}\nserve:\n  image: null\n")
    with pytest.raises(ParamsError, match="no line `image:`"):
        image.pin(DIGEST, path)


# The host.


def test_on_the_host_the_process_becomes_the_stage_with_threads_of_its_share(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "show.py").write_text(
        "import os, sys; print(os.environ['OMP_NUM_THREADS'], os.getpid(), sys.argv[1:]); sys.exit(3)"
    )
    params(tmp_path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP")}
    command = [sys.executable, "-m", "tunesmith.runtime", "show", "a b"]
    environment |= {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [0]); os.execv({command[0]!r}, {command!r})"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.communicate()[0] == f"1 {process.pid} ['a b']\n"
        assert process.returncode == 3


# What dvc.yaml says.


@pytest.fixture
def dvc_project(tmp_path: Path) -> Path:
    body = {"cmd": 'exec python -m tunesmith.runtime train "${item}"', "outs": [{"models/${item}": {"persist": True}}]}
    stages = {
        "train": {"foreach": ["a", "b"], "do": body},
        "fetch": {"cmd": "exec python -m tunesmith.runtime fetch", "outs": ["x"], "meta": {"network": True}},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def test_a_stage_is_found_by_its_command_with_its_outputs_and_its_network(dvc_project: Path) -> None:
    found = stage_lookup.find("train", ["b"], dvc_project)
    assert (found.target, found.outs, found.network) == ("train@b", (Path("models/b"),), False)
    assert stage_lookup.find("fetch", [], dvc_project).network


def test_a_stage_runs_in_its_container_as_its_module_with_its_arguments(dvc_project: Path) -> None:
    assert stage_lookup.module(stage_lookup.find("train", ["b"], dvc_project)) == ["stages.train", "b"]
    assert stage_lookup.module(stage_lookup.find("fetch", [], dvc_project)) == ["stages.fetch"]


def test_what_is_no_stage_does_not_run_in_a_container(dvc_project: Path) -> None:
    with pytest.raises(EngineError, match=r"no stage runs `exec python -m tunesmith.runtime train c`"):
        stage_lookup.find("train", ["c"], dvc_project)


# What the container is made with.


def container(folder: Path, stage: Stage = STAGE, **changes: Any) -> dict[str, Any]:
    return container_options.settings(stage, runtime(**changes), DIGEST, Staging(folder, stage))


def test_a_container_is_locked_down(tmp_path: Path) -> None:
    made = container(tmp_path, memory="2g", cpus=1.5)
    assert made["command"] == ["stages.train", "x"]
    assert made["read_only"] is True
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges"]
    assert made["network_mode"] == "none"
    assert (made["mem_limit"], made["memswap_limit"], made["nano_cpus"]) == ("2g", "2g", 1_500_000_000)
    assert made["user"] == f"{os.getuid()}:{os.getgid()}"
    assert [mount["Target"] for mount in made["mounts"] if not mount["ReadOnly"]] == [str(tmp_path / "models")]


@pytest.mark.parametrize(("links", "shown"), [("reflink,copy", False), ("hardlink,symlink", True)])
def test_dvcs_cache_elsewhere_is_seen_where_files_are_links_into_it(
    links: str, shown: bool, dvc_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("cache")
    for name, value in (("cache.dir", str(elsewhere)), ("cache.type", links)):
        subprocess.run([sys.executable, "-m", "dvc", "config", name, value], cwd=dvc_project, check=True)
    shown = {mount["Source"]: mount["ReadOnly"] for mount in container(dvc_project)["mounts"]}
    assert shown.get(str(elsewhere)) is (True if shown else None)
    named = container(dvc_project, mounts=[str(elsewhere)])["mounts"]
    assert [mount["Target"] for mount in named].count(str(elsewhere)) == 1  # an engine refuses two


def test_only_a_stage_that_declares_it_has_a_network_its_secrets_and_a_cache_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub").mkdir()
    alone = container(tmp_path)
    fetch = Stage("fetch", (), (Path("models/base"),), runs=True, command="exec python -m tunesmith.runtime fetch")
    online = container(tmp_path, replace(fetch, network=True), network="host")
    assert online["network_mode"] == "host"
    assert "HF_TOKEN" not in alone["environment"]
    assert online["environment"]["HF_TOKEN"] == "secret"
    cache = {"Type": "bind", "Source": str(tmp_path / "hub"), "Target": str(mounts.HUB_TARGET)}
    assert cache | {"ReadOnly": True} in alone["mounts"]
    assert cache | {"ReadOnly": False} in online["mounts"]
    assert alone["environment"]["HF_HUB_OFFLINE"] == "1"


def test_every_run_of_a_stage_has_a_name_of_its_own_for_its_journal(tmp_path: Path) -> None:
    names = [container(tmp_path)["environment"][variables.RUN] for _ in range(2)]
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("all", {"Count": -1}), (2, {"Count": 2}), (["0", "GPU-1"], {"DeviceIDs": ["0", "GPU-1"]})],
)
def test_gpus_are_asked_for_as_the_engine_expects(asked: Any, expected: dict[str, Any], tmp_path: Path) -> None:
    (request,) = HostConfig("1.41", device_requests=container(tmp_path, gpus=asked)["device_requests"])[
        "DeviceRequests"
    ]
    assert {key: request[key] for key in expected} == expected
    assert request["Capabilities"] == [["gpu"]]


def test_without_gpus_none_are_asked_for(tmp_path: Path) -> None:
    assert container(tmp_path)["device_requests"] == []


def test_a_mount_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"runtime\.mounts: relative"):
        container(tmp_path, mounts=["relative"])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (container_init.OUT_OF_MEMORY, r"needed more memory than runtime\.memory \(2g\)"),
        (container_init.OUT_OF_PIDS, r"more processes and threads than runtime\.pids \(4096\)"),
        (container_init.NOT_WRITABLE, "the container cannot write there"),
        (container_init.SCRATCH_FULL, r"/tmp full: runtime\.scratch is 2g"),
        (container_init.SHARED_MEMORY_FULL, r"/dev/shm full: runtime\.shared_memory is 1g"),
        (128 + signal.SIGKILL, "was ended by SIGKILL"),
        (128 + signal.SIGSEGV, "was ended by SIGSEGV"),
    ],
)
def test_a_status_that_the_stage_cannot_explain_is_put_into_words(status: int, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        container_options.check_status(status, STAGE, runtime(memory="2g"), Path("/project"))


def test_want_of_memory_without_a_limit_is_the_machines() -> None:
    with pytest.raises(EngineError, match="the machine ran out of memory"):
        container_options.check_status(container_init.OUT_OF_MEMORY, STAGE, runtime(memory=None), Path("/project"))


@pytest.mark.parametrize("status", [0, 1, 7, 128, 130])
def test_the_stages_own_status_is_passed_on(status: int) -> None:
    assert container_options.check_status(status, STAGE, runtime(), Path("/project")) == status


# Process 1.


def test_a_folder_that_cannot_be_written_is_told_before_the_stage_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(container_init.WRITABLE, '["/tmp", "/proc/sys/kernel"]')
    assert container_init.main(["/no/such/program"]) == container_init.NOT_WRITABLE


def test_what_the_image_compiled_is_where_triton_looks_and_can_be_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TRITON_HOME", raising=False)
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    made = tmp_path / "made"
    container_init.copy_triton_cache(made)
    assert list(tmp_path.iterdir()) == []
    (made / "key").mkdir(parents=True)
    (made / "key" / "cuda_utils.so").write_text("compiled")
    container_init.copy_triton_cache(made)
    cache = tmp_path / ".triton" / "cache"
    assert (cache / "key" / "cuda_utils.so").read_text() == "compiled"
    (cache / "kernel").mkdir()


@pytest.mark.parametrize(
    ("file", "content", "limit"),
    [
        ("memory.events", "low 0\noom 3\noom_kill 1\n", container_init.OUT_OF_MEMORY),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", container_init.OUT_OF_MEMORY),
        ("pids.events", "max 5\n", container_init.OUT_OF_PIDS),
        ("pids/pids.events", "max 1\n", container_init.OUT_OF_PIDS),
        ("pids.events", "max 0\n", None),
        ("memory.events", "oom 3\noom_kill 0\n", None),
    ],
)
def test_a_limit_that_struck_is_read_from_the_kernels_counters(
    file: str, content: str, limit: int | None, tmp_path: Path
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    assert [
        name for name, counters in container_init.COUNTERS.items() if container_init.is_counted(counters, tmp_path)
    ] == ([limit] if limit else [])


@pytest.mark.parametrize(
    ("free", "total", "limit"),
    [
        ({"/tmp": 0}, 2**31, container_init.SCRATCH_FULL),
        ({"/dev/shm": 4096}, 2**31, container_init.SHARED_MEMORY_FULL),
        ({"/tmp": 2**30, "/dev/shm": 2**30}, 2**31, None),
        ({"/dev/shm": 2**16}, 2**16, None),  # a small one, and empty
    ],
)
def test_a_full_disk_with_a_limit_of_its_own_is_named(
    free: dict[str, int], total: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_init, "COUNTERS", {})
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) in free)
    monkeypatch.setattr(
        container_init.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[str(path)], total=total)
    )
    assert container_init.exceeded_limit() == limit


# Interrupts, and whoever started it.


class Interrupted:
    """A container that is told to end. hears: whether it does."""

    def __init__(self, *hears: str) -> None:
        self.hears, self.told, self.over = hears, [], threading.Event()

    def kill(self, number: str) -> None:
        self.told.append(number)
        if number in self.hears:
            self.over.set()

    def follow(self, grace: float) -> int:
        with docker._forwarding_interrupts(self, grace):
            os.kill(os.getpid(), signal.SIGINT)
            self.over.wait()
            return 137 if self.told[-1] == "SIGKILL" else 130


def test_a_stage_that_ends_when_it_is_interrupted_says_itself_how() -> None:
    assert Interrupted("SIGINT").follow(60) == 130


@pytest.mark.parametrize(
    "hears", [("SIGKILL",), ()], ids=["a stage that does not end in its grace", "an engine that does not answer"]
)
def test_an_interrupt_ends_what_does_not_end_by_itself_and_is_no_want_of_memory(hears: tuple[str, ...]) -> None:
    container = Interrupted(*hears)
    with pytest.raises(KeyboardInterrupt):
        container.follow(0.05)
    assert container.told == list(docker.SIGNALS)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_dvc_itself_is_what_started_the_engine_in_any_shell(shell: str, dvc_project: Path) -> None:
    (dvc_project / "stages").mkdir()
    (dvc_project / "stages" / "fetch.py").write_text(
        "import os, pathlib; pathlib.Path('x').write_text(pathlib.Path(f'/proc/{os.getppid()}/cmdline').read_text())"
    )
    params(dvc_project)
    environment = os.environ | {"SHELL": shell, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dvc", "repro", "fetch"]
    subprocess.run(command, cwd=dvc_project, env=environment, check=True, capture_output=True)
    assert (dvc_project / "x").read_text().rstrip("\0").split("\0")[-4:] == command[-4:]


@pytest.mark.parametrize(
    ("stage", "group", "orphan"),
    [("fetch", "its own", False), ("fetch", "another", True), ("fetch", "none", True), (None, "another", False)],
)
def test_an_engine_whose_dvc_is_gone_before_it_came_here_is_an_orphan(
    stage: str | None, group: str, orphan: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if stage:
        monkeypatch.setenv("DVC_STAGE", stage)
    with subprocess.Popen(["sleep", "60"], start_new_session=group != "its own") as started:
        if group == "none":
            started.kill()
            started.wait()
        try:
            assert parent_watch.is_gone(started.pid) is orphan
        finally:
            started.kill()


# Engines that cannot.


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


def refusing(said: str) -> Fake:
    return Fake(APIError("400", explanation=said))


def test_no_engine_is_told_with_the_place_that_was_asked(dvc_project: Path) -> None:
    params(dvc_project, engine="docker", image=DIGEST)
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


def test_a_missing_image_is_told_with_how_to_get_one() -> None:
    with pytest.raises(EngineError, match=r"has no image missing(.|\n)*docker pull missing"):
        docker.resolve(Fake(), "missing")


def test_an_image_for_another_processor_is_refused() -> None:
    with pytest.raises(EngineError, match="is built for amd64; this engine runs arm64"):
        docker.resolve(Fake(architecture="arm64"), "mine")


def test_a_tag_is_refused_with_the_digest_it_means() -> None:
    with pytest.raises(EngineError, match=f"is a tag(.|\n)*put its digest there: {DIGEST}"):
        docker.check_image(Fake(), "tunesmith:latest")


def test_a_registrys_digest_goes_before_the_engines_own() -> None:
    pulled = f"registry/tunesmith@{DIGEST}"
    assert docker.resolve(Fake(RepoDigests=[pulled]), "registry/tunesmith:1") == pulled
    assert docker.check_image(Fake(), pulled) == pulled


def test_of_several_registries_digests_that_of_the_name_is_taken() -> None:
    other, ours = f"elsewhere/tunesmith@{DIGEST}", f"registry/tunesmith@{DIGEST}"
    assert docker.resolve(Fake(RepoDigests=[other, ours]), "registry/tunesmith:1") == ours
    assert docker.resolve(Fake(RepoDigests=[other, ours]), "tunesmith") == other


@pytest.mark.parametrize(
    ("said", "message"),
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
def test_what_an_engine_refuses_is_put_into_words_and_nothing_is_lost(
    said: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "connect", lambda: refusing(said))
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / "weights").write_text("before")
    with pytest.raises(EngineError, match=message):
        docker.run(STAGE, runtime(), tmp_path)
    assert (tmp_path / "models" / "x" / "weights").read_text() == "before"


class Late(Fake):
    """An engine that answers ``call`` too late, when its container has written an output. sure: it then still says
    whether the container is there.
    """

    def __init__(self, call: str, *, sure: bool) -> None:
        super().__init__()
        self.call, self.sure, self.there, self.over = call, sure, False, threading.Event()

    def get(self, name: str) -> "Fake":
        if not name.startswith("tunesmith-"):
            return self
        if self.there and not self.sure:
            raise requests.ReadTimeout("Read timed out.")
        if not self.there:
            raise NotFound("no such container")
        return self

    def remove(self, force: bool) -> None:
        self.there = False

    def create(self, **arguments: Any) -> "Fake":
        (writable,) = (Path(mount["Source"]) for mount in arguments["mounts"] if not mount["ReadOnly"])
        (writable / "x").mkdir()
        (writable / "x" / "weights").write_text("after")
        self.there = True
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
def test_an_engine_that_answers_late_is_told_and_outputs_move_only_when_the_container_is_gone(
    call: str, sure: bool, message: str, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(call, sure=sure)
    monkeypatch.setattr(docker, "connect", lambda: late)
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / "weights").write_text("before")
    with pytest.raises(EngineError, match=message):
        docker.run(STAGE, runtime(), tmp_path)
    late.over.set()
    assert (tmp_path / "models" / "x" / "weights").read_text() == weights


def test_an_engine_that_answers_late_about_an_image_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object) -> None:
        raise requests.ReadTimeout("Read timed out.")

    monkeypatch.setattr(Fake, "version", late)
    with pytest.raises(EngineError, match="the Docker engine answers too late"):
        docker.resolve(Fake(), "mine")


def test_a_stage_that_runs_already_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.core import files
    from tunesmith.runtime.staging import STAGING

    monkeypatch.setattr(docker, "connect", lambda: Fake())
    with files.only_writer(tmp_path / STAGING / STAGE.target), pytest.raises(BusyError, match="is writing it"):
        docker.run(STAGE, runtime(), tmp_path)
