"""Generate answers to a few prompts: a greedy one each, or several sampled ones."""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.core.ready_rows import Row
from tunesmith.models import chat, collectives
from tunesmith.models.attention.packed_attention import backbone
from tunesmith.models.attention.shared_prompts import CACHE, prompt_cache, single_head_product
from tunesmith.models.images import forward
from tunesmith.models.log_probs import Tokens, padded


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    special_tokens: bool = True,
) -> list[str]:
    """One greedy completion a row's prompt, with its special tokens, which show where the model stopped, or without
    them, as a verifier reads it.
    """
    ids = [chat.encode_prompt(tokenizer, row["prompt"], row.get("tools")) for row in rows]
    settings = neutral_settings(tokenizer) | {"max_new_tokens": max_new_tokens}
    completions = collectives.spread(model, ids, lambda part: generate(model, part, tokenizer, **settings))
    return [tokenizer.decode(completion, skip_special_tokens=not special_tokens) for completion in completions]


class _Recorder(LogitsProcessor):
    """Records the log-probability, in nats, of each row's likeliest token, a tensor (rows) a position."""

    def __init__(self) -> None:
        self.positions: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.positions.append(scores.float().log_softmax(-1).amax(-1))
        return scores


def greedy_log_probs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Tokens], *, max_new_tokens: int
) -> list[tuple[Tokens, float]]:
    """One greedy completion a prompt, with the log-probability, in nats, that it had when it was generated."""
    if not prompts:
        return []
    recorder = _Recorder()
    settings = neutral_settings(tokenizer) | {"logits_processor": LogitsProcessorList([recorder])}
    completions = generate(model, prompts, tokenizer, **settings, max_new_tokens=max_new_tokens)
    values = torch.stack(recorder.positions, 1)
    return [
        (completion, float(row[: len(completion)].sum())) for completion, row in zip(completions, values, strict=True)
    ]


class _Draw(LogitsProcessor):
    """Draws the next token of every row by a generator of the row's own, and leaves it as the only possible one.

    So a completion is the same whichever rows it is generated beside, in whichever process.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        numbers = torch.stack([torch.rand(1, generator=generator) for generator in self.generators])
        totals = (scores.float() / self.temperature).softmax(-1).cumsum(-1)
        drawn = torch.searchsorted(totals, numbers.to(totals.device) * totals[:, -1:])
        return torch.full_like(scores, -torch.inf).scatter(1, drawn.clamp(max=scores.shape[1] - 1), 0.0)


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Tokens],
    seeds: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float,
) -> list[Tokens]:
    """One sampled completion a prompt; the same seed draws the same one."""
    if not prompts:
        return []
    settings = neutral_settings(tokenizer) | {"logits_processor": LogitsProcessorList([_Draw(seeds, temperature)])}
    return generate(model, prompts, tokenizer, **settings, max_new_tokens=max_new_tokens)


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    seeds: Sequence[int],
    *,
    group: int,
    max_new_tokens: int,
    temperature: float,
) -> list[list[str]]:
    """``group`` sampled completions a row's prompt, without special tokens, as a verifier reads them.

    seeds: one a completion, those of a row one after another.
    """
    prompts = [chat.encode_prompt(tokenizer, row["prompt"], row.get("tools")) for row in rows]
    asked = list(zip([prompt for prompt in prompts for _ in range(group)], seeds, strict=True))

    def texts(part: list[tuple[Tokens, int]]) -> list[str]:
        own, drawn_by = [prompt for prompt, _ in part], [seed for _, seed in part]
        completions = draw(model, tokenizer, own, drawn_by, max_new_tokens=max_new_tokens, temperature=temperature)
        return [tokenizer.decode(completion, skip_special_tokens=True) for completion in completions]

    answers = collectives.spread(model, asked, texts)
    return [answers[begin : begin + group] for begin in range(0, len(answers), group)]


def generate(
    model: PreTrainedModel, prompts: list[Tokens], tokenizer: PreTrainedTokenizerBase, **settings: object
) -> list[Tokens]:
    """One completion a prompt, to its end of turn; identical prompts are computed once.

    A completion also ends where the model's generation config stops it, as it does where the model is evaluated and
    served.
    """
    if not prompts:
        return []
    ends = end_tokens(model, tokenizer)
    settings["eos_token_id"] = ends
    ids, mask = (tensor.to(model.device) for tensor in padded(prompts, tokenizer.pad_token_id, left=True))
    settings |= forward.for_generation(backbone(model), ids)
    was_training = model.training
    model.eval()
    with collectives.without_gradients(model):
        if (cache := prompt_cache(model, ids[:, :-1], mask[:, :-1])) is not None:
            settings[CACHE] = cache
        with single_head_product(model):
            output = model.generate(input_ids=ids, attention_mask=mask, **settings)
    model.train(was_training)
    return [_to_end(row, ends) for row in output[:, ids.shape[1] :].tolist()]


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """The tokens that end a completion: the end of turn, and those at which the generation config stops."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return [tokenizer.eos_token_id, *(token for token in configured if token not in (None, tokenizer.eos_token_id))]


def neutral_settings(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """Overrides of a base's generation config, which may sample, pad with the end of turn, or punish repeats."""
    return {"pad_token_id": tokenizer.pad_token_id, "repetition_penalty": 1.0, "do_sample": False}


def _to_end(row: Tokens, ends: list[int]) -> Tokens:
    """The row without the padding that follows the token that ended it."""
    return next((row[: position + 1] for position, token in enumerate(row) if token in ends), row)
