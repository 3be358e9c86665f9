"""The one chat renderer: training, evaluation and serving all turn messages into tokens here.

A prompt is tokenized alone, exactly as it is when a model is asked, and the completion is tokenized after it: what is
trained is what is generated. The completion ends with the end-of-turn token, which is trained, and with nothing after.
"""

import hashlib
import json
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tunesmith.errors import ChatError

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""


@dataclass(frozen=True)
class Example:
    """A conversation as tokens.

    input_ids: prompt and completion. completion_mask: as long, 1 where the loss counts.
    """

    input_ids: list[int]
    completion_mask: list[int]


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: list[Message]) -> str:
    """The prompt as text, up to where the assistant begins to speak."""
    return _render(tokenizer, prompt, add_generation_prompt=True)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: list[Message]) -> list[int]:
    """The prompt as token ids. The template writes its own special tokens, so none are added."""
    return _encode(tokenizer, render_prompt(tokenizer, prompt))


def encode_example(tokenizer: PreTrainedTokenizerBase, prompt: list[Message], completion: list[Message]) -> Example:
    """Prompt and completion as token ids with the mask of what is trained.

    Raises ChatError where the template changes the prompt once an answer follows, or writes no end of turn.
    """
    before = render_prompt(tokenizer, prompt)
    whole = _render(tokenizer, [*prompt, *completion], add_generation_prompt=False)
    if not whole.startswith(before):
        raise ChatError(
            "the chat template renders a prompt differently once an answer follows it, so what would be trained is "
            "not what is asked",
            fix="name a prefix-preserving template in params.yaml, base_model.chat_template",
        )
    prompt_ids, completion_ids = _encode(tokenizer, before), _encode(tokenizer, whole[len(before) :])
    if tokenizer.eos_token_id not in completion_ids:
        raise ChatError(
            f"the chat template does not end an assistant's turn with the end-of-sequence token "
            f"{tokenizer.eos_token!r}, so a tuned model would not stop",
            fix="set the tokenizer's eos_token to the template's end of turn, or change the template",
        )
    # Templates write a newline after the end of turn; nothing after it is ever generated, so nothing is trained.
    while completion_ids[-1] != tokenizer.eos_token_id:
        completion_ids.pop()
    return Example(prompt_ids + completion_ids, [0] * len(prompt_ids) + [1] * len(completion_ids))


def check_ends_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ChatError unless the template is one that `encode_example` can use."""
    encode_example(tokenizer, [{"role": "user", "content": "?"}], [{"role": "assistant", "content": "!"}])


def template_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256, in hex, of all that decides how messages become tokens besides the vocabulary."""
    parts = [tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], *, add_generation_prompt: bool) -> str:
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ChatError(
            f"the chat template refuses a conversation of {roles}: {error}",
            fix="change those rows, or name another template in params.yaml, base_model.chat_template",
        ) from None
    return str(text)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))
