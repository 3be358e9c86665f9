"""The proof that vLLM answers under a name with the model of that name, before any of its answers counts.

vLLM has answered as the base in place of an adapter, and as another adapter, without an error. So a few conversations
are scored with every model by transformers in this process, and under every name by the server. The log-probabilities
under a name must be close to those of its model, and closer to them than to those of each other model.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tunesmith.core.errors import EngineError
from tunesmith.core.ready_rows import Row

SEQUENCES, TOKENS = 16, 256
"""Maximum number of scored conversations, and of tokens of each: its last ones, which end with an answer."""
DISAGREEMENT = 0.2
"""Nats a token by which two engines may differ on one model. Rounding to bfloat16 causes up to 0.07; another adapter or
template 0.3 or more."""
CERTAIN = 4.0
"""Standard errors from the middle between two models beyond which log-probabilities count as one model's."""

LogProbs = Sequence[Sequence[float]]
"""The log-probability, in nats, of every token of every sequence but its first."""


def check(name: str, answered: LogProbs, references: Mapping[str, LogProbs], *, remedy: str | None = None) -> float:
    """Return the difference between the server under ``name`` and the model of that name, in nats a token.

    references: each model's log-probabilities by transformers, by name. remedy: the fix of errors; None for that of an
    evaluation. Raises EngineError where another model answers, or numbers are not finite.
    """
    if not all(np.isfinite(_flat(each)).all() for each in (answered, *references.values())):
        raise EngineError(
            f"the log-probabilities of {name!r}, by vLLM or by transformers, are not all finite numbers",
            fix=remedy or "set engine.dtype to bfloat16 or float32 in params.yaml; float16 overflows in some models",
        )
    own = distance(answered, references[name])
    for other, reference in references.items():
        side, error = place(answered, references[name], reference)
        if side < 0.5 - CERTAIN * error:
            raise EngineError(
                f"vLLM answers to {name!r} as {other!r} does: its log-probabilities differ from {other}'s by "
                f"{distance(answered, reference):.3f} nats a token, and from {name}'s by {own:.3f}",
                fix=remedy
                or f"run it again; if it stays so, merge {name} (package.merged in params.yaml), set evaluate.engine "
                "to transformers, or take another version of vLLM (`tunesmith engine` shows this one). No answer was "
                "counted",
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


def indistinguishable(name: str, answered: LogProbs, references: Mapping[str, LogProbs]) -> list[str]:
    """Return the other models that are so close to ``name`` that the log-probabilities may be either's."""
    places = {other: place(answered, references[name], each) for other, each in references.items() if other != name}
    return [other for other, (side, error) in places.items() if side <= 0.5 + CERTAIN * error]


def place(answered: LogProbs, own: LogProbs, other: LogProbs) -> tuple[float, float]:
    """Return where log-probabilities lie between two models, 1 at ``own`` and 0 at ``other``, and the standard error.

    It is the projection onto their difference, in which rounding, which has no direction, averages out over the tokens.
    Between equal models it is 0.5, with an infinite error.
    """
    apart = _flat(own) - _flat(other)
    length = float(apart @ apart)
    if length == 0.0:
        return 0.5, float("inf")
    offset = _flat(answered) - _flat(other)
    side = float(offset @ apart) / length
    return side, float(np.std(offset - side * apart)) / length**0.5


def distance(one: LogProbs, other: LogProbs) -> float:
    """The mean absolute difference of log-probabilities, in nats a token; each token counts at most 1."""
    return float(np.minimum(np.abs(_flat(one) - _flat(other)), 1.0).mean())


def conversations(rows: Sequence[Row]) -> list[Row]:
    """The rows to score: the first ones with different prompts."""
    return list({repr(row["prompt"]): row for row in rows if row.get("prompt")}.values())[:SEQUENCES]


def _flat(log_probs: LogProbs) -> NDArray[np.float64]:
    """All values, one after another."""
    return np.concatenate([np.asarray(values, float) for values in log_probs])
