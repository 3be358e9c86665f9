"""Of two trainings of one model, one wins and the other is refused, and nothing is written twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import method_project
import pytest
import racing_trainings
from racing_trainings import BUSY, DONE

from tunesmith.core import cpus

RACES = int(os.environ.get("TUNESMITH_TEST_RACES", "3"))
"""Races of two trainings, of a few seconds each."""
LONG = method_project.SFT | {"epochs": 3, "eval_steps": 3, "learning_rate": 0.01, "batch_size": 1}

pytestmark = [
    pytest.mark.real,  # half a minute
    pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: races, which are seen in /proc"),
]


@pytest.fixture(scope="module")
def trials(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    params = method_project.PARAMS | {"sft": {"long": LONG}, "dpo": {}, "kto": {}, "reward": {}, "rlhf": {}, "grpo": {}}
    folder = method_project.make(tmp_path_factory.mktemp("races") / "project", tiny_base, params)
    command = [sys.executable, racing_trainings.__file__, str(folder), str(RACES), "1", "long"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | cpus.environment(), check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused_beside(process: int, log: str) -> bool:
    """Whether a log has the error that names the process that trains, and says what to do."""
    return f"process {process} is writing it" in log and f"wait for that run to end, or end it: `kill {process}`" in log


def test_of_two_trainings_started_at_once_one_wins_and_the_other_is_refused(trials: list[dict[str, Any]]) -> None:
    races = [trial for trial in trials if trial["kind"] == "race"]
    assert len(races) == RACES
    for race in races:
        assert sorted(race["statuses"]) == [DONE, BUSY], race["log"]
        assert (race["writers"], race["same"]) == (1, True)
        assert refused_beside(race["processes"][race["statuses"].index(DONE)], race["log"])


def test_a_training_whose_parent_was_killed_is_named_to_the_next_and_ends_whole(trials: list[dict[str, Any]]) -> None:
    (trial,) = (trial for trial in trials if trial["kind"] == "orphan")
    assert (trial["statuses"], trial["writers"], trial["same"]) == ([DONE, BUSY], 1, True), trial["log"]
    assert refused_beside(trial["processes"][0], trial["log"])


def test_a_training_that_the_runtime_started_ends_with_its_parent_and_the_next_goes_on(
    trials: list[dict[str, Any]],
) -> None:
    (trial,) = (trial for trial in trials if trial["kind"] == "tied")
    assert (trial["left"], trial["statuses"], trial["writers"], trial["same"]) == ([-9], [DONE], 1, True), trial["log"]
    assert "going on from the checkpoint of step" in trial["log"]
