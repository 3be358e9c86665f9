"""Train models of a project one after another, in float32: `python -m tests.ranked_trainings FOLDER STAGE/ENTRY...`.

Several processes run it together, by `tunesmith.runtime.ranks.launch`. Where DIES names a rank and a step, that process
kills itself there, once.
"""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import method_project
from tunesmith.core import cpus, journal, processes
from tunesmith.models import device
from tunesmith.training.journal_callback import Recorder
from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Verifier

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
"""A model of every objective and kind of weights, as <stage>/<entry>."""
INDIVISIBLE = ["train_sft/qlora-sft", "train_rlhf/full-rlhf", "train_grpo/full-grpo"]
"""Those that need whole weights: in 4 bits, and beside a reference of full weights."""


def start(folder: Path, base: Path) -> Path:
    """A project with what MODELS start from."""
    from stages import reference, train_reward, train_sft

    method_project.make(folder, base, PARAMS)
    before = Path.cwd()
    os.chdir(folder)
    try:
        train_sft.main("sft-lora")
        train_reward.main("reward")  # which rlhf follows
        for name in ("lora-dpo", "full-dpo"):
            reference.main(name)
    finally:
        os.chdir(before)
    return folder


def train(
    folder: Path, number: int, *models: str, sharding: str = "auto", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Train models of a project by a number of processes."""
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "TUNESMITH_PROCESSES": str(number),
        "TUNESMITH_SHARDING": sharding,
    }
    return subprocess.run(
        [sys.executable, "-m", "tunesmith.runtime.ranks", "tests.ranked_trainings", str(folder), *models],
        env=os.environ | cpus.environment() | environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def losses(folder: Path, model: str) -> list[float]:
    """The loss of every step of a model, <stage>/<entry>."""
    path = folder / "models" / model.split("/")[1] / journal.NAME
    return [step["loss"] for step in journal.steps(journal.read(path))]


DIES = "TUNESMITH_TEST_DIES"
"""The variable with a rank and a step: 1:3."""


def die_once(rank: int, step: int) -> None:
    """Have the process of a rank kill itself at the end of a step, unless the file `died` says that it did."""
    log = Recorder.on_log

    def on_log(self: Recorder, args: Any, state: Any, *others: Any, **settings: Any) -> None:
        log(self, args, state, *others, **settings)
        if processes.rank() == rank and state.global_step == step and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    Recorder.on_log = on_log


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    os.chdir(folder)
    device.has_bfloat16_instructions = lambda: False
    catalog.VERIFIERS["number"] = Verifier(method_project.parity)
    if DIES in os.environ:
        die_once(*map(int, os.environ[DIES].split(":")))
    for name in names:
        stage, entry = name.split("/")
        importlib.import_module(f"stages.{stage}").main(entry)
