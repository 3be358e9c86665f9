"""Preference pairs as tokens, and the log-probabilities of their completions under a policy."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tunesmith.core.ready_rows import Row
from tunesmith.models import chat
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens, likelihoods


@dataclass(frozen=True)
class Pair:
    """A pair as token ids. id: of its row. chosen and rejected end with the end of turn."""

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
    tokenizer: PreTrainedTokenizerBase, rows: list[Row], max_length: int, section: str, source: Path
) -> list[Pair]:
    """Rows as tokens. Raises DataError with the number of pairs over ``max_length``; no pair is cut or dropped."""
    pairs = [_encode(tokenizer, row) for row in rows]
    chat.check_lengths([pair.length for pair in pairs], max_length, section, source)
    return pairs


def _encode(tokenizer: PreTrainedTokenizerBase, row: Row) -> Pair:
    tools = row.get("tools")
    prompt, chosen = chat.encode_example(tokenizer, row["prompt"], row["chosen"], tools).split()
    _, rejected = chat.encode_example(tokenizer, row["prompt"], row["rejected"], tools).split()
    return Pair(row["id"], prompt, chosen, rejected)


def log_probs(policy: OpenModel, pairs: list[Pair], batch_size: int) -> list[tuple[float, float]]:
    """Log-probabilities of the chosen and of the rejected completion of every pair, in nats."""
    examples = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    values = [likelihood.log_prob for likelihood in likelihoods(policy, examples, batch_size=2 * batch_size)]
    return list(zip(values[::2], values[1::2], strict=True))
