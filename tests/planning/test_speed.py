from dataclasses import replace

import pytest

from tunesmith.planning import cards, model_shape, rates, speed
from tunesmith.planning.hardware import Hardware
from tunesmith.planning.rates import gpu
from tunesmith.planning.speed import Rates
from tunesmith.planning.workload import CPU, GPU, Machine, Workload

LLAMA = model_shape.read("llama-3.1-8b")
PLAIN = Machine("cuda", 2, checkpointing=False)
SFT = Workload(objective="sft", weights="lora", batch=1, length=4096, machine=PLAIN, rank=8)
H100 = Rates("H100", 989e12, 3350e9, speed.TRAINING_SHARE["cuda"])


def test_lora_of_an_8b_model_is_as_fast_as_published() -> None:
    predicted = speed.predict(LLAMA, SFT, H100)
    assert predicted.tokens_per_second == pytest.approx(12_473, rel=0.03)


@pytest.mark.parametrize(
    ("kind", "length", "published"), [("lora", 4096, 3244), ("lora", 2048, 3151), ("qlora", 4096, 2825)]
)
def test_a_7b_model_on_an_a100_with_recomputed_layers_is_as_fast_as_published(
    kind: str, length: int, published: int
) -> None:
    """Qwen-7B, as Llama 2 7B with a vocabulary of 151,936 (README of QwenLM/Qwen)."""
    shape = replace(model_shape.read("llama-2-7b"), vocabulary=151_936)
    a100 = rates.of(gpu("a100-80gb"))
    assert a100 is not None
    workload = replace(SFT, weights=kind, length=length, rank=64, machine=GPU)
    assert speed.predict(shape, workload, a100).tokens_per_second == pytest.approx(published, rel=0.2)


def test_a_token_takes_four_operations_a_weight_with_lora_and_six_with_all() -> None:
    weights, tokens = LLAMA.linear_parameters, 4096
    without_head = replace(SFT, objective="reward", batch=1, length=tokens // 2)  # two rows of half the tokens
    attention = 3 * LLAMA.layers * 4 * LLAMA.query_width * without_head.attended
    lora = speed.step_flops(LLAMA, without_head) - attention - 6 * tokens * LLAMA.lora_parameters(8)
    assert lora == 4 * tokens * weights
    assert speed.step_flops(LLAMA, replace(without_head, weights="full")) - attention == 6 * tokens * weights


def test_recomputation_adds_a_forward_pass_of_two_for_lora() -> None:
    plain, again = (speed.step_flops(LLAMA, replace(SFT, machine=machine)) for machine in (PLAIN, GPU))
    assert 1.4 < again / plain < 1.5


def test_only_trained_tokens_are_scored_by_the_head() -> None:
    few, all_tokens = (speed.step_flops(LLAMA, replace(SFT, labelled=count)) for count in (512, 0))
    assert all_tokens - few == 3 * 2 * (4096 - 512) * LLAMA.embedding


def test_a_packed_row_attends_to_itself_alone() -> None:
    one, two = replace(SFT, objective="kto", batch=1), replace(SFT, objective="kto", batch=2)
    assert two.attended == 2 * one.attended == 4096 * 4097


def test_rollouts_take_their_time() -> None:
    rollouts = replace(SFT, objective="grpo", batch=8, rollouts=8, group=8, length=1024, completion=512)
    predicted = speed.predict(LLAMA, rollouts, H100)
    assert 0 < predicted.generation < predicted.seconds
    longer = speed.predict(LLAMA, replace(rollouts, completion=768), H100)
    assert longer.generation > predicted.generation


def test_accumulated_batches_add_up() -> None:
    one, four = (speed.predict(LLAMA, replace(SFT, accumulation=count), H100) for count in (1, 4))
    assert four.seconds == pytest.approx(4 * one.seconds)
    assert four.tokens == 4 * one.tokens


def test_a_token_goes_through_its_own_experts_alone() -> None:
    experts = replace(LLAMA, parameters=5 * LLAMA.parameters)  # kept in tensors that are no linear layers
    assert speed.active_weights(experts) == speed.active_weights(LLAMA) == LLAMA.linear_parameters


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("h100", "h100"),
        ("rtx-4090", "rtx-4090"),
        ("RTX 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
    ],
)
def test_a_card_is_known_as_users_and_torch_write_it(name: str, card: str) -> None:
    assert cards.named(name) is cards.CARDS[card]


@pytest.mark.parametrize("name", ["a GPU of 24 GB", "NVIDIA Tesla T4", "", "this machine without a GPU"])
def test_other_names_are_of_no_card(name: str) -> None:
    assert cards.named(name) is None


def test_a_size_alone_has_no_rates() -> None:
    assert rates.of(gpu("24")) is None
    known = rates.of(gpu("h100"))
    assert known is not None
    assert known.flops == 989e12


def test_a_cpu_s_rates_are_measured() -> None:
    known = rates.of(Hardware("this machine without a GPU", CPU, 10**9))
    assert known is not None
    assert min(known.flops, known.bandwidth) > 1e6
    assert known.share == speed.TRAINING_SHARE["cpu"]
