"""Text with chat markup, turned into messages: ChatML and its like, Alpaca's headings, and transcripts."""

import re
from dataclasses import dataclass

from tunesmith.core.ready_rows import Message
from tunesmith.data.records import RowError
from tunesmith.data.turns import tags
from tunesmith.data.turns.order import role


@dataclass(frozen=True)
class Markup:
    """A way to mark turns within a text."""

    name: str
    start: re.Pattern[str]
    """Matches the beginning of a turn; its group is the speaker."""
    end: tuple[str, ...] = ()
    """Tokens that may close a turn."""


MARKUPS = (
    Markup("ChatML", re.compile(r"<\|im_start\|>(\w+)\n"), ("<|im_end|>", "<|endoftext|>")),
    Markup("Llama 3", re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>"), ("<|eot_id|>", "<|end_of_text|>")),
    Markup("Gemma", re.compile(r"<start_of_turn>(\w+)\n"), ("<end_of_turn>", "<eos>")),
    Markup("Zephyr", re.compile(r"<\|(system|user|assistant|tool)\|>\n?"), ("</s>", "<|end|>", "<|endoftext|>")),
    Markup("Llama 2", re.compile(r"(?:<s>\s*)?(\[INST\]|\[/INST\])"), ("</s>",)),
    Markup("HH-RLHF", re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")),
    Markup("Alpaca", re.compile(r"(?:\A|\n)### (Instruction|Input|Response|Human|Assistant):")),
)
"""Markups in order: the first that begins a turn in the text is taken."""
MARK = re.compile(r"\s*(?:<|\[INST\]|### |Human:|Assistant:)")
"""Beginning of every text with markup at its start: a cheap test that most texts fail."""
OPENING = ("<|begin_of_text|>", "<bos>", "<s>", "<|endoftext|>")
LLAMA_2_SYSTEM = re.compile(r"<<SYS>>(.*?)<</SYS>>", re.DOTALL)


def has_markup(text: str, *, at_start: bool = False) -> bool:
    """Tell whether ``text`` marks its speakers; ``at_start``: from its first word on."""
    if at_start:
        return MARK.match(text) is not None and any(_begins(markup, text) for markup in MARKUPS)
    return any(_find(markup, text) for markup in MARKUPS)


def from_text(text: str) -> list[Message]:
    """Parse a text with chat markup into messages, each stripped of the white space around it.

    Text before the first turn (Alpaca's preamble) becomes the system message. Raises RowError without markup.
    """
    markup = next((markup for markup in MARKUPS if _find(markup, text)), None)
    if markup is None:
        raise RowError("no turns: the text does not mark its speakers")
    starts = _find(markup, text)
    before = text[: starts[0].start()]
    for token in OPENING:
        before = before.replace(token, "")
    messages: list[Message] = [{"role": "system", "content": before.strip()}] if before.strip() else []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        content = text[start.end() : following.start() if following else len(text)].rstrip()
        for end in markup.end:
            content = content.removesuffix(end).rstrip()
        # On a line of its own, indentation belongs to the content; beside the mark, a space belongs to the mark.
        content = content.lstrip("\n") if content.startswith("\n") or start[0].endswith("\n") else content.lstrip()
        messages += _split_system(role(start[1]), content)
    return list(map(tags.read, _join_input(messages)))


def _find(markup: Markup, text: str) -> list[re.Match[str]]:
    """Find the beginnings of turns; an empty list where the text does not begin with the markup."""
    starts: list[re.Match[str]] = []
    for start in markup.start.finditer(text):
        # Anywhere but after an instruction, "### Input:" is a heading within the content.
        if start[1] != "Input" or (starts and starts[-1][1] == "Instruction"):
            starts.append(start)
    return starts if markup.name == "Alpaca" or _begins(markup, text) else []


def _begins(markup: Markup, text: str) -> bool:
    rest = text.lstrip()
    while opening := next((token for token in OPENING if rest.startswith(token)), None):
        if markup.start.match(rest):
            break
        rest = rest.removeprefix(opening).lstrip()
    return markup.start.match(rest) is not None


def _split_system(speaker: str, content: str) -> list[Message]:
    """Split a turn into messages: Llama 2 writes the system message inside the first user turn."""
    system = LLAMA_2_SYSTEM.match(content) if speaker == "user" else None
    if system is None:
        return [{"role": speaker, "content": content}]
    rest = content[system.end() :].strip()
    return [{"role": "system", "content": system[1].strip()}, {"role": "user", "content": rest}]


def _join_input(messages: list[Message]) -> list[Message]:
    """Append each Alpaca input to the turn before it; an empty one is dropped."""
    joined: list[Message] = []
    for message in messages:
        if message["role"] != "input":
            joined.append(message)
        elif message["content"] and joined:
            joined[-1] = joined[-1] | {"content": f"{joined[-1]['content']}\n\n{message['content']}"}
    return joined
