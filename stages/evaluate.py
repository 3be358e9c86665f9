"""Ask every model the same prompts and grade the answers, by one engine that loads the base once.

    python -m stages.evaluate [MODEL ...]      every model of params.yaml, or only these

reads   models/base, models/<model>, data/ready/<dataset>/{test.jsonl,images} of every suite, data/tasks,
        data/baseline/answers.jsonl
params  evaluate, engine, the names of all models, and judge where a suite's refusal_by names it
writes  reports/evaluation/<model>/{metrics.json,samples.jsonl}, and those of `baseline` for a hosted model,
        reports/evaluation/base/repeats.jsonl,
        reports/metrics.json (scores on the first suite, for `dvc metrics` and `dvc exp show`)

A report stays where the model's bytes, the code, the params, the rows, the data of lm-eval's tasks, the hardware and
the engine are the same.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tunesmith.core import fingerprint, formatting, layout, manifest, ready_rows, statistics
from tunesmith.core.console import run
from tunesmith.core.params import load, read, resolved
from tunesmith.core.ready_rows import Repeat, Sample
from tunesmith.evaluation import evaluate
from tunesmith.evaluation.documents import ModelMetrics
from tunesmith.evaluation.endpoint import answers, grade
from tunesmith.evaluation.endpoint import settings as endpoint
from tunesmith.evaluation.endpoint.answers import BaselineAnswer
from tunesmith.evaluation.engines import served
from tunesmith.evaluation.engines.asked import AskedModel, InProcess
from tunesmith.evaluation.engines.served import Proved
from tunesmith.evaluation.evaluate import SuiteRows
from tunesmith.evaluation.suites import Evaluate
from tunesmith.models import chat_template, device, loading
from tunesmith.models.base import base_tokenizer
from tunesmith.models.device import Profile
from tunesmith.models.engines import record
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.record import EngineRecord
from tunesmith.models.engines.settings import Engine
from tunesmith.verifiers.judge import refusal as judged_refusal
from tunesmith.verifiers.judge.endpoint import Judge

PARAMS = resolved("evaluate")
METRICS = layout.REPORTS / "metrics.json"
REPEATS = layout.EVALUATION / layout.BASE.name / "repeats.jsonl"


def main(only: list[str]) -> str:
    settings, engine = load(Evaluate, "evaluate", path=PARAMS), load(Engine, "engine", path=PARAMS)
    models = [layout.BASE.name, *load(list[str], "models", path=PARAMS)]
    hosted = answers.read(layout.BASELINE)
    remove_others([*models, *([endpoint.NAME] if hosted else [])])
    names = only or models
    judge = load(Judge, "judge", path=PARAMS) if "judge" in read(PARAMS) else None
    suites = evaluate.read(settings, layout.READY, judge)
    profile = device.detect()
    seeing = [name for name, suite in suites.items() if suite.seeing]
    vllm_env = served.choose(settings, engine, [layout.MODELS / name for name in models], profile, seeing)
    engine_record = record.record(vllm_env, engine, dtype_name(profile)) if vllm_env else None
    code = (fingerprint.FOLDER / "evaluate").read_text()
    key = evaluate.key(settings, suites, code, manifest.read(layout.BASE).digest, profile, engine_record)
    stale = [name for name in names if not is_kept(name, key)]
    hosted_is_stale = bool(hosted) and not is_kept(endpoint.NAME, key, hosted=True)
    if judge is not None and (stale or hosted_is_stale):
        print(f"  {judged_refusal.check_believed(judge)}", flush=True)
    began = time.monotonic()
    asking = Asking(settings, suites, key, profile, engine_record)
    if vllm_env and stale:
        ask_served(stale, vllm_env, engine, profile, asking)
    else:
        images = evaluate.image_folders(suites.values(), layout.READY)
        folders = [layout.MODELS / name for name in stale]
        for folder, opened in loading.open_each(folders, layout.BASE, profile, images=images):
            about = About(opened.manifest.digest, opened.base.weights_digest)
            ask_here(folder.name, InProcess(opened, settings.batch_size), about, asking)
    if hosted_is_stale:
        write_hosted_report(suites, hosted, key)
    write_scores([name for name in models if (layout.EVALUATION / name / "metrics.json").exists()])
    kept = f", {len(names) - len(stale)} kept" if len(stale) < len(names) else ""
    seconds = f"{time.monotonic() - began:.0f} s"
    return f"{layout.EVALUATION}: {len(stale)} models evaluated by {record.name(engine_record)} in {seconds}{kept}"


def ask_served(due: list[str], found: Environment, engine: Engine, profile: Profile, asking: "Asking") -> None:
    """Ask models by vLLM: all suites of all models on the same weights at once."""
    rows = [row for suite in asking.suites.values() for row in suite.rows]
    folders = [layout.MODELS / name for name in due]
    references = served.refer(folders, layout.BASE, profile, rows, asking.settings.batch_size)
    for names in served.groups(due, references):
        with served.serving(names, references, rows, found, engine, profile) as proved:
            base: tuple[Proved, dict[str, list[Sample]], float] | None = None
            for each, results, seconds in answer_all(proved, asking):
                if each.reference.folder.name == layout.BASE.name:
                    base = each, results, seconds
                else:
                    write_served_report(each, results, seconds, asking)
            if base:
                write_repeats(base[0].model, asking)  # while no other model is answering
                write_served_report(*base, asking)


def answer_all(proved: list[Proved], asking: "Asking") -> Iterator[tuple[Proved, dict[str, list[Sample]], float]]:
    """Ask all models at once, and grade each once it has answered, in this thread; with the seconds since the start."""
    for each in proved:
        template_digest(each.model, asking.suites)  # an unknown variable of it is an error before anything is asked
    client, began = proved[0].model.client, time.monotonic()
    pool = ThreadPoolExecutor(len(proved) * len(asking.suites))
    total = len(proved) * sum(
        len(suite.rows) * (2 if suite.suite.kind == "preferences" else 1) for suite in asking.suites.values()
    )
    with tqdm(total=total, desc="answering", unit=" prompts", dynamic_ncols=True) as bar:
        client.on_answers = bar.update
        try:
            places = {
                pool.submit(evaluate.answer, rows, each.model): (number, suite)
                for number, each in enumerate(proved)
                for suite, rows in asking.suites.items()
            }
            ungraded: list[dict[str, Callable[[], list[Sample]]]] = [{} for _ in proved]
            for answered in as_completed(places):
                number, suite = places[answered]
                ungraded[number][suite] = answered.result()
                if len(ungraded[number]) == len(asking.suites):
                    results = {suite: ungraded[number][suite]() for suite in asking.suites}
                    yield proved[number], results, time.monotonic() - began
        finally:
            client.on_answers = lambda count: None
            pool.shutdown(wait=False, cancel_futures=True)  # after an error or Ctrl-C, wait for no answer


def write_served_report(proved: Proved, results: dict[str, list[Sample]], seconds: float, asking: "Asking") -> None:
    reference = proved.reference
    about = About(reference.manifest.digest, reference.base.weights_digest, proved.disagreement)
    write_report(reference.folder.name, proved.model, about, asking, results, seconds)


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


@dataclass(frozen=True)
class Asking:
    """The settings that every model is asked with. engine: None for transformers."""

    settings: Evaluate
    suites: dict[str, SuiteRows]
    key: str
    profile: Profile
    engine: EngineRecord | None


@dataclass(frozen=True)
class About:
    """Facts of a model for its report. disagreement: vLLM's difference from transformers, where vLLM answers."""

    digest: str
    base_weights_digest: str
    disagreement: float | None = None


def ask_here(name: str, model: InProcess, about: About, asking: Asking) -> None:
    """Ask a model in this process, the base also for its noise, and write its report."""
    template_digest(model, asking.suites)  # an unknown variable of it is an error before anything is asked
    began = time.monotonic()
    results = {suite: evaluate.ask(rows, model) for suite, rows in asking.suites.items()}
    seconds = time.monotonic() - began
    if name == layout.BASE.name:
        write_repeats(model, asking)
    write_report(name, model, about, asking, results, seconds)


def write_report(
    name: str, model: AskedModel, about: About, asking: Asking, results: dict[str, list[Sample]], seconds: float
) -> None:
    samples = [sample for answered in results.values() for sample in answered]
    ready_rows.write_jsonl(layout.EVALUATION / name / "samples.jsonl", samples)
    metrics: ModelMetrics = {
        "model": name,
        "time": time.time_ns() // 1_000_000,
        "suites": {suite: evaluate.summary(asking.suites[suite], answered) for suite, answered in results.items()},
        "model_digest": about.digest,
        "base_weights_digest": about.base_weights_digest,
        "dtype": asking.engine["dtype"] if asking.engine else dtype_name(asking.profile),
        "device": asking.profile.name,
        "template_digest": template_digest(model, asking.suites),
        "key": asking.key,
        "answers_digest": samples_digest(name),
        "seconds": seconds,
    }
    if asking.engine and about.disagreement is not None:
        metrics |= {"engine": asking.engine, "disagreement": about.disagreement}
    ready_rows.write_json(layout.EVALUATION / name / "metrics.json", metrics)
    show(metrics, results)


def write_repeats(model: AskedModel, asking: Asking) -> None:
    """Ask the base again: as many prompts at once as before, and another number. The differences are noise."""
    other = asking.settings.noise_batch_size
    repeats: list[Repeat] = [
        {**sample, "time": repetition, "batch_size": size}
        for repetition, size in enumerate([model.at_once, other] if other else [])
        for rows in asking.suites.values()
        for sample in evaluate.ask(rows, model, size)
    ]
    ready_rows.write_jsonl(REPEATS, repeats)


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
        "suites": {suite: evaluate.summary(suites[suite], answered) for suite, answered in results.items()},
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


def template_digest(model: AskedModel, suites: dict[str, SuiteRows]) -> str:
    """The digest of the chat template, or of each suite's where one has values of its own for it."""
    models = [evaluate.with_suites_template(rows.suite, model) for rows in suites.values()]
    digests = [chat_template.digest(each.tokenizer) for each in models]
    return "-".join(digests if len(set(digests)) > 1 else digests[:1])


def dtype_name(profile: Profile) -> str:
    return str(profile.dtype).removeprefix("torch.")


def write_scores(names: list[str]) -> None:
    """Write the score of every model on the first suite, for comparing experiments."""
    scores = {}
    for name in names:
        suites = json.loads((layout.EVALUATION / name / "metrics.json").read_text())["suites"]
        scores[name] = round(next(iter(suites.values()))["score"], 4)
    ready_rows.write_json(METRICS, scores)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
