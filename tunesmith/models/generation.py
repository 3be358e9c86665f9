"""Answers to a few prompts: greedy, or several sampled ones each."""

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.models import chat
from tunesmith.models.chat import Message
from tunesmith.models.log_probs import Tokens, padded
from tunesmith.models.shared_prompts import one_product, prompt_cache


def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[Message]], *, max_new_tokens: int
) -> list[str]:
    """One greedy completion a prompt, special tokens left in, so that it shows where a model stopped."""
    asked = [chat.encode_prompt(tokenizer, prompt) for prompt in prompts]
    said = generate(model, asked, tokenizer, **_plain(tokenizer), max_new_tokens=max_new_tokens, do_sample=False)
    return [tokenizer.decode(ids) for ids in said]


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[Message]],
    *,
    group: int,
    max_new_tokens: int,
    temperature: float,
) -> list[list[str]]:
    """``group`` sampled completions a prompt, without special tokens, as a verifier reads them."""
    asked = [ids for prompt in prompts for ids in [chat.encode_prompt(tokenizer, prompt)] * group]
    settings = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    said = generate(model, asked, tokenizer, **_plain(tokenizer), max_new_tokens=max_new_tokens, **settings)
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in said]
    return [texts[begin : begin + group] for begin in range(0, len(texts), group)]


@torch.inference_mode()
def generate(model: Any, prompts: list[Tokens], tokenizer: PreTrainedTokenizerBase, **settings: Any) -> list[Tokens]:
    """Completions, to their end of turn; prompts that are alike are computed once."""
    if not prompts:
        return []
    ids, mask = (each.to(model.device) for each in padded(prompts, tokenizer.pad_token_id, left=True))
    was_training = model.training
    model.eval()
    cache = prompt_cache(model, ids[:, :-1], mask[:, :-1])
    if cache is not None:
        settings["past_key_values"] = cache
    with one_product(model):
        output = model.generate(input_ids=ids, attention_mask=mask, **settings)
    model.train(was_training)
    return [_ended(row, tokenizer.eos_token_id) for row in output[:, ids.shape[1] :].tolist()]


def _plain(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Said aloud: a base's own configuration may pad with its end of turn, end elsewhere, or punish repetition."""
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "repetition_penalty": 1.0,
    }


def _ended(row: Tokens, end: int) -> Tokens:
    """What was said: after the end of turn there is padding alone."""
    return row[: row.index(end) + 1] if end in row else row
