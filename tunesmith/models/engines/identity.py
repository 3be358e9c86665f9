"""The proof that a name of vLLM's is answered by the model that it names, before any of its answers counts.

vLLM has answered as the base in place of an adapter, and as another adapter, without an error. So a few conversations
are scored by every model in this process, by transformers, and by every name of the server. What answers under a name
must lie on the side of the model of that name, between it and each other model, and near it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tunesmith.core.errors import EngineError
from tunesmith.core.ready_rows import Row

SEQUENCES, TOKENS = 16, 256
"""Conversations that are scored, and the tokens of each, at most: the last ones, which end with an answer."""
DISAGREEMENT = 0.2
"""Nats a token by which two engines may differ on one model. Rounding to bfloat16 makes up to 0.07; another adapter or
template 0.3 or more."""
CERTAIN = 4.0
"""Standard errors by which an answer must lie on one side of the middle between two models to be said to be there."""

LogProbs = Sequence[Sequence[float]]
"""The log-probability, in nats, of every token of every sequence but its first."""


def check(name: str, answered: LogProbs, references: Mapping[str, LogProbs], *, remedy: str | None = None) -> float:
    """Return the difference between the server under ``name`` and the model of that name, in nats a token.

    references: what each model gives, by name. remedy: the fix of errors, where it is not that of an evaluation. Raises
    EngineError where another model than the named one answers, or numbers are not finite.
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
    """Return the other models that differ from ``name`` by so little that the answers may be either's."""
    places = {other: place(answered, references[name], each) for other, each in references.items() if other != name}
    return [other for other, (side, error) in places.items() if side <= 0.5 + CERTAIN * error]


def place(answered: LogProbs, own: LogProbs, other: LogProbs) -> tuple[float, float]:
    """Return where an answer lies between two models, 1 at the one and 0 at the other, and its standard error.

    It is the projection on their difference, so that rounding, which is in no direction, averages out over the tokens.
    Of equal models the answer lies in the middle, with an infinite error.
    """
    apart = _flat(own) - _flat(other)
    length = float(apart @ apart)
    if length == 0.0:
        return 0.5, float("inf")
    offset = _flat(answered) - _flat(other)
    side = float(offset @ apart) / length
    return side, float(np.std(offset - side * apart)) / length**0.5


def distance(one: LogProbs, other: LogProbs) -> float:
    """The mean difference of two models' log-probabilities, in nats a token; of a token, 1 at most."""
    return float(np.minimum(np.abs(_flat(one) - _flat(other)), 1.0).mean())


def conversations(rows: Sequence[Row]) -> list[Row]:
    """The rows to score: the first ones, and of these only different prompts."""
    return list({repr(row["prompt"]): row for row in rows if row.get("prompt")}.values())[:SEQUENCES]


def _flat(log_probs: LogProbs) -> NDArray[np.float64]:
    """All values, one after another."""
    return np.concatenate([np.asarray(values, float) for values in log_probs])
