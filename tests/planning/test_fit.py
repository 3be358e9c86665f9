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
    assert fit.recompute(LLAMA, SFT, budget) == (plain > fit.SHARE * budget)


def test_gradients_that_are_summed_exist_during_the_next_batch() -> None:
    full = replace(SFT, weights="full", batch=1, machine=replace(GPU, checkpointing=False))
    alone, summed = (memory.predict(LLAMA, replace(full, accumulation=count)) for count in (1, 4))
    assert summed.total > alone.total
