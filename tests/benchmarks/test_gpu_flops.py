"""The arithmetic of benchmarks/gpu: operations of a training, and lengths of the rows of a batch."""

import pytest
import torch

from benchmarks.gpu import clock, flops, parts
from tunesmith.planning import model_shape


def test_the_utilization_published_for_nemo_follows_from_its_tokens_a_second() -> None:
    shape = model_shape.read("llama-3.1-8b")
    a_token = flops.training(shape, "lora", [4096]) / 4096
    assert 12_473 * a_token == pytest.approx(402e12, rel=0.005)
    assert flops.utilization(12_473 * a_token, 1.0, "NVIDIA H100 80GB HBM3") == pytest.approx(0.406, abs=0.002)


def test_all_weights_take_half_as_much_again_as_an_adapter() -> None:
    shape = model_shape.read("smollm2-135m")
    assert flops.training(shape, "full", [100, 20]) == 1.5 * flops.training(shape, "lora", [100, 20])


def test_packed_rows_attend_to_themselves_alone() -> None:
    shape = model_shape.read("smollm2-135m")
    assert flops.forward(shape, [64, 64]) == 2 * flops.forward(shape, [64])
    assert flops.forward(shape, [128]) > flops.forward(shape, [64, 64])


def test_a_card_of_an_unknown_name_has_no_utilization() -> None:
    assert flops.utilization(1e12, 1.0, "a processor") is None


@pytest.mark.parametrize(
    "batch",
    [
        {"input_ids": torch.zeros(2, 5), "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]])},
        {"input_ids": torch.zeros(1, 5), "position_ids": torch.tensor([[0, 1, 2, 0, 1]])},
        {"input_ids": [torch.zeros(3), torch.zeros(2)]},
    ],
)
def test_rows_are_counted_without_padding(batch: dict[str, torch.Tensor]) -> None:
    assert clock.lengths(batch) == [3, 2]


def test_parts_are_named_once_and_fit_their_time() -> None:
    names = [part.name for part in parts.PARTS]
    assert len(set(names)) == len(names)
    assert sum(part.seconds for part in parts.PARTS) <= 8 * 60
