"""Which split a prompt is in, from the prompt alone.

No prompt is in two splits, the order of rows does not matter, and appending rows moves no old row to another split.
"""

import hashlib
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from tunesmith.core.params import Section

Share = Annotated[float, Field(ge=0, le=1)]
SPLITS = ("train", "validation", "test")
Keys = npt.NDArray[np.uint64]


class Splits(Section):
    """Shares of the rows; what is left trains."""

    validation: Share = 0.05
    test: Share = 0.1

    @model_validator(mode="after")
    def _sum(self) -> "Splits":
        if self.validation + self.test > 1:
            raise ValueError("validation and test together exceed 1")
        return self


def normal(text: str) -> str:
    """``text`` without what does not make it another: compatibility forms (NFKC), case, and kinds of white space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def key(messages: Iterable[dict[str, Any]]) -> int:
    """64 bits of the SHA-256 of who says what, in its normal form."""
    text = normal("\n".join([f"{message['role']} {message['content']}" for message in messages]))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def prompt_key(prompt: list[dict[str, Any]]) -> int:
    """The key of a prompt. System messages aside: the same question put to another persona is the same question."""
    return key([message for message in prompt if message["role"] != "system"])


def assign(keys: Keys, shares: Splits) -> npt.NDArray[np.intp]:
    """The position in SPLITS of each prompt: where its key falls in [0, 1)."""
    position = (keys >> np.uint64(16)) / 2**48
    held_out = shares.test + shares.validation
    return np.where(position < shares.test, 2, np.where(position < held_out, 1, 0))
