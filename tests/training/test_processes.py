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
MODELS = [
    *(f"train_sft/{kind}-sft" for kind in method_project.RATES),
    *(f"train_{name}/{kind}-{name}" for kind in ("lora", "full") for name in ENTRIES),
]
TOLERANCE = 1e-4
"""Between the losses of a step, in float32."""

Train = Callable[..., Path]


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
def train(started: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    def train(processes: int, *models: str, sharding: str = "auto") -> Path:
        """Train models in a copy of the project, which is returned."""
        folder = tmp_path_factory.mktemp("trained") / "project"
        shutil.copytree(started, folder)
        tests = str(Path(__file__).parents[1])
        environment = (
            os.environ
            | cpus.environment()
            | {
                "PYTHONPATH": os.pathsep.join([tests, str(Path(tests).parent)]),
                "TUNESMITH_PROCESSES": str(processes),
                "TUNESMITH_SHARDING": sharding,
            }
        )
        command = [sys.executable, "-m", "tunesmith.runtime.ranks", "ranked_trainings", str(folder), *models]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-5000:]
        return folder

    return train


def losses(folder: Path, name: str) -> list[float]:
    return [step["loss"] for step in journal.steps(journal.read(folder / "models" / name / journal.NAME))]


def test_losses_are_those_of_one_process(train: Train) -> None:
    one, two, again = (train(number, *MODELS) for number in (1, 2, 2))
    for name in (model.split("/")[1] for model in MODELS):
        assert losses(two, name) == pytest.approx(losses(one, name), abs=TOLERANCE), name
        digests = {manifest.verify(folder / "models" / name).weights_digest for folder in (two, again)}
        assert len(digests) == 1, name


SHARDED = [model for model in MODELS if "qlora" not in model and model != "train_rlhf/full-rlhf"]


def test_sharded_weights_learn_the_same(train: Train) -> None:
    one, two = train(1, *SHARDED), train(2, *SHARDED, sharding="full")
    for name in (model.split("/")[1] for model in SHARDED):
        assert losses(two, name) == pytest.approx(losses(one, name), abs=TOLERANCE), name
