"""Grade the answers of the baseline's endpoint as those of every other model."""

from collections import Counter
from collections.abc import Callable

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation import grading
from tunesmith.evaluation.endpoint import answers as kept
from tunesmith.evaluation.endpoint.answers import BaselineAnswer
from tunesmith.evaluation.evaluate import SuiteRows
from tunesmith.evaluation.grading import Completion
from tunesmith.evaluation.hosted import HostedModel
from tunesmith.evaluation.suites import Answers

ENDED = ("stop", "tool_calls", "function_call", "end_turn", "eos")
"""Reasons by which services say that the model ended its turn."""


def grade(
    suites: dict[str, SuiteRows], answers: list[BaselineAnswer], count: Callable[[str], int]
) -> dict[str, list[Sample]]:
    """The samples of every suite of kind answers. count: the tokens of a text for the base, for lengths that compare.

    Raises EvaluationError where a prompt has no answer.
    """
    by_prompt = {(answer["suite"], answer["id"]): answer for answer in answers}
    samples = {}
    for name, asked in suites.items():
        if not isinstance(asked.suite, Answers):
            continue
        missing = [row["id"] for row in asked.rows if (name, row["id"]) not in by_prompt]
        if missing:
            raise EvaluationError(
                f"the hosted baseline has not answered {len(missing)} of {len(asked.rows)} prompts of {name} "
                f"(row {missing[0]})",
                fix="`dvc repro baseline` asks them",
            )
        completions = [_completion(by_prompt[name, row["id"]], count) for row in asked.rows]
        samples[name] = grading.grade(name, asked.rows, completions, asked.suite, asked.judge)
    return samples


def about(answers: list[BaselineAnswer]) -> HostedModel:
    """What is known of the model that gave these answers."""
    times = [answer["time"] for answer in answers]
    return {
        "models": dict(Counter(answer["model"] for answer in answers).most_common()),
        "first": kept.day(min(times)),
        "last": kept.day(max(times)),
        "answers": len(answers),
        "refused": sum(answer["refused"] for answer in answers),
        "prompt_tokens": sum(answer["prompt_tokens"] or 0 for answer in answers),
        "completion_tokens": sum(answer["completion_tokens"] or 0 for answer in answers),
    }


def _completion(answer: BaselineAnswer, count: Callable[[str], int]) -> Completion:
    stopped = answer["finish"] in ENDED
    return Completion(answer["text"], answer["key"], count(answer["text"]) + stopped, stopped)
