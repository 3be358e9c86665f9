"""The same params give the same model on one process and on several."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import method_project
import pytest

from stages import reference, train_reward, train_sft
from tunesmith.core import cpus, journal, manifest

TWICE = {"epochs": 2, "eval_steps": 2}
"""Batches of six or eight, of which the last of an epoch has rows for one process alone."""
FULL = {"weights": "full", "learning_rate": method_project.RATES["full"]}
PAIRS, ONLINE = method_project.PAIRS | TWICE, method_project.ONLINE | {"steps": 3, "probes": 0}
ENTRIES: dict[str, dict[str, Any]] = {
    "dpo": PAIRS | {"beta": 0.5, "batch_size": 6},
    "kto": PAIRS | {"dataset": "marks", "beta": 0.5, "batch_size": 8},
    "reward": PAIRS | {"probes": 0, "batch_size": 6},
    "rlhf": ONLINE | {"reward": "reward", "verifier": "number"},
    "grpo": ONLINE | {"rewards": {"number": 1.0}},
}
SFT = method_project.SFT | TWICE | {"max_length": 60, "batch_size": 4}
PARAMS = method_project.PARAMS | {
    "sft": method_project.PARAMS["sft"]
    | {f"{kind}-sft": SFT | {"weights": kind, "learning_rate": rate} for kind, rate in method_project.RATES.items()}
}
PARAMS |= {
    name: method_project.PARAMS[name] | {f"lora-{name}": entry, f"full-{name}": entry | FULL}
    for name, entry in ENTRIES.items()
}
WHOLE = [
    "train_sft/qlora-sft",
    "train_dpo/full-dpo",
    "train_kto/lora-kto",
    "train_reward/lora-reward",
    "train_grpo/lora-grpo",
]
DIVIDED = ["train_sft/full-sft", "train_reward/full-reward", "train_grpo/lora-grpo"]
"""Models whose processes have all weights, or parts; benchmarks/processes.py trains every kind both ways."""
TOLERANCE = 1e-4
"""Between the losses of a step, in float32."""


@pytest.fixture(scope="module")
def started(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = method_project.make(tmp_path_factory.mktemp("processes") / "project", tiny_base, PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train_sft.main("sft-lora")
        train_reward.main("reward")  # which rlhf follows
        for name in ("lora-dpo", "full-dpo"):
            reference.main(name)
    return folder


@pytest.fixture(scope="module")
def copy(started: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(started, tmp_path_factory.mktemp("trained") / "project"))


def train(folder: Path, processes: int, *models: str, sharding: str = "auto", **variables: str) -> tuple[int, str]:
    """Train models of a project; the exit status, and what was printed."""
    tests = Path(__file__).parents[1]
    environment = {
        "PYTHONPATH": os.pathsep.join(map(str, (tests, tests.parent))),
        "TUNESMITH_PROCESSES": str(processes),
        "TUNESMITH_SHARDING": sharding,
    }
    command = [sys.executable, "-m", "tunesmith.runtime.ranks", "ranked_trainings", str(folder), *models]
    variables = os.environ | cpus.environment() | environment | variables
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def losses(folder: Path, name: str) -> list[float]:
    return [step["loss"] for step in journal.steps(journal.read(folder / "models" / name / journal.NAME))]


def digest(folder: Path, name: str) -> str:
    return manifest.verify(folder / "models" / name).weights_digest


@pytest.fixture(scope="module")
def one(copy: Callable[[], Path]) -> Path:
    """A project whose models one process trained."""
    folder = copy()
    status, output = train(folder, 1, *{*WHOLE, *DIVIDED})
    assert status == 0, output[-3000:]
    return folder


@pytest.fixture(scope="module", params=["none", pytest.param("full", marks=pytest.mark.real)])
def sharding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def two(copy: Callable[[], Path], sharding: str) -> Path:
    """A project whose models two processes trained."""
    folder = copy()
    status, output = train(folder, 2, *(WHOLE if sharding == "none" else DIVIDED), sharding=sharding)
    assert status == 0, output[-3000:]
    return folder


def test_losses_are_those_of_one_process(one: Path, two: Path, sharding: str) -> None:
    for name in (model.split("/")[1] for model in (WHOLE if sharding == "none" else DIVIDED)):
        assert losses(two, name) == pytest.approx(losses(one, name), abs=TOLERANCE), name


@pytest.mark.real
def test_a_training_goes_on_after_a_process_died(one: Path, two: Path, copy: Callable[[], Path], sharding: str) -> None:
    model = (WHOLE if sharding == "none" else DIVIDED)[0]
    name, folder = model.split("/")[1], copy()
    settings = {"sharding": sharding, "TUNESMITH_CHECKPOINT_SECONDS": "0"}
    status, output = train(folder, 2, model, **settings, TUNESMITH_TEST_DIES="1:3")
    assert (status, output.count("process 2 of 2 ended by SIGKILL, so all were ended")) == (137, 1), output[-3000:]
    assert not (folder / "models" / name).exists()
    other = Path(shutil.copytree(folder, folder.parent / "other"))
    assert train(folder, 2, model, **settings)[0] == 0
    events = journal.read(folder / "models" / name / journal.NAME)
    assert [event["step"] for event in events if event["event"] == "resume"] in ([1], [2])
    assert digest(folder, name) == digest(two, name)
    if sharding == "none":
        assert train(other, 1, model, **settings)[0] == 0
        assert losses(other, name) == pytest.approx(losses(one, name), abs=TOLERANCE)
