"""reports/comparison.html: one page, nothing fetched from elsewhere, that says who won, by how much, and shows it."""

from collections.abc import Sequence
from typing import Any

from tunesmith import pages, words
from tunesmith.comparison import Evaluated

CURVE = (640, 180)
"""Width and height of the drawing area of a curve, in SVG units."""


def page(comparison: dict[str, Any], models: Sequence[Evaluated]) -> str:
    """The page as HTML."""
    return pages.render(
        "comparison.html.j2",
        comparison=comparison,
        headlines=[
            {"verdict": result["verdict"], "text": words.headline(name, comparison)}
            for name, result in comparison["against_baseline"].items()
        ],
        curves=[curve(model) for model in models if model.training],
        rows=side_by_side(comparison, models),
    )


def side_by_side(comparison: dict[str, Any], models: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """A row a prompt: what was asked, what is right, what each model answered, and how that changed."""
    last = comparison["against_baseline"][models[-1].name] if len(models) > 1 else {"improved": [], "regressed": []}
    change = dict.fromkeys(last["improved"], "improved") | dict.fromkeys(last["regressed"], "regressed")
    return [
        {
            "prompt": answers[0]["prompt"],
            "reference": answers[0]["reference"],
            "answers": answers,
            "change": change.get(answers[0]["id"], "same"),
        }
        for answers in zip(*(model.samples for model in models), strict=True)
    ]


def curve(model: Evaluated) -> dict[str, Any]:
    """The loss curve of a training as SVG points, with what its axes say."""
    steps = [(event["step"], event["loss"]) for event in model.training if event["event"] == "step"]
    width, height = CURVE
    top, last = max(loss for _, loss in steps), max(step for step, _ in steps)
    points = " ".join(f"{step / last * width:.1f},{(1 - loss / top) * height:.1f}" for step, loss in steps)
    return {"model": model.name, "points": points, "top": top, "last": last, "width": width, "height": height}
