"""Search for text that must not be in a row: control characters, the template's special tokens, secrets.

The texts of many rows are searched at once with RE2, whose time is linear in the length of any text: rows are not
trusted, and most are clean.
"""

import bisect
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import re2

GENERAL_TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"),
)
"""Control tokens of well-known templates, for use without a base model."""

SECRETS = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9_]{60,}\b",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}\b",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{34}\b",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,}",
    "a model provider's API key": r"\bsk-(?:ant|proj|svcacct|or)-[A-Za-z0-9_-]{20,}|\bsk-[A-Za-z0-9]{32,}\b",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "a PyPI token": r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}",
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])*[A-Za-z0-9+/=]{8}",
    "a SendGrid key": r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b",
    "a Slack token": r"\bxox[abeoprs]-\d[A-Za-z0-9-]{9,}",
    "a Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{24,}\b",
}
"""Formats that the issuers document, each with a prefix of its own. A password within a sentence is not detected."""

KEY_BODY = r".*?(?:-----END [A-Z0-9 ]*KEY(?: BLOCK)?-----|$)"
CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]"
"""Unicode's category Cc without tab, line feed and carriage return, as UTF-8 bytes."""


class Scanner:
    """Searches texts for what must not be in a row. ``special_tokens``: the control tokens of the base's tokenizer."""

    def __init__(self, special_tokens: Iterable[str]) -> None:
        tokens = {token for token in special_tokens if token}
        self._tokens = tuple(sorted(tokens, key=lambda token: (-len(token), token)))

    def scan(self, texts: Sequence[tuple[str, str]]) -> dict[int, str]:
        """Map the position of each unusable text in ``texts``, pairs (name of the part, text), to its first finding."""
        encoded = [text.encode() for _, text in texts]
        reasons: dict[int, str] = {}
        starts: list[int] = []
        for match in _compiled(self._tokens).finditer(b"\n".join(encoded)):
            starts = starts or list(itertools.accumulate((len(part) + 1 for part in encoded), initial=0))
            index = bisect.bisect_right(starts, match.start()) - 1
            reasons.setdefault(index, self._reason(match.group(), texts[index][0]))
        return reasons

    def _reason(self, match: bytes, part: str) -> str:
        text = match.decode()
        if text == "\0":
            return f"NUL byte: in the {part}"
        if len(text) == 1:
            return f"control character: U+{ord(text):04X} in the {part}"
        if text in self._tokens:
            return f"special token: {text!r} in the {part} would be read as a control token"
        kind = next(name for name, pattern in SECRETS.items() if re2.fullmatch(pattern, text))
        return f"secret: {kind} in the {part} ({_mask(text)})"


@functools.cache
def _compiled(tokens: tuple[str, ...]) -> Any:
    """Compile the search for control characters, ``tokens`` and secrets, once in each process: it cannot be pickled."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes as they are
    escaped = [re2.escape(token.encode()) for token in tokens]
    secrets = [pattern.encode() for pattern in SECRETS.values()]
    return re2.compile(b"|".join([CONTROL.encode(), *escaped, *secrets]), options)


def mask_secrets(text: str) -> str:
    """Mask every secret in ``text``, for files that are shared."""
    return str(_SECRET.sub(lambda match: _mask(match.group()), text))


def _mask(secret: str) -> str:
    return "private key …" if secret.startswith("-") else f"{secret[:4]}…"


_KEY = SECRETS["a private key"]
_SECRET = re2.compile(
    "(?s)" + "|".join([f"{_KEY}{KEY_BODY}", *(pattern for pattern in SECRETS.values() if pattern != _KEY)])
)
