"""Verifiers as rewards, and the proof that their score is solid before a policy is trained on it."""

import json
import random
from dataclasses import dataclass

from tunesmith.core.errors import TrainingError
from tunesmith.core.ready_rows import Row
from tunesmith.training.entries.grpo import RewardWeights
from tunesmith.verifiers import catalog
from tunesmith.verifiers.sandbox import tiers


class Score:
    """The weighted score of completions, as TRL calls a reward function. It remembers the rows it was last asked of."""

    __name__ = "score"  # TRL's name for it in its logs

    def __init__(self, weights: RewardWeights) -> None:
        self.weights = weights
        self.last: list[str] = []

    def __call__(self, completions: list[str], row: list[str], **_: object) -> list[float | None]:
        """row: ready rows, each as JSON."""
        rows = [json.loads(one) for one in row]
        self.last = list(dict.fromkeys(one["id"] for one in rows))
        return [self.of(text, one) for text, one in zip(completions, rows, strict=True)]

    def of(self, completion: str, row: Row) -> float | None:
        """None where a verifier failed to grade: the completion then neither gains nor loses."""
        verdicts = {name: catalog.verify(name, completion, row) for name in self.weights}
        if any(verdict.status == "not_gradable" for verdict in verdicts.values()):
            return None
        return sum(weight * verdicts[name].score for name, weight in self.weights.items())

    def with_gold(self) -> "Score":
        """Of the verifiers that compare with a reference alone."""
        return Score(
            {name: weight for name, weight in self.weights.items() if "reference" in catalog.VERIFIERS[name].needs}
        )

    @property
    def full(self) -> float:
        return sum(self.weights.values())


def check_gold(score: Score, rows: list[Row], where: str) -> None:
    """Raise TrainingError unless every row's own answer gets full marks, and the same marks when graded again.

    Verifiers that compare with no reference cannot be held to one: of them the rows must bring what they need. Raises
    SandboxError where programs are to be scored and nothing here can hold them.
    """
    if "code" in score.weights:
        tiers.tier()
    for name in score.weights:
        without = [row["id"] for row in rows if catalog.lacking(name, row)]
        if without:
            needs = " and ".join(map(repr, catalog.VERIFIERS[name].needs))
            raise TrainingError(
                f"{where}: {len(without)} of {len(rows)} rows do not say what is right: {name} needs {needs} "
                f"(row {without[0]})",
                fix="grade rows that bring it, or name a verifier that fits these",
            )
    score = score.with_gold()
    if not score.weights:
        return
    name = next(iter(score.weights))
    golds = [catalog.gold(name, row) or "" for row in rows]
    first, again = ([score.of(gold, row) for gold, row in zip(golds, rows, strict=True)] for _ in range(2))
    bad = [(row["id"], mark) for row, mark in zip(rows, first, strict=True) if mark != score.full]
    if bad:
        name, mark = bad[0]
        raise TrainingError(
            f"{where}: {len(bad)} of {len(rows)} rows' own answers do not get full marks from "
            f"{', '.join(score.weights)} (row {name}: {mark} of {score.full:g}): other answers would be paid for",
            fix="name a verifier that fits these rows, or mend their answers",
        )
    _check_same(first, again)


@dataclass(frozen=True)
class Signal:
    """What the starting policy's answers say of a score.

    mean: of all marks. equal_groups: share of the prompts whose answers all got the same. spread: the other prompts,
    which can teach; an answer is only ever judged against its group.
    """

    mean: float
    equal_groups: float
    spread: list[Row]


def check_rollouts(score: Score, rows: list[Row], answers: list[list[str]]) -> Signal:
    """Grade the starting policy's answers, several to each row.

    Raises TrainingError where no group has spread, or where grading twice disagrees.
    """
    graded = [[score.of(text, row) for text in group] for row, group in zip(rows, answers, strict=True)]
    _check_same(graded, [[score.of(t, r) for t in group] for r, group in zip(rows, answers, strict=True)])
    marks = [mark for group in graded for mark in group if mark is not None]
    mean = sum(marks) / len(marks) if marks else 0.0
    spread = [row for row, group in zip(rows, graded, strict=True) if len(set(group) - {None}) > 1]
    if not spread:
        raise TrainingError(
            f"no signal: within each of {len(graded)} groups of rollouts all rewards are equal (mean {mean:g} of "
            f"{score.full:g})",
            fix=_remedy(mean, score.full, answers),
        )
    return Signal(mean, 1 - len(spread) / len(rows), spread)


def _remedy(mean: float, full: float, answers: list[list[str]]) -> str:
    if all(len(set(group)) == 1 for group in answers):
        return "the policy always says the same: raise temperature in params.yaml"
    if mean == 0:
        example = random.Random(0).choice(answers)[0]
        return (
            "no answer is right yet: start from a policy that has learned the task (start: sft-lora), take easier "
            f"prompts, larger groups or more max_new_tokens, or a verifier that reads such answers as {example[:80]!r}"
        )
    if mean == full:
        return "every answer is right already: take harder prompts"
    return "take a verifier that tells better from worse answers, or other prompts"


def _check_same(first: object, again: object) -> None:
    if first != again:
        raise TrainingError(
            "grading the same answers twice gives other scores: there is no solid reward",
            fix="use verifiers that depend on the answer alone",
        )
