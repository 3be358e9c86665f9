"""Trainings that are killed at random moments end in the weights of those that were not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import method_project
import mortal_trainings
import pytest

from stages import reference, train_reward, train_sft
from tunesmith.core import cpus

KILLS = int(os.environ.get("TUNESMITH_TEST_KILLS", "10"))
"""Kills over all objectives; 100 take about ten minutes."""
KINDS = [*method_project.RATES]
LONGER = {"epochs": 3, "eval_steps": 3, "learning_rate": 0.01}
ONLINE = method_project.ONLINE | {"steps": 6, "eval_steps": 2}
SFT = method_project.SFT | LONGER | {"batch_size": 1, "gradient_accumulation": 2, "epochs": 6}
PARAMS = method_project.PARAMS | {
    "sft": method_project.PARAMS["sft"]
    | {f"sft-long-{kind}": SFT | {"weights": kind} for kind in method_project.RATES},
    "dpo": {"dpo": method_project.PAIRS | LONGER | {"probes": 0, "batch_size": 1, "gradient_accumulation": 3}},
    "kto": {"kto": method_project.PAIRS | LONGER | {"dataset": "marks", "probes": 0}},
    "reward": {"reward": method_project.PAIRS | LONGER | {"probes": 0}},
    "rlhf": {"rlhf": ONLINE | {"reward": "reward", "verifier": "number"}},
    "grpo": {"grpo": ONLINE | {"rewards": {"number": 1.0}, "num_iterations": 2}},
}
NAMES = [*(f"sft-long-{kind}" for kind in KINDS), "dpo", "kto", "reward", "rlhf", "grpo"]

pytestmark = pytest.mark.real  # most of a minute


@pytest.fixture(scope="module")
def started(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = method_project.make(tmp_path_factory.mktemp("killed") / "project", tiny_base, PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train_sft.main("sft-lora")
        train_reward.main("reward")  # which rlhf follows
        reference.main("dpo")
    return folder


def test_a_training_killed_at_any_moment_ends_in_the_weights_of_an_unbroken_one(started: Path) -> None:
    command = [sys.executable, "-P", mortal_trainings.__file__, str(started), str(KILLS), "1", *NAMES]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | cpus.environment(), check=True)
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    print(f"{len(trials)} killed, {sum(trial['saving'] for trial in trials)} of them in a save")
    assert len(trials) == KILLS
    assert [trial for trial in trials if not trial["same"] or trial["left"]] == []
