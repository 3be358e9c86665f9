"""Compare every evaluated model with the base, on the same prompts, and decide which pass the gate.

reads   reports/evaluation, models/<model>/{training.jsonl,manifest.json,lineage.json},
        models/base/{config.json,lineage.json}, data/ready/<dataset>/train.jsonl of every training
params  compare, gate, sweeps, the names of all models, and those of the data sets that trained them
writes  reports/comparison.json, reports/comparison.html, reports/scores/<suite>.csv, reports/losses/<model>.csv
"""

import json

from tunesmith.core import files, journal, layout, lineage, manifest, ready_rows
from tunesmith.core.console import run
from tunesmith.core.journal import Event
from tunesmith.core.params import load, resolved
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation.candidates import Swept
from tunesmith.evaluation.comparison import BASELINE, Evaluated, compare
from tunesmith.evaluation.differences import Compare
from tunesmith.evaluation.documents import ModelMetrics
from tunesmith.evaluation.endpoint import settings as endpoint
from tunesmith.evaluation.gate import decide_all
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.planning import memory, model_shape, workload
from tunesmith.planning.model_shape import Shape
from tunesmith.reports import comparison_page, dvc_plots, facts, sentences
from tunesmith.reports.facts import ComparisonReport

PARAMS = resolved("compare")
REPEATS = layout.EVALUATION / BASELINE / "repeats.jsonl"
TABLE, PAGE = layout.REPORTS / "comparison.json", layout.REPORTS / "comparison.html"
SCORES, LOSSES = layout.REPORTS / "scores", layout.REPORTS / "losses"


def main() -> str:
    shape = model_shape.read(str(layout.BASE))
    names = [BASELINE, *load(list[str], "models", path=PARAMS)]
    models = [open_evaluated(name, shape) for name in names]
    reward_models = {name: read_journal(name) for name in load(list[str], "reward_models", path=PARAMS)}
    answered = (layout.EVALUATION / endpoint.NAME / "metrics.json").exists() and endpoint.NAME not in names
    hosted = open_evaluated(endpoint.NAME, shape) if answered else None
    swept = load(dict[str, Swept], "sweeps", path=PARAMS)
    decisions = decide_all(load(Gate, "gate", path=PARAMS), models, ready_rows.read_repeats(REPEATS), hosted, swept)
    settings = load(Compare, "compare", path=PARAMS)
    comparison = compare(models, trained_on(), settings, reward_models, decisions, hosted, swept)
    lineages = {model.name: lineage.read(layout.MODELS / model.name) for model in models if model.training}
    about = facts.collect(lineage.read(layout.BASE), lineages, [model.metrics for model in models])
    report: ComparisonReport = {**comparison, "facts": about}
    ready_rows.write_json(TABLE, report)
    files.write_text(PAGE, comparison_page.page(comparison, models, reward_models, about))
    files.write_texts(SCORES, dvc_plots.scores(comparison))
    files.write_texts(LOSSES, dvc_plots.losses(models, reward_models))
    return f"{PAGE}: {sentences.best(comparison)}"


def trained_on() -> list[Row]:
    """The rows of all trainings. A prompt in one of them can judge no model, since models are built on models."""
    datasets = load(list[str], "trained_on", path=PARAMS)
    return [row for name in datasets for row in ready_rows.read(layout.split(name, "train"))]


def open_evaluated(name: str, shape: Shape) -> Evaluated:
    metrics: ModelMetrics = json.loads((layout.EVALUATION / name / "metrics.json").read_text())
    samples: dict[str, list[Sample]] = {suite: [] for suite in metrics["suites"]}
    for sample in ready_rows.read_samples(layout.EVALUATION / name / "samples.jsonl"):
        samples[sample["suite"]].append(sample)
    if name == BASELINE or "hosted" in metrics:
        return Evaluated(metrics, samples, training=[], weights_bytes=0)
    training = read_journal(name)
    predicted = memory.predict(shape, workload.from_journal(journal.first(training, "start"))).total
    weights_bytes = manifest.read(layout.MODELS / name).weights_bytes
    return Evaluated(metrics, samples, training, weights_bytes, predicted_memory_bytes=predicted)


def read_journal(name: str) -> list[Event]:
    return journal.read(layout.MODELS / name / journal.NAME)


if __name__ == "__main__":
    run(main)
