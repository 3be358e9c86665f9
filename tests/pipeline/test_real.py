"""The real thing, in this checkout: `make repro` on the default params and the embedded base. Minutes; CI runs it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.real


def run(*command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "HF_"))}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def first_run() -> None:
    run("make", "repro")


def read(path: str) -> Any:
    return json.loads((ROOT / path).read_text())


@pytest.mark.parametrize("name", ["sft-lora", "sft-qlora", "sft-full", "dpo", "kto", "rlhf", "grpo"])
def test_a_tuned_model_beats_the_base(name: str) -> None:
    result = read("reports/comparison.json")["against_baseline"][name]
    assert result["prompts"] >= 100
    assert result["low"] > 0
    assert read(f"reports/registered/{name}/registration.json")["model"] == name


def test_a_tuned_model_stops_and_keeps_the_format() -> None:
    tuned = read("reports/evaluation/sft-lora/metrics.json")["suites"]["arithmetic"]
    assert tuned["stopped"] == 1
    assert tuned["well_formed"] > 0.95


def test_held_out_pairs_are_told_apart() -> None:
    comparison = read("reports/comparison.json")
    policies = [comparison["models"][name]["held_out"] for name in ("dpo", "kto")]
    for preferences in (*policies, comparison["reward_models"]["reward"]):
        before, after = preferences["before"], preferences["after"]
        assert after["pairs"] >= 20
        assert after["low"] > 0.5
        assert after["margin"] > before["margin"]


@pytest.mark.parametrize("name", ["dpo", "kto", "rlhf", "grpo"])
def test_a_method_moves_the_style_that_it_was_shown_and_costs_no_sums(name: str) -> None:
    suites = read("reports/comparison.json")["suites"]
    moved = suites["brevity"]["against_start"][name]
    assert (moved["start"], moved["verdict"]) == ("sft-lora", "better")
    assert moved["low"] > 0.25
    assert suites["arithmetic"]["against_start"][name]["verdict"] != "worse"


def test_memory_is_near_what_was_predicted() -> None:
    for name, model in read("reports/comparison.json")["models"].items():
        if name.startswith("sft"):
            training = model["training"]
            assert 0.8 < training["peak_memory_bytes"] / training["predicted_memory_bytes"] < 1.25, name


def test_a_second_run_does_nothing() -> None:
    assert "Running stage" not in run("make", "repro")


def test_the_registered_model_is_promoted_on_its_evidence() -> None:
    subprocess.run(["tunesmith", "promote", "sft-lora"], cwd=ROOT, check=False)  # fails where it is the champion
    assert "passed the gate" in run("tunesmith", "history")
