from types import SimpleNamespace
from typing import Any

import pytest
import torch
from model_kinds import EXACTLY, KINDS, assert_equal, gradients, make, token_log_probs
from profiles import EXACT
from trl.trainer.utils import add_fused_lm_head

from tunesmith.models.attention import shared_prompts
from tunesmith.models.attention.packed_attention import attend_packed
from tunesmith.models.attention.shared_prompts import SharedPrompts
from tunesmith.models.attention.unpadded_rows import UnpaddedRows
from tunesmith.models.log_probs import likelihoods, padded

PAIRS = [([3, 4, 5, 6, 7, 8], [11, 12, 2]), ([3, 4, 5, 6, 7, 8], [13, 2]), ([9], [14, 15, 16, 17, 18, 2])]
OUTPUTS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask")


def batch() -> dict[str, Any]:
    """The pairs padded on both sides, with labels for their completions."""
    parts = [padded([row[side] for row in PAIRS], 0, left=side == 0) for side in (0, 1)]
    ids, mask = (torch.cat(tensors, 1) for tensors in zip(*parts, strict=True))
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, : parts[0][0].shape[1]] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "fused_lm_head": True, "use_cache": False}


def read(model: Any) -> list[int]:
    """The tokens of every call of the model, which is appended to."""
    counts: list[int] = []
    model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: counts.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    return counts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
def test_rows_without_padding_have_the_log_probabilities_and_gradients_of_each_row_alone(
    kind: str, recomputed: bool
) -> None:
    plain, model = make(kind), make(kind)
    add_fused_lm_head(model)
    attend_packed(model)
    if recomputed:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    tokens = read(model)
    found = UnpaddedRows(model)(**batch()).log_probs
    assert tokens == [sum(len(prompt) + len(completion) for prompt, completion in PAIRS)]
    expected = torch.zeros_like(found)
    width = max(len(prompt) for prompt, _ in PAIRS)
    for row, (prompt, completion) in enumerate(PAIRS):
        expected[row, width - 1 : width - 1 + len(completion)] = token_log_probs(plain, prompt, completion)
    torch.testing.assert_close(found, expected, **EXACTLY)
    for values in (found, expected):
        (values.sum(1) / 10).exp().mean().backward()  # weighs rows, as a preference loss does
    assert_equal(gradients(model), gradients(plain))


def test_every_output_returns_to_its_place_in_the_batch() -> None:
    model = make("llama")
    add_fused_lm_head(model, outputs=OUTPUTS[:-1])
    before = UnpaddedRows(model)(**batch())
    attend_packed(model)
    after = UnpaddedRows(model)(**batch())
    for name in OUTPUTS:
        torch.testing.assert_close(getattr(after, name), getattr(before, name), **EXACTLY)
    torch.testing.assert_close(after.loss, before.loss, **EXACTLY)


@pytest.mark.parametrize(
    ("shared", "unpadded", "device", "shares"),
    [(100, 101, "cpu", True), (101, 100, "cpu", False), (60, 100, "cuda", False), (50, 100, "cuda", True)],
)
def test_prompts_are_shared_where_that_is_faster(shared: int, unpadded: int, device: str, shares: bool) -> None:
    assert shared_prompts.fewer_tokens(shared, unpadded, device) is shares


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_likelihood_is_that_of_the_row_alone(kind: str, shares: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_prompts, "fewer_tokens", lambda *_: shares)
    plain, model = make(kind), make(kind)
    policy: Any = SimpleNamespace(model=model, tokenizer=SimpleNamespace(pad_token_id=0), profile=EXACT)
    attend_packed(model)
    tokens = read(model)
    results = likelihoods(policy, PAIRS, batch_size=3)
    windows = KINDS[kind].get("sliding_window")
    assert tokens == ([2 * 5, 3 * 7] if shares and not windows else [24])
    for (prompt, completion), result in zip(PAIRS, results, strict=True):
        with torch.no_grad():
            expected = token_log_probs(plain, prompt, completion).sum()
        assert result.log_prob == pytest.approx(float(expected), abs=1e-5)


def test_a_model_that_recomputes_its_layers_shares_no_prompt_and_computes_no_padding() -> None:
    model = make("llama").train()
    add_fused_lm_head(model)
    attend_packed(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    tokens = read(model)
    SharedPrompts(model, max(len(completion) for _, completion in PAIRS))(**batch())
    assert tokens == [sum(len(prompt) + len(completion) for prompt, completion in PAIRS)]


def test_the_loss_that_balances_experts_is_over_all_tokens_but_padding() -> None:
    model = make("qwen3_moe", router_aux_loss_coef=0.1)
    add_fused_lm_head(model)
    inputs = batch() | {"output_router_logits": True}
    shared = SharedPrompts(model, max(len(completion) for _, completion in PAIRS))
    plain = shared(**inputs).aux_loss
    assert attend_packed(model)
    torch.testing.assert_close(shared(**inputs).aux_loss, plain, **EXACTLY)
