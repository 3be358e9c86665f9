"""reports/comparison.html: one page, nothing fetched from elsewhere, that says who won, by how much, and shows it."""

from collections.abc import Sequence
from typing import Any

from tunesmith.core.journal import Event
from tunesmith.core.ready_rows import Sample, dumps
from tunesmith.evaluation.comparison import COSTS, Evaluated
from tunesmith.reports import sentences, templating
from tunesmith.reports.curves import curves
from tunesmith.reports.scatter import scatter


def page(
    comparison: dict[str, Any], models: Sequence[Evaluated], reward_models: dict[str, list[Event]] | None = None
) -> str:
    """The page as HTML. reward_models: journals of what was trained beside."""
    trainings = {model.name: model.training for model in models} | (reward_models or {})
    leader = comparison["best"]
    # Where the base leads, the last model is the one that a reader asks about.
    chosen = models[-1].name if leader == comparison["baseline"] else leader
    return templating.render_html(
        "comparison.html.j2",
        comparison=comparison,
        headline=sentences.best(comparison),
        chosen=chosen,
        outcome=comparison["against_baseline"].get(chosen, {}).get("verdict", "undecided"),
        plots=[scatter(comparison, cost) for cost in COSTS],
        trainings=[(name, drawn) for name, events in trainings.items() if (drawn := curves(events))],
        rows=side_by_side(models),
    )


def side_by_side(models: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """A row a prompt: suite, id, what was asked, what is right, and what each model answered: [score, answer, reason].

    score: None where it could not be graded.
    """
    return [
        {
            "suite": suite,
            "id": answers[0]["id"],
            "prompt": _text(answers[0]["prompt"]),
            "reference": _reference(answers[0]["reference"]),
            "answers": [[_score(answer), answer["completion"], answer["reason"]] for answer in answers],
        }
        for suite in models[0].samples
        for answers in zip(*(model.samples[suite] for model in models), strict=True)
    ]


def _reference(value: Any) -> str | None:
    """What is right, as text: a verifier may take several answers, or an object."""
    return value if value is None or isinstance(value, str) else dumps(value).decode()


def _score(sample: Sample) -> float | None:
    return None if sample["status"] == "not_gradable" else float(sample["score"])


def _text(prompt: list[dict[str, str]]) -> str:
    """A conversation as text; of several messages each with its role."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
