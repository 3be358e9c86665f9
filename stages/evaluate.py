"""Ask every model the same prompts and grade the answers, in one process that loads the base once.

    python -m stages.evaluate [MODEL ...]      every model of params.yaml, or only these

reads   models/base, models/<model>, data/ready/<dataset>/test.jsonl of every suite, data/tasks,
        data/baseline/answers.jsonl
params  evaluate, the names of all models, and judge where a suite's refusal_by names it
writes  reports/evaluation/<model>/{metrics.json,samples.jsonl}, and those of `baseline` for a hosted model,
        reports/evaluation/base/repeats.jsonl,
        reports/metrics.json (scores on the first suite, for `dvc metrics` and `dvc exp show`)

A report stays where the model's bytes, the code, the params, the rows, the data of lm-eval's tasks and the hardware are
the same.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import cast

from tunesmith.core import fingerprint, formatting, layout, manifest, ready_rows, statistics
from tunesmith.core.console import run
from tunesmith.core.params import load, read, resolved
from tunesmith.core.ready_rows import Repeat, Sample
from tunesmith.evaluation import evaluate, grading
from tunesmith.evaluation.documents import ModelMetrics, SuiteMetrics, SuiteSettings
from tunesmith.evaluation.endpoint import answers, grade
from tunesmith.evaluation.endpoint import settings as endpoint
from tunesmith.evaluation.endpoint.answers import BaselineAnswer
from tunesmith.evaluation.evaluate import SuiteRows
from tunesmith.evaluation.suites import Evaluate
from tunesmith.models import chat_template, device, loading
from tunesmith.models.base import base_tokenizer
from tunesmith.models.loading import OpenModel
from tunesmith.verifiers.judge import refusal as judged_refusal
from tunesmith.verifiers.judge.endpoint import Judge

PARAMS = resolved("evaluate")
METRICS = layout.REPORTS / "metrics.json"
REPEATS = layout.EVALUATION / layout.BASE.name / "repeats.jsonl"


def main(only: list[str]) -> str:
    settings = load(Evaluate, "evaluate", path=PARAMS)
    models = [layout.BASE.name, *load(list[str], "models", path=PARAMS)]
    hosted = answers.read(layout.BASELINE)
    remove_others([*models, *([endpoint.NAME] if hosted else [])])
    names = only or models
    judge = load(Judge, "judge", path=PARAMS) if "judge" in read(PARAMS) else None
    suites = evaluate.read(settings, layout.READY, judge)
    profile = device.detect()
    code = (fingerprint.FOLDER / "evaluate").read_text()
    key = evaluate.key(settings, suites, code, manifest.read(layout.BASE).digest, profile)
    due = [name for name in names if not is_kept(name, key)]
    hosted_due = bool(hosted) and not is_kept(endpoint.NAME, key, hosted=True)
    if judge is not None and (due or hosted_due):
        print(f"  {judged_refusal.check_believed(judge)}", flush=True)
    began = time.monotonic()
    for folder, opened in loading.open_each([layout.MODELS / name for name in due], layout.BASE, profile):
        write_report(folder.name, opened, settings, suites, key)
    if hosted_due:
        write_hosted_report(suites, hosted, key)
    write_scores([name for name in models if (layout.EVALUATION / name / "metrics.json").exists()])
    kept = f", {len(names) - len(due)} kept" if len(due) < len(names) else ""
    return f"{layout.EVALUATION}: {len(due)} models evaluated in {time.monotonic() - began:.0f} s{kept}"


def remove_others(models: list[str]) -> None:
    """Remove the reports of models that params.yaml no longer names."""
    layout.EVALUATION.mkdir(parents=True, exist_ok=True)
    for folder in layout.EVALUATION.iterdir():
        if folder.name not in models:
            shutil.rmtree(folder)


def is_kept(name: str, key: str, *, hosted: bool = False) -> bool:
    """Whether the model's report is whole, and was made of the same model with the same key."""
    path = layout.EVALUATION / name / "metrics.json"
    if not path.exists() or not all(file.exists() for file in sample_files(name)):
        return False
    metrics: ModelMetrics = json.loads(path.read_text())
    digest = manifest.file_digest(layout.BASELINE) if hosted else manifest.verify(layout.MODELS / name).digest
    recorded = (metrics["key"], metrics["model_digest"], metrics["answers_digest"])
    return recorded == (key, digest, samples_digest(name))


def sample_files(name: str) -> list[Path]:
    """The files of samples that a model's metrics summarize."""
    return [layout.EVALUATION / name / "samples.jsonl", *([REPEATS] if name == layout.BASE.name else [])]


def samples_digest(name: str) -> str:
    """The SHA-256, in hex, of each file of a model's samples: it exposes a report that was cut short."""
    return "-".join(manifest.file_digest(file) for file in sample_files(name))


def write_report(name: str, opened: OpenModel, settings: Evaluate, suites: dict[str, SuiteRows], key: str) -> None:
    template = template_digest(opened, suites)  # an unknown variable of it is an error before anything is asked
    began = time.monotonic()
    results = {suite: evaluate.ask(rows, opened, settings.batch_size) for suite, rows in suites.items()}
    seconds = time.monotonic() - began
    samples = [sample for answered in results.values() for sample in answered]
    summaries = {suite: summary(suites[suite], answered) for suite, answered in results.items()}
    if name == layout.BASE.name:
        ready_rows.write_jsonl(REPEATS, ask_again(opened, settings, suites))
    ready_rows.write_jsonl(layout.EVALUATION / name / "samples.jsonl", samples)
    metrics: ModelMetrics = {
        "model": name,
        "time": time.time_ns() // 1_000_000,
        "suites": summaries,
        "model_digest": opened.manifest.digest,
        "base_weights_digest": opened.base.weights_digest,
        "dtype": str(opened.profile.dtype).removeprefix("torch."),
        "template_digest": template,
        "key": key,
        "answers_digest": samples_digest(name),
        "seconds": seconds,
    }
    ready_rows.write_json(layout.EVALUATION / name / "metrics.json", metrics)
    show(metrics, results)


def show(metrics: ModelMetrics, results: dict[str, list[Sample]]) -> None:
    first, ranked = next(iter(metrics["suites"].items()))
    shares = statistics.are_shares(sample["score"] for sample in results[first])
    score, prompts = formatting.score(ranked["score"], shares), sum(map(len, results.values()))
    print(f"  {metrics['model']}: {first} {score}, {prompts} prompts in {metrics['seconds']:.0f} s", flush=True)


def write_hosted_report(suites: dict[str, SuiteRows], hosted: list[BaselineAnswer], key: str) -> None:
    """Grade the answers of a hosted model, and write its report as that of any other model."""
    began = time.monotonic()
    tokenizer = base_tokenizer.open_tokenizer(layout.BASE)
    results = grade.grade(suites, hosted, lambda text: len(tokenizer.encode(text, add_special_tokens=False)))
    samples = [sample for answered in results.values() for sample in answered]
    ready_rows.write_jsonl(layout.EVALUATION / endpoint.NAME / "samples.jsonl", samples)
    metrics: ModelMetrics = {
        "model": endpoint.NAME,
        "time": max(answer["time"] for answer in hosted),
        "suites": {suite: summary(suites[suite], answered) for suite, answered in results.items()},
        "model_digest": manifest.file_digest(layout.BASELINE),
        "base_weights_digest": "",
        "dtype": "",
        "template_digest": "",
        "key": key,
        "answers_digest": samples_digest(endpoint.NAME),
        "seconds": time.monotonic() - began,
        "hosted": grade.about(hosted),
    }
    ready_rows.write_json(layout.EVALUATION / endpoint.NAME / "metrics.json", metrics)
    show(metrics, results)


def template_digest(opened: OpenModel, suites: dict[str, SuiteRows]) -> str:
    """The digest of the chat template, or of each suite's where one has values of its own for it."""
    opened_for = [evaluate.with_suites_template(rows.suite, opened) for rows in suites.values()]
    digests = [chat_template.digest(each.tokenizer) for each in opened_for]
    return "-".join(digests if len(set(digests)) > 1 else digests[:1])


def summary(rows: SuiteRows, answered: list[Sample]) -> SuiteMetrics:
    details = grading.details(rows.verifier, answered) if rows.verifier else {}
    settings: SuiteSettings = {
        "kind": rows.suite.kind,
        "dataset": rows.dataset,
        "verifier": rows.verifier,
        "metric": rows.metric,
        "chat_template_kwargs": rows.suite.chat_template_kwargs,
    }
    return cast("SuiteMetrics", {**settings, **grading.summarize(answered), **details})


def ask_again(opened: OpenModel, settings: Evaluate, suites: dict[str, SuiteRows]) -> list[Repeat]:
    """Further answers of the same model to the same prompts, in batches of the same and of another size."""
    sizes = [settings.batch_size, settings.noise_batch_size] if settings.noise_batch_size else []
    return [
        {**sample, "time": repetition, "batch_size": size}
        for repetition, size in enumerate(sizes)
        for rows in suites.values()
        for sample in evaluate.ask(rows, opened, size)
    ]


def write_scores(names: list[str]) -> None:
    """Write the score of every model on the first suite, for comparing experiments."""
    scores = {}
    for name in names:
        suites = json.loads((layout.EVALUATION / name / "metrics.json").read_text())["suites"]
        scores[name] = round(next(iter(suites.values()))["score"], 4)
    ready_rows.write_json(METRICS, scores)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
