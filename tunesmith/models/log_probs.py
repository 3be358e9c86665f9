"""Log-probabilities that a model gives to known completions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.models import device
from tunesmith.models.loading import OpenModel
from tunesmith.models.shared_prompts import SharedPrompts, single_head_product

Tokens = list[int]


@dataclass(frozen=True)
class Likelihood:
    """How likely a completion is, given its prompt.

    log_prob: of the whole completion, in nats. ends: whether its last token, the end of turn, is the likeliest there.
    """

    log_prob: float
    ends: bool


@torch.inference_mode()
def likelihoods(policy: OpenModel, examples: Sequence[tuple[Tokens, Tokens]], *, batch_size: int) -> list[Likelihood]:
    """The likelihood of every (prompt, completion), in their order, computed as in training.

    Identical prompts share a batch, where they are computed once.
    """
    model = policy.model
    was_training = model.training
    model.eval()
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i][0]), examples[i][0]))
    results: dict[int, Likelihood] = {}
    with device.autocast(policy.profile), single_head_product(model):
        for begin in range(0, len(order), batch_size):
            chunk = order[begin : begin + batch_size]
            results |= dict(zip(chunk, _batch(policy, [examples[i] for i in chunk]), strict=True))
    model.train(was_training)
    return [results[i] for i in range(len(examples))]


def _batch(policy: OpenModel, examples: Sequence[tuple[Tokens, Tokens]]) -> list[Likelihood]:
    model, pad = policy.model, policy.tokenizer.pad_token_id
    prompts, prompt_mask = padded([prompt for prompt, _ in examples], pad, left=True)
    answers, answer_mask = padded([completion for _, completion in examples], pad, left=False)
    ids, mask = (torch.cat(parts, 1).to(model.device) for parts in ((prompts, answers), (prompt_mask, answer_mask)))
    width = answers.shape[1]
    logits = SharedPrompts(model, width)(input_ids=ids, attention_mask=mask, logits_to_keep=width + 1).logits[:, :-1]
    results = []
    for row, targets, (_, completion) in zip(logits, ids[:, -width:], examples, strict=True):  # float32 a row at a time
        length = len(completion)
        values = row[:length].float().log_softmax(-1).gather(-1, targets[:length, None])
        results.append(Likelihood(float(values.sum()), bool(row[length - 1].argmax() == targets[length - 1])))
    return results


def padded(rows: Sequence[Tokens], pad: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (rows, longest)."""
    longest = max(map(len, rows))
    fill = [longest - len(row) for row in rows]
    if left:
        ids = [[pad] * n + row for n, row in zip(fill, rows, strict=True)]
        mask = [[0] * n + [1] * len(row) for n, row in zip(fill, rows, strict=True)]
    else:
        ids = [row + [pad] * n for n, row in zip(fill, rows, strict=True)]
        mask = [[1] * len(row) + [0] * n for n, row in zip(fill, rows, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)
