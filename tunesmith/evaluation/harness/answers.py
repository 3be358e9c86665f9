"""Answer our own rows through lm-evaluation-harness; its tasks are in `tasks`.

The model is handed over as an object, so that lm-eval evaluates the very model that was opened and verified. Our own
rows need no task of lm-eval: its model takes requests, and verifiers grade the answers.
"""

import hashlib
import logging
from typing import Any

from lm_eval.api.instance import Instance

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Row
from tunesmith.evaluation.grading import Completion
from tunesmith.evaluation.harness.opened_lm import OpenedLM
from tunesmith.models import chat
from tunesmith.models.attention.packed_attention import backbone
from tunesmith.models.attention.shared_prompts import single_head_product
from tunesmith.models.images import forward
from tunesmith.models.loading import OpenModel

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of a model that is handed over as an object


class CountingLM(OpenedLM):
    """lm-eval's model, which also records the length of each answer.

    lm-eval returns text alone, in the order of the requests, and generates in an order of its own: lengths are keyed by
    the prompt's token ids. Equal prompts share an entry, as greedy decoding gives them equal answers.
    """

    def __init__(self, opened: OpenModel, batch_size: int) -> None:
        super().__init__(opened, batch_size, add_bos_token=False)  # the chat template writes every special token
        self.lengths: dict[tuple[int, ...], tuple[int, bool]] = {}
        """Tokens of a prompt -> (tokens generated, end of turn included; whether there was one)."""

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **settings: Any) -> Any:
        seeing = forward.for_generation(backbone(self.model), context)
        output = super()._model_generate(context, max_length, stop, **settings, **seeing)
        for prompt, mask, sequence in zip(context, settings["attention_mask"], output, strict=True):
            generated = sequence[len(prompt) :].tolist()
            while generated and generated[-1] == self.tokenizer.pad_token_id:
                generated.pop()
            if self.eot_token_id in generated:
                generated = generated[: generated.index(self.eot_token_id) + 1]
            stopped = generated[-1:] == [self.eot_token_id] or len(generated) < max_length - len(prompt)
            self.lengths[tuple(prompt[mask.bool()].tolist())] = len(generated), stopped
        return output

    def completion(self, prompt: str, text: str) -> Completion:
        tokens, stopped = self.lengths[tuple(self.tok_encode(prompt))]
        return Completion(text, sha256(prompt), tokens, stopped)


def generate(opened: OpenModel, rows: list[Row], *, max_new_tokens: int, batch_size: int) -> list[Completion]:
    """Greedy completions of ``rows``, in their order.

    Raises EvaluationError if a prompt leaves no room for an answer (lm-eval would cut it silently).
    """
    lm = CountingLM(opened, batch_size)
    prompts = [chat.render_prompt(opened.tokenizer, row["prompt"], row.get("tools")) for row in rows]
    lengths = [len(lm.tok_encode(prompt)) for prompt in prompts]
    check_room(rows, lengths, lm.max_length, max_new_tokens)
    settings = {"do_sample": False, "max_gen_toks": max_new_tokens, "until": [opened.tokenizer.eos_token]}
    requests = [Instance("generate_until", doc={}, arguments=(prompt, settings), idx=0) for prompt in prompts]
    with single_head_product(lm.model):
        texts = lm.generate_until(requests)
    return [lm.completion(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]


def check_room(rows: list[Row], lengths: list[int], context: int, max_new_tokens: int) -> None:
    """Raise EvaluationError where prompts of these lengths, in tokens, leave no room for an answer in the context."""
    room = context - max_new_tokens
    long = [row["id"] for row, length in zip(rows, lengths, strict=True) if length > room]
    if long:
        raise EvaluationError(
            f"{len(long)} prompts do not fit the model's context of {context} tokens with {max_new_tokens} "
            f"left for the answer (rows {', '.join(long[:5])})",
            fix="lower the suite's max_new_tokens in params.yaml, or shorten those prompts",
        )


def sha256(text: str) -> str:
    """The SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
