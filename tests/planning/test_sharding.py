import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.core.errors import ParamsError
from tunesmith.planning import cards, fit, memory, methods, model_shape, sharding, shards, speed
from tunesmith.planning.hardware import Hardware
from tunesmith.planning.speed import Rates
from tunesmith.planning.workload import CPU, GPU, Workload

GB, GIB = 10**9, 2**30
SMALL, LARGE = model_shape.read("llama-3.1-8b"), model_shape.read("llama-3.1-70b")
SFT = Workload(objective="sft", weights="lora", batch=4, length=1024, machine=GPU, rank=16)
FULL = replace(SFT, weights="full")
EIGHT = Hardware("a GPU of 80 GB", GPU, 80 * GB, 8)


@pytest.fixture
def processes() -> Iterator[int]:
    """Three processes, of which only the first is there."""
    dist.init_process_group("fake", rank=0, world_size=3, store=FakeStore())
    yield 3
    dist.destroy_process_group()


@pytest.mark.parametrize("tied", [True, False])
def test_a_process_holds_what_fully_shard_gives_it(processes: int, tied: bool) -> None:
    """The first process, whose share is the largest where tensors do not divide evenly: 100 rows, 64 and 70."""
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=70,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=100,
        tie_word_embeddings=tied,
    )
    model, mesh = LlamaForCausalLM(config), init_device_mesh("cpu", (processes,))
    shape = model_shape.from_model(model)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    sizes = [parameter.to_local().numel() for parameter in model.parameters() if isinstance(parameter, DTensor)]
    work = sharding.across(replace(FULL, machine=CPU), processes, "full")
    norms = 5 * math.ceil(64 / processes) - math.ceil(5 * 64 / processes)  # which are counted as one tensor
    assert memory.predict(shape, work).weights == 4 * (sum(sizes) - norms)


@pytest.mark.parametrize("kind", ["lora", "qlora", "full"])
def test_shares_are_parts_of_the_whole_and_the_constants_of_nf4_are_not_shared(kind: str) -> None:
    whole = memory.predict(SMALL, replace(SFT, weights=kind))  # type: ignore[arg-type]
    part = memory.predict(SMALL, sharding.across(replace(SFT, weights=kind), 8, "full"))  # type: ignore[arg-type]
    constants = int(shards.CONSTANTS * SMALL.linear_parameters) if kind == "qlora" else 0
    assert part.weights == pytest.approx((whole.weights - constants) / 8 + constants, rel=1e-6)
    for name in ("gradients", "optimizer", "adapter"):  # an adapter's are whole in each process
        each = getattr(whole, name) / (8 if kind == "full" else 1)
        assert getattr(part, name) == pytest.approx(each, rel=1e-6)
    assert part.communication > whole.communication == 0


def test_a_process_of_ddp_holds_everything_and_buckets_of_all_gradients() -> None:
    alone, one = memory.predict(SMALL, SFT), memory.predict(SMALL, sharding.across(SFT, 8, "none"))
    assert one.communication == one.gradients
    assert one.total == alone.total + one.gradients + shards.NCCL


def test_one_process_shares_nothing() -> None:
    assert sharding.across(SFT, 1, "full") == SFT
    assert sharding.choose(LARGE, SFT, GB, 1) == "none"


@pytest.mark.parametrize("gigabytes", [12, 24, 40, 80])
@pytest.mark.parametrize("work", [SFT, FULL])
def test_nothing_is_sharded_that_fits_on_each(work: Workload, gigabytes: int) -> None:
    fits = fit.fits(SMALL, sharding.across(work, 8, "none"), gigabytes * GB)
    assert sharding.choose(SMALL, work, gigabytes * GB, 8) == ("none" if fits else "full")


@pytest.mark.parametrize("examples", [8, 12, 16, 96, 1])
@pytest.mark.parametrize("processes", [1, 2, 3, 4, 8])
def test_batches_of_all_processes_make_the_step(examples: int, processes: int) -> None:
    if examples % processes:
        with pytest.raises(ParamsError, match=f"a step of {examples} examples"):
            sharding.divide(examples, processes)
        return
    batches = sharding.divide(examples, processes)
    assert all(batch * accumulation * processes == examples for batch, accumulation in batches)
    assert batches == sorted(batches, reverse=True)
    assert batches[-1][0] == 1


def test_batches_keep_their_bounds_and_an_error_names_numbers_of_processes_that_divide() -> None:
    assert sharding.divide(64, 2, most=8, least=4) == [(8, 4), (4, 8)]
    with pytest.raises(ParamsError) as raised:
        sharding.divide(16, 8, least=4)
    assert "take 1, 2, 4 processes" in str(raised.value)


def test_a_70b_is_sharded_over_eight_gpus_as_published() -> None:
    """NeMo's recipes take 8 H100 of 80 GB for LoRA on Llama 3 70B, and 32 for all weights."""
    [[lora, qlora, full]] = methods.survey(LARGE, ["sft"], EIGHT, length=1024, rank=16)
    assert (lora.workload.sharding, lora.fits) == ("full", True)
    assert (qlora.workload.sharding, qlora.fits) == ("none", True)  # 40 GB of the base fit on each
    assert not full.fits
    assert sharding.least_processes(LARGE, full.workload, EIGHT.budget) == 32


def test_what_is_shared_falls_with_more_gpus_as_torchtitan_measured() -> None:
    """Llama 3.1 8B, all weights, the same batch: torch reserved 82.4 GiB on each of 8 GPUs, 67.0 on each of 128."""
    parts = [memory.predict(SMALL, sharding.across(FULL, count, "full")) for count in (8, 128)]
    eight, many = (part.weights + part.gradients + part.optimizer for part in parts)
    assert (eight - many) / GIB == pytest.approx(82.4 - 67.0, rel=0.1)


def test_a_step_takes_as_long_as_its_exchanges_where_the_link_is_slow() -> None:
    h100 = cards.CARDS["h100"]
    fast = Rates("", h100.flops, h100.bandwidth, 0.43, h100.link)
    slow = replace(fast, link=1e9)
    work = sharding.across(SFT, 8, "full")
    quick, waiting = speed.predict(LARGE, work, fast), speed.predict(LARGE, work, slow)
    assert quick.seconds > quick.communication
    assert waiting.seconds == waiting.communication == pytest.approx(450 * quick.communication)
    assert quick.tokens == 8 * SFT.batch * SFT.length


def test_gradients_are_exchanged_once_a_step_and_sharded_weights_for_each_batch() -> None:
    none, full = (sharding.across(SFT, 2, kind) for kind in ("none", "full"))  # type: ignore[arg-type]
    assert speed.exchanged(SMALL, none, 4) == speed.exchanged(SMALL, none, 1) == memory.artifact(SMALL, SFT)
    assert speed.exchanged(SMALL, full, 4) == 4 * speed.exchanged(SMALL, full, 1)
    weights = SMALL.parameters * GPU.compute_bytes
    assert speed.exchanged(SMALL, full, 1) == pytest.approx(weights, rel=0.02)  # half, forward and backward


def test_each_token_of_a_rollout_gathers_sharded_weights() -> None:
    work = replace(SFT, objective="grpo", batch=8, rollouts=8, group=8, completion=512)
    rates = Rates("", 1e15, 3e12, 0.4, 30e9)
    sharded, whole = (speed.predict(SMALL, sharding.across(work, 2, kind), rates) for kind in ("full", "none"))  # type: ignore[arg-type]
    assert sharded.generation > 5 * whole.generation


def test_torch_is_where_the_buffers_were_counted() -> None:
    """`shards.GATHERED_LAYERS` was counted in torch 2.13: count again (`python -m benchmarks.sharding`)."""
    assert torch.__version__.startswith("2.13.")
