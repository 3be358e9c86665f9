"""However a batch is computed (packed, padded, accumulated, recomputed), its gradient is that of each row alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import method_project
import pytest
import torch
from datasets import Dataset
from model_kinds import KINDS, assert_equal, gradients, make, token_log_probs
from profiles import EXACT
from tiny_model import make_tokenizer
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer

from tunesmith.models.attention.packed_attention import attend_packed
from tunesmith.models.preference_pairs import Pair
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.objectives import dpo
from tunesmith.training.trainer_config import one_precision

EXAMPLES = [
    ([3, 4, 5, 6, 7, 8], [11, 12, 2]),
    ([9], [14, 15, 16, 17, 18, 19, 20, 2]),
    ([21, 22], [2]),
    ([23, 24, 25, 26], [27, 28, 29, 2]),
]
"""Prompts and completions. Packed into 12 tokens they are three sequences, whose trained tokens differ in number."""
PAIRS = [
    Pair("a", [3, 4, 5, 6, 7, 8], [11, 12, 2], [13, 2]),
    Pair("b", [9, 10], [14, 15, 16, 17, 18, 2], [19, 2]),
    Pair("c", [3, 4, 5], [20, 2], [21, 22, 23, 2]),
]
REFERENCE = dpo.Reference([{"id": p.id, "chosen": -11.0, "rejected": -9.0} for p in PAIRS], Path("reference"))


@dataclass(frozen=True)
class Step:
    """How one step computes all examples."""

    batch: int
    accumulated: int = 1
    packed: bool = True
    recomputed: bool = False


STEPS = {
    "packed": Step(batch=3),
    "packed, accumulated and recomputed": Step(batch=1, accumulated=3, recomputed=True),
    "padded and accumulated": Step(batch=2, accumulated=2, packed=False),
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return make_tokenizer()


class FirstGradients(TrainerCallback):
    """Keeps the gradients that the optimizer is about to apply."""

    found: dict[str, Tensor]

    def on_pre_optimizer_step(self, *_: Any, model: PreTrainedModel, **__: Any) -> None:
        self.found = gradients(model)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_an_sft_step_has_the_gradient_of_each_row_alone(
    kind: str, step: Step, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    plain, model, kept = make(kind), make(kind), FirstGradients()
    assert attend_packed(model)
    columns = {
        "input_ids": [prompt + completion for prompt, completion in EXAMPLES],
        "completion_mask": [[0] * len(prompt) + [1] * len(completion) for prompt, completion in EXAMPLES],
    }
    config = SFTConfig(
        str(tmp_path),
        per_device_train_batch_size=step.batch,
        gradient_accumulation_steps=step.accumulated,
        completion_only_loss=True,
        packing=step.packed,
        max_length=12,
        gradient_checkpointing=step.recomputed,
        max_grad_norm=0.0,
        max_steps=1,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    )
    trainer = SFTTrainer(model, args=config, train_dataset=Dataset.from_dict(columns), processing_class=tokenizer)
    trainer.add_callback(kept)
    with one_precision(trainer):
        trainer.train()
    total = sum(len(completion) for _, completion in EXAMPLES)
    (-sum(token_log_probs(plain, *example).sum() for example in EXAMPLES) / total).backward()
    assert_equal(kept.found, gradients(plain))


@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("kind", KINDS)
def test_dpo_has_the_loss_and_gradient_of_each_row_alone(
    kind: str, recomputed: bool, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    plain, model = make(kind), make(kind)
    policy: Any = type("Policy", (), {"model": model, "tokenizer": tokenizer})
    entry = Dpo(**method_project.PARAMS["dpo"]["dpo"] | {"weights": "full", "beta": 0.1})
    trainer = dpo.make_trainer(policy, PAIRS, REFERENCE, entry, EXACT, tmp_path)
    model.train()
    if recomputed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss = trainer.compute_loss(model, trainer.data_collator([trainer.train_dataset[i] for i in range(len(PAIRS))]))
    loss.backward()
    ratios = [
        token_log_probs(plain, pair.prompt, pair.chosen).sum()
        + 11.0
        - (token_log_probs(plain, pair.prompt, pair.rejected).sum() + 9.0)
        for pair in PAIRS
    ]
    expected = -logsigmoid(0.1 * torch.stack(ratios)).mean()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    assert_equal(gradients(model), gradients(plain))


def test_accumulated_pairs_weigh_the_same_in_a_batch_that_is_shorter(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    plain, model, kept = make("llama"), make("llama"), FirstGradients()
    policy: Any = type("Policy", (), {"model": model, "tokenizer": tokenizer})
    batches = {"batch_size": 2, "gradient_accumulation": 2, "max_grad_norm": 1e9}
    entry = Dpo(**method_project.PARAMS["dpo"]["dpo"] | {"weights": "full", "beta": 0.1} | batches)
    trainer = dpo.make_trainer(policy, PAIRS, REFERENCE, entry, EXACT, tmp_path)
    assert len(PAIRS) == 3  # in a batch of two and one of one
    trainer.add_callback(kept)
    with one_precision(trainer):
        trainer.train()
    expected = [
        -logsigmoid(
            0.1
            * (
                token_log_probs(plain, pair.prompt, pair.chosen).sum()
                - token_log_probs(plain, pair.prompt, pair.rejected).sum()
                + 2.0
            )
        )
        for pair in PAIRS
    ]
    torch.stack(expected).mean().backward()
    assert_equal(kept.found, gradients(plain))
