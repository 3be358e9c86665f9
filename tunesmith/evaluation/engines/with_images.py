"""Answers to prompts with images by transformers in this process; lm-eval's requests are texts."""

from typing import Any

from tunesmith.core.ready_rows import Row
from tunesmith.evaluation.grading import Completion
from tunesmith.evaluation.harness import answers
from tunesmith.models import chat, generation
from tunesmith.models.images import parts
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens


def generate(
    opened: OpenModel, rows: list[Row], *, context: int, max_new_tokens: int, batch_size: int
) -> list[Completion]:
    """Greedy completions of ``rows``, in their order; batches are of prompts of similar lengths.

    context: the most tokens of a prompt and its answer together. Raises EvaluationError where a prompt leaves no room.
    """
    model: Any = opened.model
    tokenizer = opened.tokenizer
    prompts = [chat.encode_prompt(tokenizer, row["prompt"], row.get("tools")) for row in rows]
    answers.check_room(rows, list(map(len, prompts)), context, max_new_tokens)
    order = sorted(range(len(rows)), key=lambda at: -len(prompts[at]))
    generated = dict[int, Tokens]()
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        settings = generation.neutral_settings(tokenizer) | {"max_new_tokens": max_new_tokens}
        completions = generation.generate(model, [prompts[at] for at in batch], tokenizer, **settings)
        generated |= dict(zip(batch, completions, strict=True))
    ends = generation.end_tokens(model, tokenizer)
    return [
        Completion(
            tokenizer.decode(generated[at], skip_special_tokens=True),
            rendered_digest(opened, row),
            len(generated[at]),
            generated[at][-1] in ends,
        )
        for at, row in enumerate(rows)
    ]


def has_images(rows: list[Row]) -> bool:
    """Whether any prompt has an image."""
    return any(parts.images(row["prompt"]) for row in rows)


def rendered_digest(opened: OpenModel, row: Row) -> str:
    """SHA-256, in hex, of a prompt as the model got it: its text, and the digests of its images if it has any."""
    text = chat.render_prompt(opened.tokenizer, row["prompt"], row.get("tools"))
    return answers.sha256("\n".join([text, *(image["image"] for image in parts.images(row["prompt"]))]))
