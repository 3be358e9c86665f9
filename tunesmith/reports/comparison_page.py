"""reports/comparison.html: the page that a team decides by, from its best model down to the single answers.

`register` writes the same page once more, with the runs and versions of the models (`registered_page`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunesmith.core import layout
from tunesmith.core.journal import Event
from tunesmith.evaluation.comparison import COSTS, Evaluated
from tunesmith.evaluation.documents import Comparison
from tunesmith.evaluation.trainings import selection, unfollowed_warnings
from tunesmith.reports import answers, comparison_charts, facts, sentences, templating, vendored
from tunesmith.reports.curves import curves
from tunesmith.reports.facts import Facts


def page(
    comparison: Comparison,
    models: Sequence[Evaluated],
    reward_models: Mapping[str, list[Event]] | None = None,
    about: Facts | None = None,
    ready: Path = layout.READY,
) -> str:
    """The page as HTML.

    reward_models: the journals of their trainings, by name. about: the facts of its head. ready: the folder of ready
    data sets, with the images of prompts.
    """
    journals = {model.name: model.training for model in models if model.training} | dict(reward_models or {})
    leader = comparison["best"]
    # If the base leads, readers ask about the last model.
    chosen = models[-1].name if leader == comparison["baseline"] else leader
    known = [cost for cost in COSTS if any(model["cost"][cost] for model in comparison["models"].values())]
    against, ranking = comparison["against_baseline"], sentences.ranking(comparison)
    packed = answers.pack(models, ready=ready)
    return templating.render_html(
        "comparison.html.j2",
        comparison=comparison,
        share=ranking["share"],
        measured=sentences.measured(ranking),
        prompts=sum(suite["prompts"] for suite in comparison["suites"].values()),
        headline=sentences.best(comparison),
        doubts=sentences.warnings(chosen, comparison),
        warnings={name: sentences.warnings(name, comparison) for name in comparison["models"]},
        reward_warnings=unfollowed_warnings([model.training for model in models], reward_models or {}),
        swept=[sentences.tried(name, sweeps) for name, sweeps in comparison["sweeps"].items()],
        chosen=chosen,
        outcome=against[chosen]["verdict"] if chosen in against else "undecided",
        facts=facts.summary(about) if about else [],
        provenance=about["trainings"] if about else {},
        code=facts.code,
        scores=comparison_charts.scores(comparison),
        plots=[comparison_charts.cost(comparison, cost) for cost in known],
        unmeasured=[comparison_charts.COSTS[cost][0] for cost in COSTS if cost not in known],
        trainings=list(journals),
        curves=curves(journals),
        kept=[
            (name, sentences.kept(choice).replace("kept:", "kept", 1))
            for name, events in journals.items()
            if (choice := selection(events))
        ],
        index=templating.for_script(packed.index),
        chunks=packed.chunks,
        chunk_size=answers.CHUNK,
        model_names=templating.for_script([model.name for model in models]),
        texts=vendored.script(*vendored.TEXTS),
        vega=vendored.script(*vendored.CHARTS),
    )
