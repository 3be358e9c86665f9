"""Verifiers as rewards, and checks of their score before a policy is trained on it."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tunesmith.core.errors import TrainingError
from tunesmith.core.ready_rows import Row
from tunesmith.training.entries.grpo import RewardWeights
from tunesmith.verifiers import catalog
from tunesmith.verifiers.judge import refusal as judged_refusal
from tunesmith.verifiers.judge.endpoint import Judge
from tunesmith.verifiers.sandbox import tiers
from tunesmith.verifiers.verdict import Verdict
from tunesmith.verifiers.worker import pool


class Score:
    """The weighted score of completions, as a reward function of TRL. ``last`` holds the ids of its latest rows.

    judge: classifies refusals where it is not None, in place of the rules of the verifier `refusal`.
    """

    __name__ = "score"  # TRL's name for it in its logs

    def __init__(self, weights: RewardWeights, judge: Judge | None = None) -> None:
        self.weights, self.judge = weights, judge
        self.last: list[str] = []

    def __call__(self, completions: list[str], row: list[str], **_: object) -> list[float | None]:
        """row: ready rows, each as JSON."""
        rows = [json.loads(text) for text in row]
        self.last = list(dict.fromkeys(ready["id"] for ready in rows))
        return self.of_all(completions, rows)

    def of_all(self, completions: list[str], rows: list[Row]) -> list[float | None]:
        """The score of each completion to its row."""
        with ThreadPoolExecutor(pool.size()) as threads:  # for verifiers that run other processes
            return list(threads.map(self.of, completions, rows))

    def of(self, completion: str, row: Row) -> float | None:
        """The score; None where a verifier cannot grade: the completion then neither gains nor loses."""
        verdicts = {name: self._verdict(name, completion, row) for name in self.weights}
        if any(verdict.status == "not_gradable" for verdict in verdicts.values()):
            return None
        return sum(weight * verdicts[name].score for name, weight in self.weights.items())

    def _verdict(self, name: str, completion: str, row: Row) -> Verdict:
        if name == "refusal" and self.judge is not None:
            return judged_refusal.verify(self.judge, completion, row)
        return catalog.verify(name, completion, row)

    def by_reference(self) -> "Score":
        """The score of only those verifiers that compare with a reference."""
        return Score(
            {name: weight for name, weight in self.weights.items() if "reference" in catalog.VERIFIERS[name].needs}
        )

    @property
    def full(self) -> float:
        """The highest score."""
        return sum(self.weights.values())


def check_gold(score: Score, rows: list[Row], where: str) -> None:
    """Raise TrainingError unless every row's own answer gets the full score, and the same score when graded again.

    Verifiers that need no reference have no right answer to grade: for them, rows must only bring the columns that they
    need. Raises SandboxError where programs are to be scored and no sandbox works here.
    """
    if "code" in score.weights:
        tiers.tier()
    for name in score.weights:
        without = [row["id"] for row in rows if catalog.missing_columns(name, row)]
        if without:
            needs = " and ".join(map(repr, catalog.VERIFIERS[name].needs))
            raise TrainingError(
                f"{where}: {len(without)} of {len(rows)} rows do not say what is right: {name} needs {needs} "
                f"(row {without[0]})",
                fix="grade rows that bring it, or name a verifier that fits these",
            )
        ungradable = [(row["id"], reason) for row in rows if (reason := catalog.ungradable(name, row))]
        if ungradable:
            row_id, reason = ungradable[0]
            raise TrainingError(
                f"{where}: answers to {len(ungradable)} of {len(rows)} rows cannot be graded by {name} "
                f"(row {row_id}: {reason})",
                fix="correct those rows, or name a verifier that fits them",
            )
    score = score.by_reference()
    if not score.weights:
        return
    name = next(iter(score.weights))
    golds = [catalog.gold(name, row) or "" for row in rows]
    first, again = ([score.of(gold, row) for gold, row in zip(golds, rows, strict=True)] for _ in range(2))
    bad = [(row["id"], value) for row, value in zip(rows, first, strict=True) if value != score.full]
    if bad:
        row_id, value = bad[0]
        raise TrainingError(
            f"{where}: {len(bad)} of {len(rows)} rows' own answers do not get full marks from "
            f"{', '.join(score.weights)} (row {row_id}: {value} of {score.full:g}): other answers would be rewarded",
            fix="name a verifier that fits these rows, or correct their answers",
        )
    _check_same(first, again)


@dataclass(frozen=True)
class Signal:
    """The signal of a score in the starting policy's answers.

    mean: the mean score. equal_groups: the share of prompts whose answers all got the same score. spread: the other
    prompts, which alone can teach, since an answer is judged only against its group.
    """

    mean: float
    equal_groups: float
    spread: list[Row]


def check_rollouts(score: Score, rows: list[Row], answers: list[list[str]], start: str) -> Signal:
    """Grade the starting policy's answers, several to each row. start: its name.

    Raises TrainingError where no group has spread, or where grading twice disagrees.
    """
    graded = [[score.of(text, row) for text in group] for row, group in zip(rows, answers, strict=True)]
    _check_same(graded, [[score.of(t, r) for t in group] for r, group in zip(rows, answers, strict=True)])
    values = [value for group in graded for value in group if value is not None]
    mean = sum(values) / len(values) if values else 0.0
    spread = [row for row, group in zip(rows, graded, strict=True) if len(set(group) - {None}) > 1]
    if not spread:
        raise TrainingError(
            f"no signal: within each of {len(graded)} groups of rollouts all rewards are equal (mean {mean:g} of "
            f"{score.full:g})",
            fix=_remedy(mean, score.full, answers, start),
        )
    return Signal(mean, 1 - len(spread) / len(rows), spread)


def _remedy(mean: float, full: float, answers: list[list[str]], start: str) -> str:
    if all(len(set(group)) == 1 for group in answers):
        return "the policy always gives the same answer: raise temperature in params.yaml"
    if mean == 0:
        example = random.Random(0).choice(answers)[0]
        return (
            f"no answer of {start} is right yet: train it on answers to such prompts first (or name another policy in "
            "start), take easier prompts, larger groups or more max_new_tokens, or a verifier that reads such answers "
            f"as {example[:80]!r}"
        )
    if mean == full:
        return "every answer is right already: take harder prompts"
    return "take a verifier that tells better from worse answers, or other prompts"


def _check_same(first: object, again: object) -> None:
    if first != again:
        raise TrainingError(
            "grading the same answers twice gives different scores, so the reward is not reliable",
            fix="use verifiers that depend on the answer alone",
        )
