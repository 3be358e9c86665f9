"""Log-probabilities that a model gives to known completions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from tunesmith.models import collectives, device
from tunesmith.models.attention.packed_attention import attend_packed, attends_packed, packed
from tunesmith.models.attention.shared_prompts import SharedPrompts, single_head_product
from tunesmith.models.loading import OpenModel

Tokens = list[int]


@dataclass(frozen=True)
class Likelihood:
    """How likely a completion is, given its prompt.

    log_prob: of the whole completion, in nats. ends: whether its last token, the end of turn, is the likeliest there.
    """

    log_prob: float
    ends: bool


def likelihoods(policy: OpenModel, examples: Sequence[tuple[Tokens, Tokens]], *, batch_size: int) -> list[Likelihood]:
    """The likelihood of every (prompt, completion), in their order, computed as in training.

    Identical prompts share a batch, where they are computed once; other batches are computed without padding. Several
    processes divide them.
    """
    return collectives.spread(policy.model, examples, lambda part: _own_likelihoods(policy, part, batch_size))


def _own_likelihoods(policy: OpenModel, examples: Sequence[tuple[Tokens, Tokens]], batch_size: int) -> list[Likelihood]:
    model = policy.model
    attend_packed(model)
    was_training = model.training
    model.eval()
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i][0]), examples[i][0]))
    results: dict[int, Likelihood] = {}
    without_gradients = collectives.without_gradients(model)
    with without_gradients, device.autocast(policy.profile), single_head_product(model):
        for begin in range(0, len(order), batch_size):
            chunk = order[begin : begin + batch_size]
            results |= dict(zip(chunk, _batch(policy, [examples[i] for i in chunk]), strict=True))
    model.train(was_training)
    return [results[i] for i in range(len(examples))]


@torch.inference_mode()
def token_log_probs(policy: OpenModel, sequences: Sequence[Tokens], *, batch_size: int) -> list[list[float]]:
    """The log-probability, in nats, of every token of each sequence but its first, as in evaluation."""
    values: list[list[float]] = []
    with device.autocast(policy.profile), single_head_product(policy.model):
        for begin in range(0, len(sequences), batch_size):
            batch = [(sequence[:1], sequence[1:]) for sequence in sequences[begin : begin + batch_size]]
            for logits, (_, given) in zip(_logits(policy, batch), batch, strict=True):
                targets = torch.tensor(given, device=logits.device)[:, None]
                values.append(logits.float().log_softmax(-1).gather(-1, targets)[:, 0].tolist())
    return values


def _batch(policy: OpenModel, examples: Sequence[tuple[Tokens, Tokens]]) -> list[Likelihood]:
    results = []
    for logits, (_, completion) in zip(_logits(policy, examples), examples, strict=True):
        targets = torch.tensor(completion, device=logits.device)
        values = logits.float().log_softmax(-1).gather(-1, targets[:, None])  # float32 a row at a time
        results.append(Likelihood(float(values.sum()), bool(logits[-1].argmax() == targets[-1])))
    return results


def _logits(policy: OpenModel, examples: Sequence[tuple[Tokens, Tokens]]) -> list[Tensor]:
    """The logits of every completion's tokens, (tokens, vocabulary) each: with shared prompts or without padding."""
    model, pad = policy.model, policy.tokenizer.pad_token_id
    prompts, prompt_mask = padded([prompt for prompt, _ in examples], pad, left=True)
    answers, answer_mask = padded([completion for _, completion in examples], pad, left=False)
    ids, mask = (torch.cat(parts, 1).to(model.device) for parts in ((prompts, answers), (prompt_mask, answer_mask)))
    width, lengths = answers.shape[1], [len(completion) for _, completion in examples]
    shared = SharedPrompts(model, width)
    if not attends_packed(model) or shared.shares(ids, mask):
        logits = shared(input_ids=ids, attention_mask=mask, logits_to_keep=width + 1).logits[:, :-1]
        return [row[:length] for row, length in zip(logits, lengths, strict=True)]
    ends = accumulate(len(prompt) + len(completion) for prompt, completion in examples)
    places = [torch.arange(end - 1 - length, end - 1) for end, length in zip(ends, lengths, strict=True)]
    rows = packed([prompt + completion for prompt, completion in examples], model.device)
    logits = model(**rows, use_cache=False, logits_to_keep=torch.cat(places).to(model.device)).logits[0]
    return list(logits.split(lengths))


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
