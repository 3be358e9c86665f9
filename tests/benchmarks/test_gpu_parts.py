"""Parts of benchmarks/gpu at tiny sizes, in this process; `python -m benchmarks.gpu --anywhere` runs all of them."""

import pytest

from benchmarks.gpu import worker

FAST = ("sft-8b-lora-4096", "sft-8b-lora-chats-trl", "sft-8b-qlora-1024", "dpo-8b-lora", "grpo-8b-lora")
"""One part for each function that measures speed, and one on a quantized base."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAST)
def test_a_part_measures_speed_and_memory_beside_their_prediction(name: str) -> None:
    found = worker._run(name, tiny=True)
    assert "failed" not in found, found
    assert found["steps"] >= 2
    for measured in ("tokens_per_second", "step_seconds", "peak_bytes"):
        assert found[measured] > 0
    assert ("predicted_bytes" in found) is ("trl" not in name)  # plan predicts our trainings
    assert 0 < found.get("generation_share", 0.5) < 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["paths-llama", "images-qwen2_5_vl"])
def test_the_paths_are_within_tolerance(name: str) -> None:
    found = worker._run(name, tiny=True)
    assert found["ok"], found
