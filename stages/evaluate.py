"""Ask every model the same, and grade what it answers: one process, the base loaded once.

    python -m stages.evaluate base sft-lora sft-qlora

reads   models/base, models/<model>, data/ready/<dataset>/test.jsonl of every suite, an lm-eval task file
params  evaluate
writes  reports/<model>/metrics.json, reports/<model>/samples.jsonl, reports/base/repeats.jsonl

A model whose report was made of the same bytes, by the same code and on the same hardware, keeps it.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from tunesmith.core import formatting, manifest, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation import evaluate, grading
from tunesmith.evaluation.evaluate import Question
from tunesmith.evaluation.suites import Evaluate, Task
from tunesmith.models import chat, device, loading
from tunesmith.models.loading import OpenModel

MODELS, READY, REPORTS = Path("models"), Path("data/ready"), Path("reports")
BASE = MODELS / "base"
REPEATS = REPORTS / BASE.name / "repeats.jsonl"


def main(names: list[str]) -> str:
    settings = load(Evaluate, "evaluate")
    asked = evaluate.read(settings, READY)
    profile = device.detect()
    same = evaluate.key(settings, asked, manifest.read(BASE).digest, profile)
    tasks = any(isinstance(question.suite, Task) for question in asked.values())  # whose data nobody here knows
    due = [name for name in names if tasks or not is_kept(name, same)]
    began = time.monotonic()
    for folder, opened in loading.open_each([MODELS / name for name in due], BASE, profile):
        report(folder.name, opened, settings, asked, same)
    kept = f", {len(names) - len(due)} kept" if len(due) < len(names) else ""
    return f"{REPORTS}: {len(due)} models evaluated in {time.monotonic() - began:.0f} s{kept}"


def is_kept(name: str, same: str) -> bool:
    """Whether the report there is whole, and of this very model, asked this very way."""
    path = REPORTS / name / "metrics.json"
    if not path.exists() or not all(file.exists() for file in answers(name)):
        return False
    made = json.loads(path.read_text())
    found = (made.get("key"), made["model_digest"], made.get("answers_digest"))
    return found == (same, manifest.verify(MODELS / name).digest, digest(name))


def answers(name: str) -> list[Path]:
    """The files of samples that belong to a model's metrics."""
    return [REPORTS / name / "samples.jsonl", *([REPEATS] if name == BASE.name else [])]


def digest(name: str) -> str:
    """SHA-256, in hex, over a model's samples: a report that was written half is not taken for a whole one."""
    return "-".join(manifest.file_digest(file) for file in answers(name))


def report(name: str, opened: OpenModel, settings: Evaluate, asked: dict[str, Question], same: str) -> None:
    began = time.monotonic()
    results = {suite: evaluate.ask(question, opened, settings.batch_size) for suite, question in asked.items()}
    seconds = time.monotonic() - began
    samples = [sample for answered in results.values() for sample in answered]
    summaries = {suite: summary(asked[suite], answered) for suite, answered in results.items()}
    if name == BASE.name:
        ready_rows.write_jsonl(REPEATS, repeated(opened, settings, asked))
    ready_rows.write_jsonl(REPORTS / name / "samples.jsonl", samples)
    ready_rows.write_json(
        REPORTS / name / "metrics.json",
        {
            "model": name,
            "time": time.time_ns() // 1_000_000,
            "suites": summaries,
            "model_digest": opened.manifest.digest,
            "base_weights_digest": opened.base.weights_digest,
            "dtype": str(opened.profile.dtype).removeprefix("torch."),
            "template_digest": chat.template_digest(opened.tokenizer),
            "key": same,
            "answers_digest": digest(name),
            "seconds": seconds,
        },
    )
    first, ranked = next(iter(summaries.items()))
    print(
        f"  {name}: {first} {formatting.percent(ranked['score'])}, {len(samples)} prompts in {seconds:.0f} s",
        flush=True,
    )


def summary(question: Question, answered: list[Sample]) -> dict[str, Any]:
    found = grading.summarize(answered)
    details = grading.details(question.verifier, answered) if question.verifier else {}
    return {"kind": question.suite.kind, "dataset": question.dataset, "verifier": question.verifier, **found, **details}


def repeated(opened: OpenModel, settings: Evaluate, asked: dict[str, Question]) -> list[Sample]:
    """The same model asked the same again, in batches of the same and of another size: what differs is noise."""
    sizes = [settings.batch_size, settings.noise_batch_size] if settings.noise_batch_size else []
    return [
        {**sample, "time": time_, "batch_size": size}
        for time_, size in enumerate(sizes)
        for question in asked.values()
        for sample in evaluate.ask(question, opened, size)
    ]


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
