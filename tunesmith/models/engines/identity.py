"""The proof that a name of vLLM's is answered by the model that it names, before any of its answers counts.

vLLM has answered as the base in place of an adapter, and as another adapter, without an error. So a few conversations
are scored by every model in this process, by transformers, and by every name of the server. What answers under a name
must be nearest to the model of that name among all, and near.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tunesmith.core.errors import EngineError
from tunesmith.core.ready_rows import Row

SEQUENCES, TOKENS = 16, 256
"""Conversations that are scored, and the tokens of each, at most."""
DISAGREEMENT = 0.2
"""Nats a token by which two engines may differ on one model. Rounding to bfloat16 makes up to 0.07; another adapter or
template 0.3 or more."""

APART = 2.0
"""Two models are told apart where they differ from each other by so many times what the nearer one differs from the
server: the server, which differs from one of them by rounding, cannot then be near to both."""

LogProbs = Sequence[Sequence[float]]
"""The log-probability, in nats, of every token of every sequence but its first."""


def check(name: str, answered: LogProbs, references: Mapping[str, LogProbs], *, remedy: str | None = None) -> float:
    """Return the difference between the server under ``name`` and the model of that name, in nats a token.

    references: what each model gives, by name. remedy: the fix of errors, where it is not that of an evaluation. Raises
    EngineError where another model than the named one answers.
    """
    distances = {other: distance(answered, reference) for other, reference in references.items()}
    own, nearest = distances[name], min(distances, key=lambda other: distances[other])
    # Of models that differ by less than that, the nearest is a matter of rounding; they need not be told apart.
    apart = APART * distances[nearest]
    if own > distances[nearest] and distance(references[name], references[nearest]) > apart:
        raise EngineError(
            f"vLLM answers to {name!r} as {nearest!r} does: its log-probabilities differ from {nearest}'s by "
            f"{distances[nearest]:.3f} nats a token, and from {name}'s by {own:.3f}",
            fix=remedy
            or f"run it again; if it stays so, merge {name} (package.merged in params.yaml), set evaluate.engine to "
            "transformers, or take another version of vLLM (`tunesmith engine` shows this one). No answer was counted",
        )
    if own > DISAGREEMENT:
        raise EngineError(
            f"vLLM answers to {name!r} as no model here does: its log-probabilities differ from {name}'s by {own:.3f} "
            f"nats a token, of which rounding explains {DISAGREEMENT:g}",
            fix=remedy
            or "check that the engine computes in the dtype of the evaluation (engine.dtype in params.yaml: auto), or "
            "set evaluate.engine to transformers. No answer was counted",
        )
    return own


def distance(one: LogProbs, other: LogProbs) -> float:
    """The mean difference of two models' log-probabilities, in nats a token; of a token, 1 at most."""
    differences = [np.minimum(np.abs(np.subtract(ours, theirs)), 1.0) for ours, theirs in zip(one, other, strict=True)]
    return float(np.concatenate(differences).mean())


def conversations(rows: Sequence[Row]) -> list[Row]:
    """The rows to score: the first ones that have a prompt."""
    return [row for row in rows if row.get("prompt")][:SEQUENCES]
