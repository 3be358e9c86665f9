"""Greedy answers to a few prompts."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith import chat
from tunesmith.chat import Message


@torch.inference_mode()
def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[Message]], *, max_new_tokens: int
) -> list[str]:
    """One greedy completion a prompt, special tokens left in, so that it shows where a model stopped."""
    if not prompts:
        return []
    texts = [chat.render_prompt(tokenizer, prompt) for prompt in prompts]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    batch = batch.to(model.device)
    was_training = model.training
    model.eval()
    # Said aloud: a base's own configuration may still pad with its end of turn.
    pad = tokenizer.pad_token_id
    output = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad)
    model.train(was_training)
    completions = output[:, batch["input_ids"].shape[1] :].tolist()
    return [tokenizer.decode([token for token in ids if token != pad]) for ids in completions]
