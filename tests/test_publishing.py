"""Runs, versions and promotions on a real SQLite registry, of its own for every test."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tunesmith import journal, live, manifest, promotion, publishing
from tunesmith.errors import IntegrityError, RegistryError
from tunesmith.registry import Registry

DEAD = "http://127.0.0.1:9"
PARAMS = "registry: {experiment: arithmetic, model: calculator}\n"


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry database, made once: MLflow takes seconds to lay it out."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        patch.chdir(path.parent)
        Registry("arithmetic")
    return path


@pytest.fixture
def project(schema: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(schema, tmp_path / "mlflow.db")
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


def write_journal(path: Path, steps: int, *, ended: bool) -> list[journal.Event]:
    with journal.Journal(path) as log:
        log.write("start", key="k1", model="sft-lora", method="SFT with LoRA", device="cpu", params={"sft": {"lr": 1}})
        for step in range(1, steps + 1):
            log.write("step", step=step, loss=1.0 / step)
        if ended:
            log.write("end", steps=steps, seconds=2.0)
    return journal.read(path)


def losses(registry: Registry, run: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in registry.client.get_metric_history(run, "loss")]


def test_publishing_again_adds_what_is_missing_and_nothing_else(project: Path) -> None:
    events = write_journal(project / "j", 5, ended=True)
    registry = Registry("arithmetic")
    runs = {publishing.publish_training(registry, part) for part in (events[:3], events, events)}
    assert len(runs) == 1
    assert losses(registry, runs.pop()) == [(step, 1.0 / step) for step in range(1, 6)]


def test_a_run_tells_its_params_and_its_cost(project: Path) -> None:
    registry = Registry("arithmetic")
    run = publishing.publish_training(registry, write_journal(project / "j", 2, ended=True))
    data = registry.client.get_run(run).data
    assert data.params == {"model": "sft-lora", "method": "SFT with LoRA", "device": "cpu", "sft.lr": "1"}
    assert data.metrics["training/seconds"] == 2.0


def test_an_evaluation_is_published_once_with_samples_to_read(project: Path) -> None:
    registry = Registry("arithmetic")
    suite = {"dataset": "demo", "prompts": 1, "prompts_digest": "p", "score": 0.5}
    metrics = {"suites": {"sums": suite}, "seconds": 2.0, "time": 1000}
    sample: dict[str, Any] = {
        "suite": "sums",
        "prompt": [{"role": "user", "content": "1 + 1"}],
        "reference": "2",
        "completion": "3",
        "score": 0.0,
    }
    sample |= {"id": "a", "reason": "3 is not 2", "status": "scored"}
    run = registry.run("base", "base", 0, {})
    for _ in range(2):
        publishing.publish_evaluation(registry, run, metrics, [sample])
    assert [m.value for m in registry.client.get_metric_history(run, "sums/score")] == [0.5]
    assert registry.client.get_run(run).data.metrics == {
        "sums/score": 0.5,
        "sums/prompts": 1.0,
        "evaluation/seconds": 2.0,
    }
    table = json.loads(Path(registry.client.download_artifacts(run, "samples.json", str(project))).read_text())
    assert table["data"] == [["sums", "a", "1 + 1", "2", "3", 0.0, "scored", "3 is not 2"]]


def start_follower(path: Path, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tunesmith.publishing", str(path)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | environment)


def test_a_follower_publishes_while_training_writes(project: Path) -> None:
    path = project / "j"
    write_journal(path, 2, ended=False)
    with start_follower(path) as follower:
        registry = Registry("arithmetic")
        run = wait_for_run(registry)
        assert registry.client.get_run(run).info.status == "RUNNING"
        with journal.Journal(path) as log:
            log.write("step", step=3, loss=0.25)
            log.write("end", steps=3, seconds=1.0)
        assert follower.wait(timeout=90) == 0
    assert [step for step, _ in losses(registry, run)] == [1, 2, 3]
    assert registry.client.get_run(run).info.status == "FINISHED"


def wait_for_run(registry: Registry) -> str:
    deadline = time.monotonic() + 90
    while not (found := registry.client.search_runs([registry.experiment], "metrics.loss >= 0")):
        assert time.monotonic() < deadline, "the follower published nothing"
        time.sleep(0.2)
    return str(found[0].info.run_id)


def test_a_follower_told_to_stop_marks_the_run_killed(project: Path) -> None:
    write_journal(project / "j", 2, ended=False)
    with start_follower(project / "j") as follower:
        registry = Registry("arithmetic")
        run = wait_for_run(registry)
        follower.send_signal(signal.SIGTERM)
        assert follower.wait(timeout=90) == 0
    assert registry.client.get_run(run).info.status == "KILLED"


def test_a_follower_of_a_dead_server_ends_with_the_reason(project: Path) -> None:
    write_journal(project / "j", 2, ended=True)
    with start_follower(project / "j", MLFLOW_TRACKING_URI=DEAD) as follower:
        _, told = follower.communicate(timeout=90)
    assert follower.returncode == 1
    assert f"the tracking server at {DEAD} did not do what was asked" in told.decode()


def test_a_silent_server_holds_a_training_up_for_seconds_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(live, "PATIENCE", 0.5)
        with live.published_live(project / "j"), journal.Journal(project / "j"):
            write_journal(project / "j", 1, ended=True)
        assert no_follower()


def test_a_training_that_fails_ends_its_follower_and_keeps_its_error(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PATIENCE", 0.5)
    write_journal(project / "j", 1, ended=False)
    with pytest.raises(ZeroDivisionError), live.published_live(project / "j"):
        raise ZeroDivisionError
    assert no_follower()


def no_follower() -> bool:
    own = psutil.Process().children(recursive=True)
    return not any("tunesmith.publishing" in child.cmdline() for child in own)


def test_a_loss_that_is_not_finite_is_left_out(project: Path) -> None:
    with journal.Journal(project / "j") as log:
        log.write("start", key="k", model="m", method="m", device="cpu", params={})
        log.write("step", step=1, loss=math.nan, grad_norm=1.0)
    names = [point.name for point in publishing.steps(journal.read(project / "j"))]
    assert names == ["grad_norm"]


def test_a_dead_server_is_a_clear_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    with pytest.raises(RegistryError, match="safe on disk"):
        Registry("arithmetic")


@pytest.fixture
def registered(project: Path) -> tuple[Registry, Path]:
    """A registry with version 1 of a model that is better than the base, and its folder."""
    registry = Registry("arithmetic")
    folder = project / "models" / "sft-lora"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    manifest.write(folder)
    register(registry, folder, "k1")
    return registry, folder


def register(registry: Registry, folder: Path, key: str, verdict: str = "pass") -> str:
    run = registry.run(key, "sft-lora", 0, {})
    tags = {promotion.MODEL: "sft-lora", promotion.VERDICT: verdict, promotion.EVIDENCE: "by 36 points"}
    return promotion.register(registry, "calculator", run, folder, tags=tags, description="d")


def test_registering_again_makes_no_second_version(registered: tuple[Registry, Path]) -> None:
    registry, folder = registered
    assert register(registry, folder, "k1") == "1"
    assert register(registry, folder, "k2") == "2"


def test_a_folder_that_was_changed_is_not_registered(registered: tuple[Registry, Path]) -> None:
    registry, folder = registered
    (folder / "adapter_model.safetensors").write_bytes(b"Weights")
    with pytest.raises(IntegrityError):
        register(registry, folder, "k3")
    assert len(registry.versions("calculator")) == 1


def test_a_promotion_moves_the_alias_and_is_remembered(registered: tuple[Registry, Path]) -> None:
    registry, folder = registered
    promotion.promote(registry, "calculator", "sft-lora", reason=None)
    register(registry, folder, "k2")
    promotion.promote(registry, "calculator", "2", reason="a second look")
    assert registry.alias("calculator", promotion.CHAMPION) == "2"
    entries = promotion.history(registry, "calculator")
    assert [(entry.previous, entry.version, entry.why) for entry in entries] == [
        (None, "1", "passed the gate"),
        ("1", "2", "a second look"),
    ]


def test_what_is_not_registered_cannot_be_promoted(registered: tuple[Registry, Path]) -> None:
    with pytest.raises(RegistryError, match=r"no version 'dpo' .* registered: sft-lora \(version 1\)"):
        promotion.promote(registered[0], "calculator", "dpo", reason=None)


def test_what_did_not_pass_the_gate_needs_a_reason(registered: tuple[Registry, Path]) -> None:
    registry, folder = registered
    register(registry, folder, "k2", verdict="undecided")
    with pytest.raises(RegistryError, match="did not pass the gate"):
        promotion.promote(registry, "calculator", "2", reason=None)
    assert promotion.promote(registry, "calculator", "2", reason="needed for a test").why == "needed for a test"


def test_an_artifact_changed_after_registration_is_not_promoted(registered: tuple[Registry, Path]) -> None:
    registry, folder = registered
    (folder / "adapter_model.safetensors").write_bytes(b"other weights")
    manifest.write(folder)
    registry.upload(registry.versions("calculator")[0].run, folder, "model")
    with pytest.raises(IntegrityError, match="changed after registration"):
        promotion.promote(registry, "calculator", "1", reason=None)
    assert registry.alias("calculator", promotion.CHAMPION) is None


def test_a_model_evaluated_again_is_judged_by_its_last_evaluation(registered: tuple[Registry, Path]) -> None:
    registry, folder = registered
    assert register(registry, folder, "k1", verdict="fail") == "1"
    with pytest.raises(RegistryError, match="did not pass the gate"):
        promotion.promote(registry, "calculator", "1", reason=None)


def test_a_promotion_cut_short_is_recorded_by_the_next(registered: tuple[Registry, Path]) -> None:
    registry, _ = registered
    registry.move_alias("calculator", promotion.CHAMPION, "1")
    promotion.promote(registry, "calculator", "1", reason=None)
    assert [entry.version for entry in promotion.history(registry, "calculator")] == ["1"]


def test_a_version_registered_by_hand_is_not_promoted(registered: tuple[Registry, Path]) -> None:
    registry, _ = registered
    registry.client.create_model_version("calculator", "somewhere", registry.versions("calculator")[0].run)
    with pytest.raises(RegistryError, match="not registered by this pipeline"):
        promotion.promote(registry, "calculator", "2", reason="trust me")


def test_the_champion_is_not_promoted_twice(registered: tuple[Registry, Path]) -> None:
    promotion.promote(registered[0], "calculator", "1", reason=None)
    with pytest.raises(RegistryError, match="champion already"):
        promotion.promote(registered[0], "calculator", "1", reason=None)
    assert len(promotion.history(registered[0], "calculator")) == 1


def test_a_description_is_for_a_person() -> None:
    origin: dict[str, Any] = {
        "code": {"commit": "a" * 40, "clean": False},
        "base": {"source": "package x==1 sha256:00"},
        "hardware": {"device": "cpu"},
    }
    text = promotion.description("sft-lora", origin, "sft-lora is better.", 384, "demo")
    assert text.startswith("**sft-lora is better.**")
    assert "384 rows of `demo` from package x==1" in text
    assert "uncommitted changes" in text
