"""What must not stand in the text of a row: control characters, the template's special tokens, secrets.

The texts of many rows are searched at once, with an engine whose time is linear in the text whatever the text
(RE2): rows are not trusted, and most hold nothing to be found.
"""

import bisect
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import re2

GENERAL_TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"),
)
"""Control tokens of well-known templates, for where the base's own are not at hand."""

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
"""Formats that the issuers document, each with a prefix of its own. A password in a sentence is not found."""

KEY_BODY = r".*?(?:-----END [A-Z0-9 ]*KEY(?: BLOCK)?-----|$)"
CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]"
"""Over UTF-8 bytes: all of Unicode's category Cc but tab, line feed and carriage return."""


class Scanner:
    """A search through texts. special_tokens: those that the base's tokenizer would read as control tokens."""

    def __init__(self, special_tokens: Iterable[str]) -> None:
        tokens = sorted({token for token in special_tokens if token}, key=lambda token: (-len(token), token))
        self._tokens = tokens
        self._search: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_tokens": self._tokens, "_search": None}

    def scan(self, texts: Sequence[tuple[str, str]]) -> dict[int, str]:
        """What is found in ``texts`` (name of the part, text): position in ``texts`` -> why that row cannot be used.

        The first finding of each text is told.
        """
        encoded = [text.encode() for _, text in texts]
        found: dict[int, str] = {}
        starts: list[int] = []
        for match in self._pattern().finditer(b"\n".join(encoded)):
            starts = starts or list(itertools.accumulate((len(part) + 1 for part in encoded), initial=0))
            index = bisect.bisect_right(starts, match.start()) - 1
            found.setdefault(index, self._reason(match.group(), texts[index][0]))
        return found

    def _pattern(self) -> Any:
        """Compiled where it is used: a compiled pattern does not travel between processes."""
        if self._search is None:
            options = re2.Options()
            options.encoding = re2.Options.Encoding.LATIN1  # bytes as they are
            tokens = [re2.escape(token.encode()) for token in self._tokens]
            parts = [CONTROL.encode(), *tokens, *(pattern.encode() for pattern in SECRETS.values())]
            self._search = re2.compile(b"|".join(parts), options)
        return self._search

    def _reason(self, match: bytes, part: str) -> str:
        text = match.decode()
        if text == "\0":
            return f"NUL byte: in the {part}"
        if len(text) == 1:
            return f"control character: U+{ord(text):04X} in the {part}"
        if text in self._tokens:
            return f"special token: {text!r} in the {part} would be read as a control token"
        return f"secret: {_secret(text)} in the {part} ({masked(text)})"


def mask_secrets(text: str) -> str:
    """``text`` with every secret masked, for files that are passed around."""
    return str(_SECRET.sub(lambda match: masked(match.group()), text))


def masked(secret: str) -> str:
    return "private key …" if secret.startswith("-") else f"{secret[:4]}…"


def _secret(text: str) -> str:
    return next(name for name, pattern in SECRETS.items() if re2.fullmatch(pattern, text))


_KEY = SECRETS["a private key"]
_SECRET = re2.compile(
    "(?s)" + "|".join([f"{_KEY}{KEY_BODY}", *(pattern for pattern in SECRETS.values() if pattern != _KEY)])
)
