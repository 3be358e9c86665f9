"""reports/comparison.html: one page, nothing fetched from elsewhere, that says who won, by how much, and shows it."""

from collections.abc import Sequence
from typing import Any

from tunesmith import pages, words
from tunesmith.comparison import COSTS, Evaluated
from tunesmith.curves import curves
from tunesmith.evaluation import Sample
from tunesmith.journal import Event
from tunesmith.scatter import scatter


def page(
    comparison: dict[str, Any], models: Sequence[Evaluated], reward_models: dict[str, list[Event]] | None = None
) -> str:
    """The page as HTML. reward_models: journals of what was trained beside."""
    trainings = {model.name: model.training for model in models} | (reward_models or {})
    leader = comparison["best"]
    # Where the base leads, the last model is the one that a reader asks about.
    chosen = models[-1].name if leader == comparison["baseline"] else leader
    return pages.render(
        "comparison.html.j2",
        comparison=comparison,
        headline=words.best(comparison),
        chosen=chosen,
        outcome=comparison["against_baseline"].get(chosen, {}).get("verdict", "undecided"),
        plots=[scatter(comparison, cost) for cost in COSTS],
        trainings=[(name, drawn) for name, events in trainings.items() if (drawn := curves(events))],
        rows=side_by_side(models),
    )


def side_by_side(models: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """A row a prompt: what was asked, what is right, what each model answered, and its score (None: not gradable)."""
    return [
        {
            "prompt": answers[0]["prompt"],
            "reference": answers[0]["reference"],
            "answers": [answer | {"mark": mark(answer)} for answer in answers],
            "scores": [None if answer["status"] == "not_gradable" else answer["score"] for answer in answers],
        }
        for answers in zip(*(model.samples for model in models), strict=True)
    ]


def mark(sample: Sample) -> str:
    """An answer's score in one sign."""
    if sample["status"] == "not_gradable":
        return "?"
    return {0: "✗", 1: "✓"}.get(sample["score"], f"{sample['score']:.2f}")
