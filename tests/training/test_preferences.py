"""DPO and reward models: pairs as tokens, the same losses as TRL's own, held-out preference."""

from pathlib import Path
from typing import Any

import method_project
import pytest
import torch
from conftest import TokensRead
from datasets import Dataset
from profiles import EXACT
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from tunesmith.core import ready_rows
from tunesmith.core.errors import DataError
from tunesmith.models import loading, preference_pairs
from tunesmith.models.loading import OpenModel
from tunesmith.models.settings import Lora
from tunesmith.training import dpo, pair_batches, reward
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.entries.reward import Reward

LORA = Lora(rank=4, alpha=8, dropout=0.0)
PLAIN: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "per_device_train_batch_size": 4,
    "max_length": None,
}


@pytest.fixture
def rows(tiny_base: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """Four pairs whose prompts and answers differ in length."""
    folder = method_project.make(tmp_path / "project", tiny_base)
    pairs = ready_rows.read(folder / "data" / "ready" / "pairs" / "train.jsonl")[:4]
    pairs[1]["prompt"] = [{"role": "system", "content": "Add."}, *pairs[1]["prompt"]]
    return pairs


@pytest.fixture
def policy(tiny_base: Path) -> OpenModel:
    """A policy whose adapter is not zero, so that it differs from its reference."""
    return stirred(loading.open_policy(tiny_base, tiny_base, EXACT, "lora", LORA))


def stirred(opened: OpenModel) -> OpenModel:
    torch.manual_seed(3)
    for name, parameter in opened.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return opened


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    values = [p.grad.clone() for p in model.parameters() if p.requires_grad and p.grad is not None]
    model.zero_grad()
    return values


def test_dpo_has_the_loss_and_gradients_of_trls_own_from_fewer_tokens(
    policy: OpenModel, tiny_base: Path, rows: list[dict[str, Any]], tmp_path: Path, tokens_read: TokensRead
) -> None:
    base = loading.open_model(tiny_base, tiny_base, EXACT)
    settings = Dpo(**method_project.PARAMS["dpo"]["dpo"])
    pairs = preference_pairs.encode(policy.tokenizer, rows, 200, "dpo", Path("rows"))
    chosen_and_rejected = preference_pairs.log_probs(base, pairs, 2)
    reference = dpo.Reference(
        [{"id": p.id, "chosen": c, "rejected": r} for p, (c, r) in zip(pairs, chosen_and_rejected, strict=True)],
        Path("reference"),
    )
    ours = dpo.make_trainer(policy, pairs, reference, settings, EXACT, tmp_path)
    features = [ours.train_dataset[i] for i in range(4)]
    tokens_read(policy)
    loss = ours.compute_loss(policy.model, ours.data_collator(features))
    loss.backward()
    learned = gradients(policy.model)

    reference_model = loading.open_model(tiny_base, tiny_base, EXACT).model
    theirs = DPOTrainer(
        policy.model,
        ref_model=reference_model,
        args=DPOConfig(str(tmp_path), beta=settings.beta, **PLAIN),
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )
    tokens_read.counts.append(0)
    batch = theirs.data_collator([theirs.train_dataset[i] for i in range(4)])
    # TRL also scores the newline that its template writes after the end of turn; here nothing is trained there.
    newline = policy.tokenizer.encode("\n")[0]
    ids, mask = batch["input_ids"], batch["completion_mask"]
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    assert (ids[range(8), last] == newline).all()
    mask[range(8), last] = 0
    expected = theirs.compute_loss(policy.model, batch)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learned, gradients(policy.model), rtol=1e-3, atol=1e-5)
    shared, whole = tokens_read.counts
    assert shared < 0.75 * whole
    assert ours.data_collator.rows_of(1) == [row["id"] for row in rows]


def test_a_reward_model_has_the_loss_and_gradients_of_trls_own_from_fewer_tokens(
    tiny_base: Path, rows: list[dict[str, Any]], tmp_path: Path, tokens_read: TokensRead
) -> None:
    torch.manual_seed(1)
    scorer = stirred(loading.new_reward_model(tiny_base, tiny_base, EXACT, "lora", LORA))
    pairs = preference_pairs.encode(scorer.tokenizer, rows, 200, "reward", Path("rows"))
    settings = Reward(**method_project.PARAMS["reward"]["reward"])
    ours = reward.make_trainer(scorer, pairs, settings, EXACT, tmp_path)
    tokens_read(scorer)
    loss = ours.compute_loss(scorer.model, ours.data_collator([ours.train_dataset[i] for i in range(4)]))
    loss.backward()
    learned = gradients(scorer.model)

    tokens = [{"chosen_ids": pair.prompt + pair.chosen, "rejected_ids": pair.prompt + pair.rejected} for pair in pairs]
    theirs = RewardTrainer(
        scorer.model,
        args=RewardConfig(str(tmp_path), **PLAIN),
        train_dataset=Dataset.from_list(tokens),
        processing_class=scorer.tokenizer,
    )
    tokens_read.counts.append(0)
    expected = theirs.compute_loss(scorer.model, theirs.data_collator(tokens))
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learned, gradients(scorer.model), rtol=1e-3, atol=1e-5)
    shared, whole = tokens_read.counts
    assert shared < 0.75 * whole


def test_a_policy_equal_to_its_reference_is_indifferent(policy: OpenModel, rows: list[dict[str, Any]]) -> None:
    pairs = preference_pairs.encode(policy.tokenizer, rows, 200, "dpo", Path("rows"))
    values = preference_pairs.log_probs(policy, pairs, 2)
    preference = pair_batches.implicit_preference(values, values, 0.1)
    assert (preference.accuracy, preference.margin) == (0.5, 0)


def test_pairs_without_reference_values_are_an_error(rows: list[dict[str, Any]], policy: OpenModel) -> None:
    pairs = preference_pairs.encode(policy.tokenizer, rows, 200, "dpo", Path("rows"))
    reference = dpo.Reference([{"id": pairs[0].id, "chosen": -1.0, "rejected": -2.0}], Path("reference.jsonl"))
    assert reference.of(pairs[:1]) == [(-1.0, -2.0)]
    with pytest.raises(DataError, match=r"reference\.jsonl: no log-probabilities for 3 of 4 pairs"):
        reference.of(pairs)


def test_pairs_too_long_are_counted_before_training(rows: list[dict[str, Any]], policy: OpenModel) -> None:
    with pytest.raises(DataError, match=r"4 of 4 rows are longer than dpo\.max_length"):
        preference_pairs.encode(policy.tokenizer, rows, 5, "dpo", Path("rows"))
