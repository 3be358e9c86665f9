"""Where tokens end between a prompt and its answer.

Most tokenizers read a text the same whatever stands before it, so that an answer is tokenized alone. SentencePiece's
put a space before a text that they are given (`▁Rob` for `Rob`): there, an answer's tokens are those that it has in the
whole text, after the prompt's.
"""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

Encode = Callable[[str], list[int]]
SAMPLES = ("Robin", "12")

_prefixing: dict[int, tuple[PreTrainedTokenizerBase, bool]] = {}


def reads_alone(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer reads a text the same alone as after another one."""
    known = _prefixing.get(id(tokenizer))
    if known is None or known[0] is not tokenizer:
        known = tokenizer, all(_is_suffix(encode(tokenizer, text), encode(tokenizer, f"?\n{text}")) for text in SAMPLES)
        _prefixing[id(tokenizer)] = known
    return known[1]


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text. The template writes the special tokens, so the tokenizer adds none."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def encode_after(tokenizer: PreTrainedTokenizerBase, before: str, text: str) -> list[int]:
    """The tokens of a text as it follows another one.

    Where a token would span both, the text has the tokens that it has on a line of its own.
    """
    if reads_alone(tokenizer):
        return encode(tokenizer, text)
    first, whole = encode(tokenizer, before), encode(tokenizer, before + text)
    if whole[: len(first)] == first:
        return whole[len(first) :]
    line = encode(tokenizer, "\n")
    return encode(tokenizer, "\n" + text)[len(line) :]


def _is_suffix(ids: list[int], whole: list[int]) -> bool:
    return whole[len(whole) - len(ids) :] == ids
