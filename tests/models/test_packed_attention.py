from copy import deepcopy
from typing import Any

import pytest
import torch
from tiny_model import make_model
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from tunesmith.models.packed_attention import packs_exactly, attend_packed

LENGTHS = [5, 1, 12, 7]
SMALL: dict[str, Any] = {
    **{"vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "initializer_range": 0.5},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "sliding_window": 4},
}
LAYERS = ["sliding_attention", "full_attention"]
KINDS: dict[str, dict[str, Any]] = {
    "mistral": {},
    "gemma3_text": {"layer_types": LAYERS},
    "gemma2": {"layer_types": LAYERS, "attn_logit_softcapping": 0.5},
}
"""Models whose windows are shorter than rows, the last with soft caps."""
MEETING: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 4},
    "gpt_oss": {"layer_types": LAYERS, "num_local_experts": 2, "num_experts_per_tok": 1},
}
"""Models whose packed rows meet in transformers: by their state, and in attention with sinks."""


@pytest.fixture
def model() -> LlamaForCausalLM:
    return make_model(50)


def packed() -> dict[str, torch.Tensor]:
    ends = torch.tensor(LENGTHS).cumsum(0)
    return {
        "input_ids": torch.randint(0, 50, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(1)),
        "position_ids": torch.cat([torch.arange(length) for length in LENGTHS])[None],
        "cu_seq_lens_q": torch.cat([torch.tensor([0]), ends]).int(),
    }


def test_packed_rows_and_their_gradients_are_those_of_each_row_alone(model: LlamaForCausalLM) -> None:
    reference, batch = deepcopy(model), packed()
    attend_packed(model)
    logits = model(**batch, use_cache=False).logits
    (logits**2).mean().backward()
    rows = batch["input_ids"].split(LENGTHS, dim=1)
    expected = torch.cat([reference(input_ids=row, use_cache=False).logits for row in rows], dim=1)
    (expected**2).mean().backward()
    torch.testing.assert_close(logits, expected)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def of_kind(kind: str, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **SMALL | settings)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    return model


@pytest.mark.parametrize(("kind", "settings"), KINDS.items())
def test_windows_and_soft_caps_are_those_of_the_models_own_attention(kind: str, settings: dict[str, Any]) -> None:
    model, batch = of_kind(kind, **settings), packed()
    rows = batch["input_ids"].split(LENGTHS, dim=1)
    with torch.no_grad():
        expected = torch.cat([model(input_ids=row, use_cache=False).logits for row in rows], dim=1)
        attend_packed(model)
        torch.testing.assert_close(model(**batch, use_cache=False).logits, expected, atol=1e-4, rtol=1e-4)
    assert packs_exactly(model, batch, rows[-1][0].tolist())


@pytest.mark.parametrize(("kind", "settings"), MEETING.items())
def test_a_model_whose_packed_rows_meet_is_told(kind: str, settings: dict[str, Any]) -> None:
    model, batch = of_kind(kind, **settings), packed()
    attend_packed(model)
    row = batch["input_ids"][0, -LENGTHS[-1] :].tolist()
    assert not packs_exactly(model, batch, row)
    assert packs_exactly(model, {"input_ids": batch["input_ids"][:, -LENGTHS[-1] :]}, row)


def test_padded_batches_and_generation_are_unchanged(model: LlamaForCausalLM) -> None:
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    before = model(input_ids=ids, attention_mask=mask).logits
    answers = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
    attend_packed(model)
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, before)
    again = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert again.tolist() == answers.tolist()
