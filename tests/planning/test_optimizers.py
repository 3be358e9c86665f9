from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.models import loading, weights
from tunesmith.models.device import Profile
from tunesmith.models.settings import Lora
from tunesmith.planning import memory, model_shape, optimizers
from tunesmith.planning.workload import CPU, GPU, Workload

LLAMA = model_shape.read("llama-3.1-8b")
SFT = Workload(objective="sft", weights="lora", batch=1, length=512, machine=GPU, rank=16)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    values = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor) and value.numel() > 1)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_predicted_state_is_that_of_the_optimizer(name: Any, tiny_base: Path) -> None:
    profile = Profile("cpu", "a test", torch.float32, gradient_checkpointing=False)
    policy = loading.open_policy(tiny_base, tiny_base, profile, "lora", Lora(rank=4, alpha=8, dropout=0.0))
    trained = list(weights.trained(policy.model).values())
    made: dict[str, Any] = {"adamw": torch.optim.AdamW, "muon": torch.optim.Muon}
    if name == "adafactor":
        from transformers import Adafactor

        made["adafactor"] = Adafactor
    optimizer = made[name](trained)
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    workload = replace(SFT, rank=4, optimizer=name, machine=CPU)
    shape = model_shape.read(str(tiny_base))
    assert memory.predict(shape, workload).optimizer == pytest.approx(state_bytes(optimizer), rel=0.01)


def test_8_bit_moments_take_two_bytes_and_a_64th_and_small_tensors_eight() -> None:
    def bytes_of(tensor: tuple[int, int]) -> int:
        return optimizers.state("adamw_8bit", [tensor], [], trained_bytes=4, device="cuda")

    assert bytes_of((512, 512)) == 512 * 512 * (2 + 2 * 4 / 256)
    assert bytes_of((64, 63)) == 64 * 63 * 8


def test_paged_moments_of_large_tensors_are_not_on_the_gpu() -> None:
    full = replace(SFT, weights="full", optimizer="paged_adamw_8bit")
    assert memory.predict(LLAMA, full).optimizer < 0.3 * LLAMA.embedding * 8
    on_a_cpu = memory.predict(LLAMA, replace(full, machine=CPU))
    assert on_a_cpu.optimizer == memory.predict(LLAMA, replace(full, machine=CPU, optimizer="adamw_8bit")).optimizer


def test_every_optimizer_takes_less_than_adamw() -> None:
    full = replace(SFT, weights="full")
    others = ("muon", "adamw_8bit", "adafactor", "paged_adamw_8bit")
    adamw, *rest = (memory.predict(LLAMA, replace(full, optimizer=name)).optimizer for name in ("adamw", *others))
    assert all(size < adamw for size in rest)


def test_only_the_named_layers_are_adapted() -> None:
    every, attention = (memory.trainable(LLAMA, replace(SFT, targets=names)) for names in ((), ("q_proj", "v_proj")))
    assert attention == LLAMA.layers * 16 * (4096 + 4096 + 4096 + 1024)
    assert every > attention
    assert memory.predict(LLAMA, replace(SFT, targets=("q_proj",))).activations < memory.predict(LLAMA, SFT).activations


def test_magnitudes_and_embeddings_train_beside_the_adapter() -> None:
    outputs = sum(width for _, width in LLAMA.linears)
    assert memory.trainable(LLAMA, replace(SFT, dora=True)) == memory.trainable(LLAMA, SFT) + outputs
    with_embeddings = memory.trainable(LLAMA, replace(SFT, embeddings=True))
    assert with_embeddings == memory.trainable(LLAMA, SFT) + LLAMA.embedding + LLAMA.head
