"""A project's stages on two real Ray nodes: the bytes of this machine, even where a worker is killed on the way."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline_project import ONE, SFT, Project

from tunesmith.core import layout, manifest

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: tunesmith[ray]"),
]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", layout.RERUN_VARIABLE: "1"}
PARAMS = ONE | {"sft": {"tuned": SFT | {"epochs": 40}}}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    nodes = subprocess.Popen(
        [sys.executable, Path(__file__).parents[1] / "ray_nodes.py", str(port)],
        env=os.environ | {"TUNESMITH_NODE_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert nodes.stdout is not None
    assert nodes.stdout.readline() == "started\n"
    yield f"127.0.0.1:{port}"
    nodes.terminate()
    nodes.wait()
    nodes.stdout.close()


def test_a_cluster_makes_the_bytes_of_this_machine_though_a_worker_is_killed(
    address: str, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project", tiny_folder, PARAMS)
    project.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "remote"))
    project.run("dvc", "repro", "evaluate", **ONE_THREAD)
    here = made(project)
    cluster = {"engine": "ray", "address": address, "workers": 1, "checkpoint_minutes": 0.01}
    project.put("runtime", cluster)
    project.run("dvc", "repro", "--force", "--single-item", "prepare_data@demo", **ONE_THREAD)
    text = train_and_kill_a_worker(project)
    assert "started again once" in text
    assert re.search(r"tuned goes on from the checkpoint of step \d+", text)
    project.put("runtime", cluster | {"workers": 2})
    done = project.run("dvc", "repro", "--force", "--single-item", "evaluate", **ONE_THREAD)
    assert re.search(r"ray: 2 workers on a cluster of 2; code and params \d.* by digest, .* taken home", done.stdout)
    assert made(project) == here


def train_and_kill_a_worker(project: Project) -> str:
    """Train on the cluster, kill Ray's worker once a checkpoint is in the store; return what `dvc repro` printed."""
    training = subprocess.Popen(
        ["dvc", "repro", "--force", "--single-item", "train_sft@tuned"],
        cwd=project.folder,
        env=project.environment | ONE_THREAD,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(project.folder.glob("build/checkpoints/ray/tuned/*.json")):
        assert training.poll() is None, training.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(worker(project.folder.parent / "cache"), signal.SIGKILL)
    text, _ = training.communicate()
    assert training.returncode == 0, text
    return text


def worker(cache: Path) -> int:
    """The worker of Ray that started the training whose workspace is in a node's cache."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            here = (path / "cwd").readlink()
            line = (path / "cmdline").read_bytes().split(b"\0")
            if here.is_relative_to(cache) and b"stages.train_sft" in line:
                return int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    raise AssertionError("no training runs")


def made(project: Project) -> dict[str, str]:
    """The digests of a project's rows, weights and answers."""
    files = [*project.folder.glob("data/ready/demo/*.jsonl"), *project.folder.glob("reports/evaluation/*/*.jsonl")]
    digests = {path.relative_to(project.folder).as_posix(): manifest.file_digest(path) for path in files}
    return digests | {
        "weights": manifest.read(project.folder / "models" / "tuned").weights_digest,
        "scores": manifest.file_digest(project.folder / "reports" / "metrics.json"),
    }
