"""DPO, KTO and reward models: rows as tokens, the same losses as TRL's own, held-out preference."""

from pathlib import Path
from typing import Any

import method_project
import pytest
import torch
from datasets import Dataset
from profiles import EXACT
from tiny_model import TokensRead
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

from tunesmith.core import ready_rows
from tunesmith.core.errors import DataError
from tunesmith.models import loading, preference_pairs
from tunesmith.models.loading import OpenModel
from tunesmith.models.settings import Lora
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.entries.kto import Kto
from tunesmith.training.entries.reward import Reward
from tunesmith.training.objectives import dpo, kto, pair_batches, reward

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


def without_newline(policy: OpenModel, ids: torch.Tensor, mask: torch.Tensor) -> None:
    """Take the newline that the template writes after the end of turn out of ``mask``: TRL trains it, we do not."""
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    assert (ids[range(len(ids)), last] == policy.tokenizer.encode("\n")[0]).all()
    mask[range(len(ids)), last] = 0


@pytest.mark.parametrize(
    "losses",
    [
        {},
        {"loss_type": {"ipo": 0.5, "sft": 0.2}},
        {"loss_type": ["robust", "sigmoid_norm"], "label_smoothing": 0.1},
        {"loss_type": ["hinge", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
                       "apo_down", "discopop"], "label_smoothing": 0.01},
    ],
    ids=["sigmoid", "ipo+sft", "robust+sigmoid_norm", "others"],
)  # fmt: skip
def test_dpo_has_the_loss_and_gradients_of_trls_own_from_fewer_tokens(
    policy: OpenModel,
    tiny_base: Path,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    tokens_read: TokensRead,
    losses: dict[str, Any],
) -> None:
    base = loading.open_model(tiny_base, tiny_base, EXACT)
    settings = Dpo(**method_project.PARAMS["dpo"]["dpo"] | losses)
    pairs = preference_pairs.encode(policy.tokenizer, rows, 200, "dpo", Path("rows"))
    chosen_and_rejected = preference_pairs.log_probs(base, pairs, 2)
    reference = dpo.Reference(
        [{"id": p.id, "chosen": c, "rejected": r} for p, (c, r) in zip(pairs, chosen_and_rejected, strict=True)],
        Path("reference"),
    )
    ours = dpo.make_trainer(policy, pairs, reference, settings, EXACT, tmp_path)
    place = {row["id"]: number for number, row in enumerate(rows)}
    features = sorted((ours.train_dataset[i] for i in range(4)), key=lambda feature: place[feature["id"]])
    tokens_read(policy)
    loss = ours.compute_loss(policy.model, ours.data_collator(features))
    loss.backward()
    learned = gradients(policy.model)

    reference_model = loading.open_model(tiny_base, tiny_base, EXACT).model
    theirs = DPOTrainer(
        policy.model,
        ref_model=reference_model,
        args=DPOConfig(
            str(tmp_path),
            beta=settings.beta,
            loss_type=list(settings.loss_type),
            loss_weights=list(settings.loss_type.values()),
            label_smoothing=settings.label_smoothing,
            **PLAIN,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )
    tokens_read.counts.append(0)
    batch = theirs.data_collator([theirs.train_dataset[i] for i in range(4)])
    without_newline(policy, batch["input_ids"], batch["completion_mask"])
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


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
def test_kto_has_the_loss_and_gradients_of_trls_own(
    policy: OpenModel, tiny_base: Path, rows: list[dict[str, Any]], tmp_path: Path, loss_type: Any
) -> None:
    names = ("chosen", "rejected", "rejected", "chosen")
    marked: list[Any] = [
        {"id": str(i), "prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
        for i, (row, name) in enumerate(zip(rows, names, strict=True))
    ]
    weights: Any = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    settings = Kto(**method_project.PARAMS["kto"]["kto"] | weights, loss_type=loss_type)
    marks = kto.encode(policy.tokenizer, marked, 200, "kto", Path("rows"))
    order = kto.in_order(marks, settings)
    ours = kto.make_trainer(policy, marks, settings, EXACT, tmp_path)
    # The reference of a real training is the policy at its start; here it is the base, so that losses are not 0.5.
    values = kto.columns(loading.open_model(tiny_base, tiny_base, EXACT), order, settings)
    features = [dict(zip(values, feature, strict=True)) for feature in zip(*values.values(), strict=True)]
    loss = ours.compute_loss(policy.model, ours.data_collator(features))
    loss.backward()
    learned = gradients(policy.model)
    assert ours.data_collator.rows_of(1) == [mark.id for mark in order]

    theirs = KTOTrainer(
        policy.model,
        ref_model=loading.open_model(tiny_base, tiny_base, EXACT).model,
        args=KTOConfig(str(tmp_path), beta=settings.beta, loss_type=loss_type, **weights, **PLAIN),
        train_dataset=Dataset.from_list([marked[int(mark.id)] for mark in order]),
        processing_class=policy.tokenizer,
    )
    batch = theirs.data_collator([theirs.train_dataset[i] for i in range(4)])
    for prefix in ("", "KL_") if loss_type == "kto" else ("",):
        without_newline(policy, batch[f"{prefix}input_ids"], batch[f"{prefix}completion_mask"])
    expected = theirs.compute_loss(policy.model, batch)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learned, gradients(policy.model), rtol=1e-3, atol=1e-5)


def mark(number: int, *, good: bool) -> kto.Mark:
    return kto.Mark(str(number), [1] * (number % 7 + 1), [number, 2], good)


def test_every_answer_is_in_one_batch_and_meets_another_prompt_of_it() -> None:
    marks = [mark(number, good=number % 3 == 0) for number in range(101)]
    order = kto.in_order(marks, Kto(**method_project.PARAMS["kto"]["kto"] | {"batch_size": 4, "seed": 1}))
    assert sorted(order, key=lambda each: int(each.id)) == marks
    assert order != marks
    for begin in range(0, 100, 4):
        batch = order[begin : begin + 4]
        assert max(each.length for each in batch) - min(each.length for each in batch) <= 2
    others = kto.mismatched(order, 4)
    assert all(other != each.completion for other, each in zip(others, order, strict=True))
    assert [tuple(other) for other in others[:4]] == [tuple(order[place].completion) for place in (3, 0, 1, 2)]


def test_the_rarer_mark_weighs_more_unless_params_say_otherwise() -> None:
    params = method_project.PARAMS["kto"]["kto"]
    marks = [mark(number, good=number % 4 == 0) for number in range(8)]
    assert kto.weights(marks, Kto(**params)) == (3.0, 1.0)
    assert kto.weights(marks, Kto(**params, desirable_weight=1.0)) == (1.0, 1.0)


def test_one_mark_alone_is_an_error_in_training_and_measures_nothing_in_validation(
    policy: OpenModel, rows: list[Any]
) -> None:
    marked: list[Any] = [
        {"id": row["id"], "prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in rows
    ]
    marks = kto.encode(policy.tokenizer, marked, 200, "kto", Path("rows"))
    with pytest.raises(DataError, match="rows: all 4 answers are marked good"):
        kto.check_both(marks, Path("rows"))
    assert kto.validation(policy, marks, Kto(**method_project.PARAMS["kto"]["kto"])) == (None, None)


def test_a_policy_equal_to_its_reference_is_indifferent(policy: OpenModel, rows: list[dict[str, Any]]) -> None:
    pairs = preference_pairs.encode(policy.tokenizer, rows, 200, "dpo", Path("rows"))
    values = preference_pairs.log_probs(policy, pairs, 2)
    preference = pair_batches.implicit_preference(values, values, 0.1, 10)
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
