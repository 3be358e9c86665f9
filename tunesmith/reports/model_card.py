"""The card of a judged model, in the hub's format: its kind, training, scores and limits.

The card in the model's own folder (`models.saving`) was written before the model was judged. A pure function of lineage
and comparison. Text from data, params and models is escaped (`templating`).
"""

from collections.abc import Iterator

from huggingface_hub import EvalResult, ModelCardData

from tunesmith.core import formatting
from tunesmith.core.lineage import Lineage
from tunesmith.evaluation.documents import ComparedModel, Comparison, Difference, SuiteComparison
from tunesmith.models import base_sources
from tunesmith.reports import sentences, templating

MEASURES = {
    "answers": "the score is the share that is right",
    "preferences": "the score is the share of pairs whose better answer is likelier",
    "perplexity": "the score is the probability of a right answer's token, as a geometric mean",
}
"""The meaning of a score, by kind of suite; of a task of lm-eval it is the task's metric."""
NO_SETTING = ("dataset", "start", "weights", "probes")
"""Params of a training that are shown elsewhere in the card, or that do not shape the model."""
SHOWN = 5
"""Number of regressed prompts whose ids are named."""


def write(name: str, origin: Lineage, comparison: Comparison, *, task: str, base_license: str | None) -> str:
    """The card of the model ``name`` as Markdown with the hub's metadata in front; the same inputs give the same text.

    origin: its lineage. comparison: the content of reports/comparison.json. task: what the hub calls its use.
    base_license: the base's license as the hub writes it; None if it is not known.
    """
    data = _metadata(name, origin, comparison, task, base_license)
    body = templating.render_markdown("card.md.j2", **_values(name, origin, comparison), base_license=base_license)
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def _metadata(name: str, origin: Lineage, comparison: Comparison, task: str, base_license: str | None) -> ModelCardData:
    """Metadata for the hub, without names that would mean something else there: of data sets, or of another base."""
    repository = base_sources.repository(origin["base"]["source"])
    weights = "merged" if "merged" in origin else origin["method"]["weights"]
    return ModelCardData(
        base_model=repository[0] if repository else None,
        library_name="peft" if "on" in origin else "transformers",
        license=base_license,
        pipeline_tag=task,
        tags=["tunesmith", origin["method"]["objective"], weights],
        model_name=name,
        eval_results=[_result(suite, about, name, task) for suite, about in comparison["suites"].items()],
    )


def _result(suite: str, about: SuiteComparison, name: str, task: str) -> EvalResult:
    return EvalResult(
        task_type=task,
        dataset_name=about["dataset"],
        dataset_type=about["dataset"],
        dataset_config=suite,
        dataset_split="test",
        dataset_args={"prompts": about["prompts"], "prompts_digest": about["prompts_digest"]},
        metric_type="accuracy" if about["kind"] in ("answers", "preferences") else "score",
        metric_name=_measures(about).removeprefix("the score is the "),
        metric_value=round(about["models"][name]["score"], 4),
    )


def _values(name: str, origin: Lineage, comparison: Comparison) -> dict[str, object]:
    """The values of the template."""
    model, trained = comparison["models"][name], origin.get("merged", origin)
    commit, clean = trained["code"]["commit"], trained["code"]["clean"]
    return {
        "name": name,
        "headline": sentences.headline(name, comparison),
        "decision": comparison["gate"][name],
        "kind": _kind(origin),
        "model": model,
        "origin": {"merged": None} | origin,
        "trained": trained,
        "params": {section: _settings(values, origin) for section, values in origin["params"].items()},
        "time": _time(model),
        "commit": f"commit {commit}{'' if clean else ', with uncommitted changes'}" if commit else "no git checkout",
        "confidence": f"{100 * comparison['confidence']:g}%",
        "engine": comparison["engine"],
        "baseline": comparison["baseline"],
        "suites": [_suite(suite, about, name, model["start"]) for suite, about in comparison["suites"].items()],
        "start": comparison["against_start"].get(name),
        "ranked": comparison["suite"],
        "between": _between,
        "share": comparison["suites"][comparison["suite"]]["share"],
        "limits": list(_limits(name, comparison)),
        "digests": dict(_digests(origin, comparison)),
    }


def _kind(origin: Lineage) -> str:
    if "merged" in origin:
        return "full weights, an adapter merged into them"
    if "on" not in origin:
        return "full weights"
    return f"an adapter (LoRA) on the weights of {origin['on']['model']}"


def _settings(values: dict[str, object], origin: Lineage) -> str:
    """The params of a section that shape a training; of several learning rates, the one that was used."""
    rates = values.get("learning_rate")
    used = {"learning_rate": rates[origin["method"]["weights"]]} if isinstance(rates, dict) else {}
    shown = {key: value for key, value in (values | used).items() if key not in NO_SETTING and value is not None}
    return ", ".join(f"{key} {value}" for key, value in shown.items())


def _time(model: ComparedModel) -> str:
    """The training time, in all and of each training that the model builds on."""
    parts = ", ".join(f"{name} {formatting.seconds(spent)}" for name, spent in model["training"]["costs"].items())
    return f"{formatting.seconds(model['cost']['seconds'])} ({parts})"


def _suite(suite: str, about: SuiteComparison, name: str, start: str | None) -> dict[str, object]:
    """A suite's table: a row for the base, for the model's start, and for the model."""
    notes = {start: ", its start", name: ", this model"}
    baseline = next(iter(about["models"]))
    rows = [_row(model, about, notes.get(model, "")) for model in about["models"] if model in (baseline, start, name)]
    return {"name": suite, "about": about, "measures": _measures(about), "rows": rows}


def _measures(about: SuiteComparison) -> str:
    return MEASURES.get(about["kind"]) or f"the score is the task's {about['metric']}"


def _row(name: str, about: SuiteComparison, note: str) -> dict[str, object]:
    measured, against, share = about["models"][name], about["against_baseline"].get(name), about["share"]
    return {
        "name": name,
        "note": note,
        "score": formatting.score(measured["score"], share),
        "interval": formatting.interval(measured["low"], measured["high"], share).replace(",", " to") + "%" * share,
        "difference": formatting.change(against and against["difference"], share),
        "between": _between(against, share) if against else formatting.NONE,
        "verdict": against["verdict"] if against else "",
    }


def _between(result: Difference, share: bool) -> str:
    return f"{formatting.change(result['low'], share)} to {formatting.change(result['high'], share)}"


def _limits(name: str, comparison: Comparison) -> Iterator[str]:
    """The findings that speak against the model."""
    baseline = comparison["baseline"]
    for suite, about in comparison["suites"].items():
        result, measured, share = about["against_baseline"][name], about["models"][name], about["share"]
        if result["verdict"] == "worse":
            lost_by = formatting.change(result["difference"], share) + " points" * share
            yield f"On {suite} it is worse than {baseline}: {lost_by}."
        if lost := result["regressed"]:
            ids = ", ".join(lost[:SHOWN]) + (", …" if len(lost) > SHOWN else "")
            yield f"On {suite} it does worse than {baseline} on {len(lost)} of {result['prompts']} prompts: {ids}."
        if (stopped := measured["stopped"]) is not None and stopped < 1:
            cut_off = formatting.percent(1 - stopped)
            yield f"On {suite}, {cut_off} of its answers were cut off: it did not stop."
        if measured["not_gradable"]:
            yield f"On {suite}, {measured['not_gradable']} of its answers could not be graded, and count for nothing."
    for rule in comparison["gate"][name]["rules"]:
        if rule["outcome"] != "pass":
            state = "Broken" if rule["outcome"] == "fail" else "Not proven"
            yield f"{state}: {rule['rule']}."
    for text in comparison["models"][name]["warnings"]:
        yield f"While it trained: {text}."


def _digests(origin: Lineage, comparison: Comparison) -> Iterator[tuple[str, str]]:
    yield "weights of the base", origin["base"]["weights_digest"]
    for name, digests in origin["parents"].items():
        yield f"built on {name}", digests["digest"]
    for path, entry in origin["inputs"].items():
        yield path, entry["sha256"]
    for suite, about in comparison["suites"].items():
        yield f"prompts of {suite}", about["prompts_digest"]
