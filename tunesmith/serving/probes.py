"""Probes: prompts with evaluated answers, which a server must give before it is trusted with a request.

They are chosen at registration among the samples of the evaluation, and signed. Greedy answers repeat, but not to the
letter: in bfloat16 the same model batched otherwise writes otherwise now and then. How often is measured, and what it
explains is let through; the base's answers where the tuned model gave others are not.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
from scipy import stats

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Message, Repeat, Sample

NAME = "probes.json"
CONFIDENCE = 0.95
"""Of the upper limit of the noise, and of the test against it: it takes both to be wrong to refuse a good server."""
SHOWN = 3


class Probe(TypedDict):
    """A prompt with the answers that the evaluation got."""

    suite: str
    """The name of the suite."""
    id: str
    """The id of the row."""
    prompt: list[Message]
    """The conversation to answer."""
    max_new_tokens: int
    """The most tokens that an answer may take: those of the longer one of the two."""
    completion: str
    """The model's answer."""
    tokens: int
    """Tokens of the model's answer, the end of turn included."""
    base: str
    """The base's answer."""


class Noise(TypedDict):
    """How the base's answers differ when it is asked again, in batches of another size."""

    answers: int
    """The number of answers asked for again."""
    differ: int
    """How many of them came out different."""
    tokens: int
    """Tokens of all of them."""


class Probes(TypedDict):
    """The content of probes.json, signed at registration."""

    probes: list[Probe]
    """Prompts that tell the model from its base first, short ones first."""
    noise: Noise
    dtype: str
    """The dtype of the evaluation, such as "bfloat16"."""


def choose(
    name: str, own: Sequence[Sample], base: Sequence[Sample], repeats: Sequence[Repeat], *, count: int, dtype: str
) -> Probes:
    """The probes of the model ``name``: ``count`` prompts at most, first those that tell it from the base, short first.

    own, base: samples of both. repeats: the base's answers when it was asked again (reports/base/repeats.jsonl).
    Raises EvaluationError where no answer tells the model from its base: then none could prove which of them is served.
    """
    of_base = {_key(sample): sample for sample in base if sample["tokens"] is not None}  # else nothing was generated
    paired = [(sample, of_base[_key(sample)]) for sample in own if _key(sample) in of_base and sample["tokens"]]
    ordered = sorted(paired, key=lambda pair: (_same(*_said(pair)), pair[0]["tokens"] or 0, *_key(pair[0])))
    if not ordered or _same(*_said(ordered[0])):
        raise EvaluationError(
            f"{name} answers all {len(ordered)} prompts as its base does: no probe could tell which of them is served",
            fix="evaluate on prompts whose answers it has changed: a suite of kind answers in params.yaml, evaluate",
        )
    again = [sample for sample in repeats if sample["time"] and _key(sample) in of_base]  # in batches of another size
    differ = sum(not _same(*_said((sample, of_base[_key(sample)]))) for sample in again)
    tokens = sum(sample["tokens"] or 0 for sample in again)
    return {
        "probes": [_probe(*pair) for pair in ordered[:count]],
        "noise": {"answers": len(again), "differ": differ, "tokens": tokens},
        "dtype": dtype,
    }


def judge(probes: Probes, replies: Sequence[str], again: Sequence[str] | None = None) -> str | None:
    """Why the replies, one a probe, are not the evaluated model's; None where they are.

    again: replies of the same server asked in another way, where it computes otherwise than the evaluation did: what
    differs between the two is its own noise.
    """
    asked = list(zip(probes["probes"], replies, strict=True))
    rate = _limit(probes["noise"]["differ"], probes["noise"]["tokens"])
    telling = [(probe, reply) for probe, reply in asked if not _same(probe["completion"], probe["base"])]
    as_base = [(probe, reply) for probe, reply in telling if _same(reply, probe["base"])]
    if len(as_base) > _explained(rate, telling):
        return (
            f"{len(as_base)} of the {len(telling)} probe prompts that tell the model from its base are answered as by "
            f"the base: the adapter, or the trained weights, are not applied ({_shown(as_base)})"
        )
    if again is not None:
        changed = sum(not _same(*pair) for pair in zip(replies, again, strict=True))
        rate = max(rate, _limit(changed, sum(probe["tokens"] for probe, _ in asked)))
    other = [(probe, reply) for probe, reply in asked if not _same(reply, probe["completion"])]
    if len(other) > (explained := _explained(rate, asked)):
        return (
            f"{len(other)} of {len(asked)} probe prompts are answered otherwise than in the evaluation, where noise "
            f"explains {explained} at most ({_shown(other)})"
        )
    return None


def _probe(own: Sample, base: Sample) -> Probe:
    """Both were cut at the same length, if at all, so the longer of the two leaves room for either."""
    return {
        "suite": own["suite"],
        "id": own["row"]["id"],
        "prompt": own["row"]["prompt"],
        "max_new_tokens": max(own["tokens"] or 0, base["tokens"] or 0),
        "completion": own["completion"],
        "tokens": own["tokens"] or 0,
        "base": base["completion"],
    }


def _key(sample: Sample) -> tuple[str, str]:
    return sample["suite"], sample["row"]["id"]


def _said(pair: tuple[Sample, Sample]) -> tuple[str, str]:
    return pair[0]["completion"], pair[1]["completion"]


def _same(one: str, other: str) -> bool:
    """Servers drop white space around an answer, and hand over thoughts without their marks."""
    first, second = (re.sub(r"</?think>", " ", text).split() for text in (one, other))
    return first == second


def _limit(differ: int, tokens: int) -> float:
    """The upper limit of the rate, a token, at which an answer leaves its way; what was not measured explains nothing.

    Every token counts as one that could have: an answer that had left is counted too long, which the limit covers.
    """
    if not tokens:
        return 0.0
    interval = stats.binomtest(differ, tokens, alternative="less").proportion_ci(CONFIDENCE, method="exact")
    return float(interval.high)


def _explained(rate: float, asked: Iterable[tuple[Probe, str]]) -> int:
    """How many of the answers may differ at this rate a token: more is rarer than 1 - `CONFIDENCE`. Exact.

    The count is a sum of Bernoulli variables, one a probe, the more likely 1 the longer its answer.
    """
    counts = np.ones(1)  # the probability of 0, 1, ... that differ
    for probe, _ in asked:
        left = 1 - (1 - rate) ** probe["tokens"]
        counts = np.convolve(counts, [1 - left, left])
    tails = np.cumsum(counts[::-1])[::-1]
    return int(np.sum(tails >= 1 - CONFIDENCE)) - 1


def _shown(differing: Sequence[tuple[Probe, str]]) -> str:
    lines = [
        f"{_short(probe['prompt'][-1]['content'])}: expected {_short(probe['completion'])}, got {_short(reply)}"
        for probe, reply in differing[:SHOWN]
    ]
    return "; ".join(lines) + ("; …" if len(differing) > SHOWN else "")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"…{text[-59:]}")
