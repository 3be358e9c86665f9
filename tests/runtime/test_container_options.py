"""The options of a stage's container, and the errors that its exit status stands for."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker.types import HostConfig
from runtime_settings import DIGEST, STAGE, runtime

from tunesmith.core import layout
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import ContainerError
from tunesmith.runtime import (
    container_init,
    container_options,
    mounts,
)
from tunesmith.runtime.staging import Staging

ROOT = Path(__file__).parents[2]


def container(folder: Path, stage: Stage = STAGE, **changes: Any) -> dict[str, Any]:
    return container_options.settings(stage, runtime(**changes), DIGEST, Staging(folder, stage))


def test_a_container_is_locked_down(tmp_path: Path) -> None:
    options = container(tmp_path, memory="2g", cpus=1.5)
    assert options["command"] == ["stages.train", "x"]
    assert options["read_only"] is True
    assert options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges"]
    assert options["network_mode"] == "none"
    assert (options["mem_limit"], options["memswap_limit"], options["nano_cpus"]) == ("2g", "2g", 1_500_000_000)
    assert options["user"] == f"{os.getuid()}:{os.getgid()}"
    assert [mount["Target"] for mount in options["mounts"] if not mount["ReadOnly"]] == [str(tmp_path / "models")]


@pytest.mark.parametrize(("links", "shown"), [("reflink,copy", False), ("hardlink,symlink", True)])
def test_a_dvc_cache_outside_the_project_is_mounted_where_files_may_be_links_into_it(
    links: str, shown: bool, dvc_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("cache")
    for name, value in (("cache.dir", str(elsewhere)), ("cache.type", links)):
        subprocess.run([sys.executable, "-m", "dvc", "config", name, value], cwd=dvc_project, check=True)
    read_only = {mount["Source"]: mount["ReadOnly"] for mount in container(dvc_project)["mounts"]}
    assert read_only.get(str(elsewhere)) is (True if shown else None)
    named = container(dvc_project, mounts=[str(elsewhere)])["mounts"]
    assert [mount["Target"] for mount in named].count(str(elsewhere)) == 1  # an engine refuses two


def test_only_a_stage_that_declares_a_network_gets_one_with_secrets_and_a_writable_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    (tmp_path / "hub").mkdir()
    (tmp_path / "datasets").mkdir()
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
    cache = {"Type": "bind", "Source": str(tmp_path / "datasets"), "Target": str(container_init.DATASETS)}
    assert cache | {"ReadOnly": True} in alone["mounts"]


def test_the_installed_package_is_mounted_where_the_project_does_not_hold_it(tmp_path: Path) -> None:
    options = container(tmp_path)
    target = Path(options["environment"]["PYTHONPATH"], "tunesmith")
    package = {"Type": "bind", "Source": str(ROOT / "tunesmith"), "Target": str(target), "ReadOnly": True}
    assert package in options["mounts"]
    (tmp_path / "tunesmith").mkdir()
    (tmp_path / "tunesmith" / "__init__.py").touch()
    options = container(tmp_path)
    assert "PYTHONPATH" not in options["environment"]
    assert str(target) not in [mount["Target"] for mount in options["mounts"]]


def test_a_training_gets_the_time_between_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(layout.CHECKPOINT_VARIABLE, raising=False)
    assert layout.CHECKPOINT_VARIABLE not in container(tmp_path)["environment"]
    assert container(tmp_path, checkpoint_minutes=2)["environment"][layout.CHECKPOINT_VARIABLE] == "120.0"
    monkeypatch.setenv(layout.CHECKPOINT_VARIABLE, "5")
    assert container(tmp_path, checkpoint_minutes=2)["environment"][layout.CHECKPOINT_VARIABLE] == "5"


def test_the_container_checks_that_it_can_write_outputs_and_checkpoints(tmp_path: Path) -> None:
    options = container(tmp_path, replace(STAGE, target="train_sft@x"))
    places = [str(tmp_path / "models"), str(tmp_path / "build" / "checkpoints" / "container" / "x")]
    assert json.loads(options["environment"][container_init.WRITABLE]) == places
    assert [mount["Target"] for mount in options["mounts"] if not mount["ReadOnly"]] == places


def test_every_run_of_a_stage_has_its_own_id(tmp_path: Path) -> None:
    ids = [container(tmp_path)["environment"][layout.RUN_VARIABLE] for _ in range(2)]
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [("all", {"Count": -1}), (2, {"Count": 2}), (["0", "GPU-1"], {"DeviceIDs": ["0", "GPU-1"]})],
)
def test_gpus_are_requested_as_the_engine_expects(gpus: Any, expected: dict[str, Any], tmp_path: Path) -> None:
    (request,) = HostConfig("1.41", device_requests=container(tmp_path, gpus=gpus)["device_requests"])["DeviceRequests"]
    assert {key: request[key] for key in expected} == expected
    assert request["Capabilities"] == [["gpu"]]


def test_without_gpus_the_engine_is_asked_for_no_device(tmp_path: Path) -> None:
    assert container(tmp_path)["device_requests"] == []


def test_a_mount_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match=r"runtime\.mounts: relative"):
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
def test_an_end_that_the_stage_cannot_report_is_an_error(status: int, message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        container_options.check_status(status, STAGE, runtime(memory="2g"), Path("/project"))


def test_without_a_limit_the_machine_ran_out_of_memory() -> None:
    with pytest.raises(ContainerError, match="the machine ran out of memory"):
        container_options.check_status(container_init.OUT_OF_MEMORY, STAGE, runtime(memory=None), Path("/project"))


@pytest.mark.parametrize("status", [0, 1, 7, 128, 130])
def test_the_stages_own_exit_status_is_returned(status: int) -> None:
    assert container_options.check_status(status, STAGE, runtime(), Path("/project")) == status
