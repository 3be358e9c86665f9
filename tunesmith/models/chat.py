"""The one chat renderer: training, evaluation and serving all turn messages into tokens here.

A prompt is tokenized alone, exactly as at inference, and the completion is tokenized after it, so that a model is
trained on the tokens it would generate. The completion ends with the end-of-turn token, which is trained.

What params.yaml sets of a template is written into the template (`tunesmith.models.chat_template`).
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import ChatError, DataError
from tunesmith.core.ready_rows import Conversation, Message, Tool, content_text, split_reasoning
from tunesmith.models.images import parts
from tunesmith.models.rendering import boundaries, style
from tunesmith.models.settings import Turns

Tools = list[Tool] | None
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


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: list[Message], tools: Tools = None) -> str:
    """The prompt as text, with the header of the assistant's turn."""
    return _render(tokenizer, [(prompt, tools)], add_generation_prompt=True)[0]


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], tools: Tools = None) -> str:
    """A conversation as text, to the end of its last turn."""
    return _render(tokenizer, [(messages, tools)], add_generation_prompt=False)[0]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: list[Message], tools: Tools = None) -> list[int]:
    """The prompt as token ids. The template writes the special tokens, so the tokenizer adds none.

    An image has ids of its own (`models.images`).
    """
    return parts.marked(tokenizer, boundaries.encode(tokenizer, render_prompt(tokenizer, prompt, tools)), prompt)


def encode_example(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], completion: list[Message], tools: Tools = None
) -> Example:
    """The example that ends with the completion's last turn. Raises ChatError as `encode_examples` does."""
    return encode_examples(tokenizer, prompt, completion, tools)[-1]


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[Message],
    completion: list[Message],
    tools: Tools = None,
    *,
    turns: Turns = "completion",
) -> list[Example]:
    """Prompt and completion as token ids, with a mask of the trained ones: the assistant's turns to their end.

    Which of the assistant's turns train, ``turns`` says, except for those whose ``train`` says it themselves. Each
    trained turn is tokenized after the tokens before it, as it would be generated. Where the template renders a turn
    differently once the conversation goes on, the turns after it are in an example of their own: a turn is trained
    after exactly those tokens that it would be generated after. Raises ChatError where the template changes the prompt
    once an answer follows, or writes no end of turn.
    """
    messages = [*prompt, *completion]
    first = 0 if turns == "all" else len(prompt)
    trained = [
        at
        for at, message in enumerate(messages)
        if message["role"] == "assistant" and message.get("train", at >= first)
    ]
    examples, encoded = [Example([], [])], ""
    asked = [Conversation(messages[:at], [messages[at]], tools) for at in trained]
    for before, turn in render_examples(tokenizer, asked):
        known = boundaries.encode(tokenizer, before) if not boundaries.reads_alone(tokenizer) else []
        same_tokens = known[: len(examples[-1].input_ids)] == examples[-1].input_ids[: len(known)] if known else True
        if not before.startswith(encoded) or not same_tokens:
            examples, encoded = [*examples, Example([], [])], ""
        done = len(examples[-1].input_ids)
        ids = known[done:] if known else boundaries.encode(tokenizer, before.removeprefix(encoded))
        for part, counts in ((ids, 0), (boundaries.encode_after(tokenizer, before, turn), 1)):
            examples[-1].input_ids.extend(part)
            examples[-1].completion_mask.extend([counts] * len(part))
        encoded = before + turn
    return [
        Example(parts.marked(tokenizer, example.input_ids, messages), example.completion_mask) for example in examples
    ]


def count_tokens(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]
) -> tuple[list[int], list[int]]:
    """Numbers of tokens of the prompts and of the completions, as `encode_example` makes them, in fast batches.

    Where the completion is empty, only the prompt is rendered. Raises ChatError as `encode_example` does.
    """
    answered = [conversation for conversation in conversations if conversation.completion]
    examples = iter(render_examples(tokenizer, answered))
    unanswered = [(prompt, tools) for prompt, completion, tools in conversations if not completion]
    prompts = iter(_render(tokenizer, unanswered, add_generation_prompt=True))
    texts = [next(examples) if each.completion else (next(prompts), "") for each in conversations]
    if not boundaries.reads_alone(tokenizer):
        counts = [
            (len(boundaries.encode(tokenizer, before)), len(boundaries.encode_after(tokenizer, before, turn)))
            for before, turn in texts
        ]
        return [prompt for prompt, _ in counts], [completion for _, completion in counts]
    numbers = _count(tokenizer, [text for pair in texts for text in pair])
    return numbers[::2], numbers[1::2]


def check_lengths(lengths: list[int], max_length: int, section: str, source: Path) -> None:
    """Raise DataError where rows are longer than ``max_length``, which a trainer would cut or drop in silence."""
    long = [length for length in lengths if length > max_length]
    if long:
        raise DataError(
            f"{source}: {len(long)} of {len(lengths)} rows are longer than {section}.max_length ({max_length} tokens)",
            fix=f"set {section}.max_length in params.yaml to at least {max(long)}, the longest of them, or the "
            f"dataset's own max_length to {max_length}, which sets those rows aside",
        )


def render_examples(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> list[tuple[str, str]]:
    """Every prompt as text, and its completion as text up to the end of turn."""
    prompts = _render(tokenizer, [(prompt, tools) for prompt, _, tools in conversations], add_generation_prompt=True)
    whole = [([*prompt, *completion], tools) for prompt, completion, tools in conversations]
    texts = _render(tokenizer, whole, add_generation_prompt=False)
    answers = [completion[0] for _, completion, _ in conversations]
    return [_split(tokenizer, *parts) for parts in zip(prompts, texts, answers, strict=True)]


def _split(tokenizer: PreTrainedTokenizerBase, prompt: str, text: str, answer: Message) -> tuple[str, str]:
    """The prompt, and the completion up to its end of turn. answer: the turn after the prompt."""
    reasoning = answer.get("reasoning", "")
    if not reasoning and "</" in (content := content_text(answer)):
        reasoning = split_reasoning(content)[0]
    text = _follow_reasoning(prompt, text, reasoning)
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
    if reasoning and reasoning not in completion:
        raise ChatError(
            "the chat template leaves the reasoning out of an answer, so it would not be learned",
            fix="name a template that keeps it in params.yaml, base_model.chat_template, or leave it out of the rows "
            "(data.<dataset>.reasoning: drop)",
        )
    return prompt, completion


def _follow_reasoning(prompt: str, text: str, reasoning: str) -> str:
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
    return f"{prompt}{reasoning}\n{closing}\n\n{rendered.lstrip()}"


def _render(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[tuple[list[Message], Tools]],
    *,
    add_generation_prompt: bool,
) -> list[str]:
    texts: list[str] = []
    for tools, group in itertools.groupby(conversations, key=lambda conversation: conversation[1]):
        texts += _render_group(tokenizer, [messages for messages, _ in group], tools, add_generation_prompt)
    return texts


def _render_group(
    tokenizer: PreTrainedTokenizerBase, conversations: list[list[Message]], tools: Tools, add_generation_prompt: bool
) -> list[str]:
    """Conversations with the same tools as text. Raises ChatError for whatever the template raises: it is a program."""
    turns: list[list[Message]] | list[list[dict[str, object]]] = conversations
    images = parts.read_by(tokenizer)
    if images is None and any(type(message["content"]) is list for messages in conversations for message in messages):
        raise ChatError(
            "the base reads text alone, and a row has images",
            fix="take a base that reads images (base_model in params.yaml), or leave those rows out",
        )
    if tools or images or any(len(message) > 2 for messages in conversations for message in messages):
        wanted = style.of(tokenizer)
        turns = [style.adapt(wanted, messages) for messages in conversations]
    settings = {"tools": tools} if tools else {}
    try:
        texts = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt, **settings
        )
    except Exception as error:
        roles = ", ".join(message["role"] for message in conversations[0])
        subject = (
            f"a conversation of {roles}" if len(conversations) == 1 else f"one of {len(conversations)} conversations"
        )
        kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
        raise ChatError(
            f"the chat template refuses {subject}: {kind}{error}",
            fix="change those rows, or name another template in params.yaml, base_model.chat_template",
        ) from None
    if images is None:
        return list(texts)
    return [images.expand(text, parts.images(messages)) for text, messages in zip(texts, conversations, strict=True)]


def _count(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    if not tokenizer.is_fast:
        return [len(boundaries.encode(tokenizer, text)) for text in texts]
    backend = tokenizer.backend_tokenizer
    if backend.truncation or backend.padding:
        backend.no_truncation()
        backend.no_padding()
    return [len(encoding) for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
