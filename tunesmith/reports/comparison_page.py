"""reports/comparison.html: one page with the best model, its lead, and the answers of all models side by side."""

from collections.abc import Sequence

from tunesmith.core.journal import Event
from tunesmith.core.ready_rows import Message, Sample, dumps, texts
from tunesmith.evaluation.comparison import COSTS, Evaluated
from tunesmith.evaluation.documents import Comparison
from tunesmith.evaluation.selection import selection
from tunesmith.reports import axes, sentences, templating
from tunesmith.reports.curves import curves
from tunesmith.reports.scatter import scatter


def page(
    comparison: Comparison, models: Sequence[Evaluated], reward_models: dict[str, list[Event]] | None = None
) -> str:
    """The page as HTML. reward_models: the journals of their trainings, by name."""
    trainings = {model.name: model.training for model in models} | (reward_models or {})
    leader = comparison["best"]
    # If the base leads, readers ask about the last model.
    chosen = models[-1].name if leader == comparison["baseline"] else leader
    against, about = comparison["against_baseline"], sentences.ranking(comparison)
    ends = [end for model in comparison["models"].values() for end in (model["low"], model["high"])]
    left = 30 + 8 * max(map(len, comparison["models"]))
    return templating.render_html(
        "comparison.html.j2",
        comparison=comparison,
        about=about,
        share=about["share"],
        measured=sentences.measured(about),
        axis=axes.scores(ends, (left, 450), share=about["share"]),
        headline=sentences.best(comparison),
        swept=[sentences.tried(name, sweeps) for name, sweeps in comparison["sweeps"].items()],
        chosen=chosen,
        outcome=against[chosen]["verdict"] if chosen in against else "undecided",
        plots=[scatter(comparison, cost) for cost in COSTS],
        trainings=[
            (name, charts, sentences.kept(choice) if (choice := selection(events)) else "")
            for name, events in trainings.items()
            if (charts := curves(events))
        ],
        rows=side_by_side(models),
    )


def side_by_side(models: Sequence[Evaluated]) -> list[dict[str, object]]:
    """A row for each prompt: suite, id, prompt, reference, and for each model [score, answer, reason].

    The score is None if the answer could not be graded.
    """
    return [
        {
            "suite": suite,
            "id": answers[0]["row"]["id"],
            "prompt": _text(answers[0]["row"]["prompt"]),
            "reference": _reference(answers[0]["row"].get("reference")),
            "answers": [[_score(answer), answer["completion"], answer["reason"]] for answer in answers],
        }
        for suite in models[0].samples
        for answers in zip(*(model.samples[suite] for model in models), strict=True)
    ]


def _reference(value: object) -> str | None:
    """The right answer as text; a verifier may take several answers, or an object."""
    return value if value is None or isinstance(value, str) else dumps(value).decode()


def _score(sample: Sample) -> float | None:
    return None if sample["status"] == "not_gradable" else float(sample["score"])


def _text(prompt: list[Message]) -> str:
    """A conversation as text; with several messages, each has its role."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {' '.join(texts(message)).strip()}" for message in prompt)
