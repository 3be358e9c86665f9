"""Preference pairs as tokens, and their log-probabilities under a policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunesmith.models import chat
from tunesmith.models.lengths import check_lengths
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens, likelihoods


@dataclass(frozen=True)
class Pair:
    """id: of the row. chosen and rejected end with the end of turn."""

    id: str
    prompt: Tokens
    chosen: Tokens
    rejected: Tokens

    @property
    def length(self) -> int:
        """Tokens of the prompt with the longer completion."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def tokens(self) -> int:
        """Tokens of both conversations."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], max_length: int, section: str, source: Path
) -> list[Pair]:
    """Rows as tokens. Raises DataError that counts the pairs longer than ``max_length``: none is cut or dropped."""
    pairs = [_encode(tokenizer, row) for row in rows]
    check_lengths([pair.length for pair in pairs], max_length, section, source)
    return pairs


def _encode(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> Pair:
    sides = [chat.encode_example(tokenizer, row["prompt"], row[side]).split() for side in ("chosen", "rejected")]
    (prompt, chosen), (_, rejected) = sides
    return Pair(row["id"], prompt, chosen, rejected)


def log_probs(policy: OpenModel, pairs: list[Pair], batch_size: int) -> list[tuple[float, float]]:
    """Of the chosen and of the rejected completion of every pair, in nats."""
    examples = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    found = [likelihood.log_prob for likelihood in likelihoods(policy, examples, batch_size=2 * batch_size)]
    return list(zip(found[::2], found[1::2], strict=True))
