"""The entries of trainings: learning rates by the kind of weights and the size of the model, losses of DPO."""

from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith.core.params import WeightsKind
from tunesmith.training.entries.common import Entry
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.entries.kto import Kto
from tunesmith.training.entries.sft import Sft


@pytest.mark.parametrize(
    ("entry", "weights", "hidden_size", "rate"),
    [
        (Sft, "full", 4096, 2e-5),  # 7 to 8 B: the defaults of TRL, and ten times as much for an adapter
        (Sft, "lora", 4096, 2e-4),
        (Dpo, "full", 4096, 1e-6),
        (Kto, "qlora", 4096, 1e-5),
        (Sft, "qlora", 8192, 1.2e-4),  # 65 to 70 B
        (Sft, "lora", 576, 2.3e-4),  # SmolLM2-135M
    ],
)
def test_a_learning_rate_that_params_leave_out_follows_from_weights_and_size(
    entry: type[Entry], weights: WeightsKind, hidden_size: int, rate: float
) -> None:
    values: dict[str, Any] = {"dataset": "rows", "weights": weights} | ({} if entry is Sft else {"start": "base"})
    assert entry(**values).at_size(hidden_size).learning_rate == rate
    assert entry(**values, learning_rate=3e-3).at_size(hidden_size).learning_rate == 3e-3


@pytest.mark.parametrize(
    ("losses", "weighted"),
    [
        ({}, {"sigmoid": 1.0}),
        ({"loss_type": "ipo"}, {"ipo": 1.0}),
        ({"loss_type": ["sigmoid", "sft"]}, {"sigmoid": 1.0, "sft": 1.0}),
        ({"loss_type": {"sigmoid": 1, "sft": 0.2}}, {"sigmoid": 1.0, "sft": 0.2}),
        ({"loss_type": "robust", "label_smoothing": 0.1}, {"robust": 1.0}),
        ({"loss_type": "simpo"}, "Input should be 'sigmoid'"),
        ({"loss_type": []}, "at least 1"),
        ({"label_smoothing": 0.1}, "label_smoothing is read by the losses robust"),
        ({"loss_type": "exo_pair"}, "needs a label_smoothing above 0"),
    ],
)
def test_dpo_takes_one_loss_or_several_with_weights(losses: dict[str, Any], weighted: dict[str, float] | str) -> None:
    if isinstance(weighted, str):
        with pytest.raises(ValidationError, match=weighted):
            Dpo(dataset="rows", start="base", **losses)
    else:
        assert Dpo(dataset="rows", start="base", **losses).loss_type == weighted
