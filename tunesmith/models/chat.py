"""The one chat renderer: training, evaluation and serving all turn messages into tokens here.

A prompt is tokenized alone, exactly as at inference, and the completion is tokenized after it, so that a model is
trained on the tokens it would generate. The completion ends with the end-of-turn token, which is trained.

What params.yaml sets of a template is written into the template (`tunesmith.models.chat_template`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import ChatError, DataError
from tunesmith.core.ready_rows import Message
from tunesmith.models.settings import Turns

Conversation = tuple[list[Message], list[Message]]
"""Prompt and completion."""
OPENED_REASONING = re.compile(r"<((?:\w+:)?(?:think|thinking|thought|reasoning))>\s*$")
"""The tag at the end of a prompt that a model answers in the midst of its reasoning."""


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


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str:
    """A conversation as text, to the end of its last turn."""
    return _render(tokenizer, [messages], add_generation_prompt=False)[0]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: list[Message]) -> list[int]:
    """The prompt as token ids. The template writes the special tokens, so the tokenizer adds none."""
    return _encode(tokenizer, render_prompt(tokenizer, prompt))


def encode_example(tokenizer: PreTrainedTokenizerBase, prompt: list[Message], completion: list[Message]) -> Example:
    """The example that ends with the completion's last turn. Raises ChatError as `encode_examples` does."""
    return encode_examples(tokenizer, prompt, completion)[-1]


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[Message],
    completion: list[Message],
    *,
    turns: Turns = "completion",
) -> list[Example]:
    """Prompt and completion as token ids, with a mask of the trained ones: the assistant's turns to their end.

    Each trained turn is tokenized after the tokens before it, as it would be generated. Where the template renders a
    turn differently once the conversation goes on, the turns after it are in an example of their own: a turn is trained
    after exactly those tokens that it would be generated after. Raises ChatError where the template changes the prompt
    once an answer follows, or writes no end of turn.
    """
    messages = [*prompt, *completion]
    first = 0 if turns == "all" else len(prompt)
    trained = [i for i in range(first, len(messages)) if messages[i]["role"] == "assistant"]
    examples, encoded = [Example([], [])], ""
    for before, turn in render_examples(tokenizer, [(messages[:i], [messages[i]]) for i in trained]):
        if not before.startswith(encoded):
            examples, encoded = [*examples, Example([], [])], ""
        for text, counts in ((before.removeprefix(encoded), 0), (turn, 1)):
            ids = _encode(tokenizer, text)
            examples[-1].input_ids.extend(ids)
            examples[-1].completion_mask.extend([counts] * len(ids))
        encoded = before + turn
    return examples


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


def check_lengths(lengths: list[int], max_length: int, section: str, source: Path) -> None:
    """Raise DataError where rows are longer than ``max_length``, which a trainer would cut or drop in silence."""
    long = [length for length in lengths if length > max_length]
    if long:
        raise DataError(
            f"{source}: {len(long)} of {len(lengths)} rows are longer than {section}.max_length ({max_length} tokens)",
            fix=f"set {section}.max_length in params.yaml to at least {max(long)}, the longest of them, or the "
            f"dataset's own max_length to {max_length}, which sets those rows aside",
        )


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
        text = render(tokenizer, messages)
    except ChatError:
        return False
    return all(part in text for part in ("probe_name", "probe_key", "probe_answer"))


def render_examples(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> list[tuple[str, str]]:
    """Every prompt as text, and its completion as text up to the end of turn."""
    prompts = _render(tokenizer, [prompt for prompt, _ in conversations], add_generation_prompt=True)
    texts = _render(
        tokenizer, [[*prompt, *completion] for prompt, completion in conversations], add_generation_prompt=False
    )
    answers = [completion[0]["content"] for _, completion in conversations]
    return [_split(tokenizer, *parts) for parts in zip(prompts, texts, answers, strict=True)]


def _split(tokenizer: PreTrainedTokenizerBase, prompt: str, text: str, answer: str) -> tuple[str, str]:
    """The prompt, and the completion up to its end of turn. answer: the content of the turn after the prompt."""
    text = _follow_reasoning(prompt, text, answer)
    if not text.startswith(prompt):
        pairs = enumerate(zip(prompt, text, strict=False))
        same = next((position for position, (one, other) in pairs if one != other), len(text))
        raise ChatError(
            "the chat template renders a prompt differently once an answer follows it "
            f"({text[same : same + 40]!r} in place of {prompt[same : same + 40]!r}), so a model would be trained on "
            "other prompts than it gets",
            fix="where the answer reasons and the prompt forbids it, or the reverse, change one of them "
            "(base_model.chat_template_kwargs in params.yaml); else name a prefix-preserving template there, "
            "base_model.chat_template",
        )
    end = text.rfind(tokenizer.eos_token, len(prompt))
    if end < 0:
        raise ChatError(
            f"the chat template does not end an assistant's turn with {tokenizer.eos_token!r}, so a tuned model would "
            "not stop",
            fix="name a template that ends turns with a special token in params.yaml, base_model.chat_template",
        )
    # Templates write a newline after the end of turn. Generation stops before it, so it is not trained.
    completion = text[len(prompt) : end + len(tokenizer.eos_token)]
    if answer.partition("</think>")[0].rpartition("<think>")[2].strip() not in completion and "</think>" in answer:
        raise ChatError(
            "the chat template leaves the reasoning out of an answer, so it would not be learned",
            fix="name a template that keeps it in params.yaml, base_model.chat_template, or remove it from the rows",
        )
    return prompt, completion


def _follow_reasoning(prompt: str, text: str, answer: str) -> str:
    """``text``, a conversation, as it follows a prompt that opens the model's reasoning, where it renders that anew.

    DeepSeek-R1's template leaves reasoning out of every answer, Nemotron's spaces an empty block differently. What a
    model writes after such a prompt is the reasoning of the answer, or none, and the end of the block.
    """
    opened = OPENED_REASONING.search(prompt)
    if opened is None or text.startswith(prompt) or not text.startswith(prompt[: opened.start()]):
        return text
    tag, closing, rendered = f"<{opened[1]}>", f"</{opened[1]}>", text[opened.start() :]
    if rendered.startswith(tag):
        return prompt + rendered.removeprefix(tag).lstrip()
    reasoning, closed, _ = answer.rpartition(closing)
    if closed:
        return prompt + reasoning.lstrip().removeprefix(tag).lstrip() + closing + rendered
    return f"{prompt}\n{closing}\n\n{rendered}"


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
