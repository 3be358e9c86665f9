"""The one chat renderer: training, evaluation and serving all turn messages into tokens here.

A prompt is tokenized alone, exactly as at inference, and the completion is tokenized after it, so that a model is
trained on the tokens it would generate. The completion ends with the end-of-turn token, which is trained.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import ChatError
from tunesmith.core.ready_rows import Message
from tunesmith.models.settings import Turns

Conversation = tuple[list[Message], list[Message]]
"""Prompt and completion."""


@dataclass(frozen=True)
class Example:
    """A conversation as tokens.

    input_ids: prompt and completion. completion_mask: of the same length, 1 where the loss counts.
    """

    input_ids: list[int]
    completion_mask: list[int]

    def split(self) -> tuple[list[int], list[int]]:
        """The prompt and the answer: all tokens before the last run of trained ones, and that run."""
        begins = len(self.completion_mask) - self.completion_mask[::-1].index(0) if 0 in self.completion_mask else 0
        return self.input_ids[:begins], self.input_ids[begins:]


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: list[Message]) -> str:
    """The prompt as text, with the header of the assistant's turn."""
    return _render(tokenizer, [prompt], add_generation_prompt=True)[0]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: list[Message]) -> list[int]:
    """The prompt as token ids. The template writes the special tokens, so the tokenizer adds none."""
    return _encode(tokenizer, render_prompt(tokenizer, prompt))


def encode_example(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[Message],
    completion: list[Message],
    *,
    turns: Turns = "completion",
) -> Example:
    """Prompt and completion as token ids, with a mask of the trained ones: the assistant's turns to their end.

    Each trained turn is tokenized after the tokens before it, as it would be generated.
    Raises ChatError where the template changes the prompt once an answer follows, or writes no end of turn.
    """
    messages = [*prompt, *completion]
    first = 0 if turns == "all" else len(prompt)
    trained = [i for i in range(first, len(messages)) if messages[i]["role"] == "assistant"]
    rendered = render_examples(tokenizer, [(messages[:i], [messages[i]]) for i in trained])
    example, encoded = Example([], []), ""
    for before, turn in rendered:
        if not before.startswith(encoded):
            raise ChatError(
                "the chat template renders an answer differently once the conversation goes on",
                fix="train the last answer only (sft.turns: completion), or name a prefix-preserving template in "
                "params.yaml, base_model.chat_template",
            )
        for text, counts in ((before.removeprefix(encoded), 0), (turn, 1)):
            ids = _encode(tokenizer, text)
            example.input_ids.extend(ids)
            example.completion_mask.extend([counts] * len(ids))
        encoded = before + turn
    return example


def count_tokens(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]
) -> tuple[list[int], list[int]]:
    """Numbers of tokens of the prompts and of the completions, as `encode_example` makes them, in fast batches.

    Where the completion is empty, only the prompt is rendered. Raises ChatError as `encode_example` does.
    """
    answered = [conversation for conversation in conversations if conversation[1]]
    examples = iter(render_examples(tokenizer, answered))
    unanswered = [prompt for prompt, completion in conversations if not completion]
    prompts = iter(_render(tokenizer, unanswered, add_generation_prompt=True))
    texts = [next(examples) if completion else (next(prompts), "") for _, completion in conversations]
    counts = _count(tokenizer, [text for pair in texts for text in pair])
    return counts[::2], counts[1::2]


def renders_tools(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template writes tool calls and their results, rather than dropping them."""
    call: dict[str, object] = {
        "type": "function",
        "id": "call00001",
        "function": {"name": "probe_name", "arguments": {"probe_key": 1}},
    }
    messages: list[Message] = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "probe_answer", "name": "probe_name", "tool_call_id": "call00001"},
        {"role": "assistant", "content": "!"},
    ]
    try:
        [text] = _render(tokenizer, [messages], add_generation_prompt=False)
    except ChatError:
        return False
    return all(part in text for part in ("probe_name", "probe_key", "probe_answer"))


def check_ends_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ChatError where `encode_example` cannot use the template."""
    encode_example(tokenizer, [{"role": "user", "content": "?"}], [{"role": "assistant", "content": "!"}])


def template_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256, in hex, of everything but the vocabulary that decides how messages become tokens."""
    parts = [tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def render_examples(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> list[tuple[str, str]]:
    """Every prompt as text, and its completion as text up to the end of turn."""
    prompts = _render(tokenizer, [prompt for prompt, _ in conversations], add_generation_prompt=True)
    texts = _render(
        tokenizer, [[*prompt, *completion] for prompt, completion in conversations], add_generation_prompt=False
    )
    return [_split(tokenizer, prompt, text) for prompt, text in zip(prompts, texts, strict=True)]


def _split(tokenizer: PreTrainedTokenizerBase, prompt: str, text: str) -> tuple[str, str]:
    """The prompt, and the completion up to its end of turn."""
    if not text.startswith(prompt):
        raise ChatError(
            "the chat template renders a prompt differently once an answer follows it, so a model would be trained on "
            "other prompts than it gets",
            fix="name a prefix-preserving template in params.yaml, base_model.chat_template",
        )
    end = text.rfind(tokenizer.eos_token, len(prompt))
    if end < 0:
        raise ChatError(
            f"the chat template does not end an assistant's turn with the end-of-sequence token "
            f"{tokenizer.eos_token!r}, so a tuned model would not stop",
            fix="set the tokenizer's eos_token to the template's end of turn, or change the template",
        )
    # Templates write a newline after the end of turn. Generation stops before it, so it is not trained.
    return prompt, text[len(prompt) : end + len(tokenizer.eos_token)]


def _render(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[list[Message]], *, add_generation_prompt: bool
) -> list[str]:
    if not conversations:
        return []
    try:
        texts = tokenizer.apply_chat_template(
            list(conversations), tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in conversations[0])
        subject = (
            f"a conversation of {roles}" if len(conversations) == 1 else f"one of {len(conversations)} conversations"
        )
        raise ChatError(
            f"the chat template refuses {subject}: {error}",
            fix="change those rows, or name another template in params.yaml, base_model.chat_template",
        ) from None
    return list(texts)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _count(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    if not tokenizer.is_fast:
        return [len(_encode(tokenizer, text)) for text in texts]
    backend = tokenizer.backend_tokenizer
    if backend.truncation or backend.padding:
        backend.no_truncation()
        backend.no_padding()
    return [len(encoding) for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
