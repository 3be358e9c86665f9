"""The split of a row, from a hash of its group: of the value that `group` names, or of its conversation's first turn.

No group is in two splits, the order of rows does not matter, and appended rows move no earlier row to another split.
"""

import hashlib
import unicodedata
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from tunesmith.core.params import Section
from tunesmith.core.ready_rows import Message, calls_text
from tunesmith.data.images import parts

Share = Annotated[float, Field(ge=0, le=1)]
SPLITS = ("train", "validation", "test")
Keys = npt.NDArray[np.uint64]


class Splits(Section):
    """Shares of the rows for validation and test; the rest trains."""

    validation: Share = 0.05
    test: Share = 0.1

    @model_validator(mode="after")
    def _sum(self) -> "Splits":
        if self.validation + self.test > 1:
            raise ValueError("validation and test together exceed 1")
        return self


def normalise(text: str) -> str:
    """Remove differences of compatibility forms (NFKC), case and kinds of white space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def prompt_key(prompt: list[Message]) -> int:
    """Return 64 bits of the SHA-256 of the normalised turns of a prompt, each with its role.

    System messages are left out: the same question put to another persona is the same question.
    """
    turns = [f"{message['role']} {_said(message)}" for message in prompt if message["role"] != "system"]
    return int.from_bytes(hashlib.sha256(normalise("\n".join(turns)).encode()).digest()[:8])


def group_key(prompt: list[Message], group: str | None) -> int:
    """Return 64 bits that decide the split of a row: of its group or, where it has none, of its prompt's first turn.

    Rows that continue one conversation, one a turn, have the same first turn. Of a first turn with images, these decide
    alone, so that all questions about an image are in one split.
    """
    if group is not None:
        return int.from_bytes(hashlib.sha256(f"group {group}".encode()).digest()[:8])
    first = [message for message in prompt if message["role"] != "system"][:1]
    shown = " ".join(part["image"] for part in parts.images({"prompt": first}))
    return group_key(prompt, f"images {shown}") if shown else prompt_key(first)


def _said(message: Message) -> str:
    """Return a turn's text and its calls, but not its reasoning: how an answer was found makes no other prompt."""
    content = parts.key(message)
    return content + calls_text(message["tool_calls"]) if "tool_calls" in message else content


def assign(keys: Keys, shares: Splits) -> npt.NDArray[np.intp]:
    """Return the position in SPLITS of each row: the key of its group, scaled to [0, 1), decides."""
    position = (keys >> np.uint64(16)) / 2**48
    held_out = shares.test + shares.validation
    return np.where(position < shares.test, 2, np.where(position < held_out, 1, 0))
