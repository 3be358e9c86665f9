from dataclasses import replace

import pytest

from tunesmith.planning import fit, memory, model_shape
from tunesmith.planning.workload import GPU, Workload

LLAMA = model_shape.read("llama-3.1-8b")
SFT = Workload(objective="sft", weights="lora", batch=2, length=2048, machine=GPU, rank=16)
GB = 10**9


@pytest.mark.parametrize("gigabytes", [8, 24, 40, 80, 200])
def test_layers_are_recomputed_only_where_the_training_does_not_fit_otherwise(gigabytes: int) -> None:
    budget = gigabytes * GB
    plain = memory.predict(LLAMA, fit.with_recomputation(SFT, False)).total
    assert fit.recompute(LLAMA, SFT, budget) == (plain > budget)


@pytest.mark.parametrize("gigabytes", [8, 24, 40, 80, 200])
def test_the_batch_is_the_largest_divisor_of_the_step_that_fits(gigabytes: int) -> None:
    budget = gigabytes * GB
    size = fit.batch(LLAMA, SFT, 12, budget)
    assert 12 % size == 0
    for other in (1, 2, 3, 4, 6, 12):
        if other > size:
            assert not fit.fits(LLAMA, fit.with_batch(SFT, 12, other), budget)
    assert size == 1 or fit.fits(LLAMA, fit.with_batch(SFT, 12, size), budget)


def test_a_smaller_batch_comes_before_recomputation() -> None:
    small, large = (
        memory.predict(LLAMA, fit.with_batch(fit.with_recomputation(SFT, False), 8, n)).total for n in (1, 8)
    )
    chosen = fit.choose(LLAMA, SFT, 8, (small + large) // 2)
    assert not chosen.machine.checkpointing
    assert chosen.batch * chosen.accumulation == 8
    assert chosen.batch < 8
    assert fit.choose(LLAMA, SFT, 8, small - 1).machine.checkpointing


def test_gradients_that_are_summed_exist_during_the_next_batch() -> None:
    full = replace(SFT, weights="full", batch=1, machine=replace(GPU, checkpointing=False))
    alone, summed = (memory.predict(LLAMA, replace(full, accumulation=count)) for count in (1, 4))
    assert summed.total > alone.total
