from copy import deepcopy

import pytest
import torch
from conftest import make_model
from transformers import LlamaForCausalLM

from tunesmith.models.packed_attention import use_row_by_row

LENGTHS = [5, 1, 12, 7]


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
    use_row_by_row(model)
    logits = model(**batch, use_cache=False).logits
    (logits**2).mean().backward()
    rows = batch["input_ids"].split(LENGTHS, dim=1)
    expected = torch.cat([reference(input_ids=row, use_cache=False).logits for row in rows], dim=1)
    (expected**2).mean().backward()
    torch.testing.assert_close(logits, expected)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_padded_batches_and_generation_are_unchanged(model: LlamaForCausalLM) -> None:
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    before = model(input_ids=ids, attention_mask=mask).logits
    answers = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
    use_row_by_row(model)
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, before)
    again = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert again.tolist() == answers.tolist()
