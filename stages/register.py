"""Publish the runs of the base and of a model, and register the model as a version: signed, with its lineage.

    python -m stages.register sft-lora

reads   models/{base,<model>}, reports/{base,<model>}/{metrics.json,samples.jsonl}, reports/base/repeats.jsonl,
        reports/comparison.{json,html}
params  registry, signing, serve.probes, serve.max_lora_rank, package.license
writes  reports/<model>/registration.json, reports/<model>/README.md
"""

import json
import sys
from pathlib import Path
from typing import Any

from tunesmith.core import files, journal, lineage, manifest, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.evaluation.comparison import BASELINE
from tunesmith.registry import publishing, registration, servable
from tunesmith.registry.provenance import sameness
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment
from tunesmith.registry.signing import Settings
from tunesmith.registry.tracker import Names
from tunesmith.reports import model_card, sentences
from tunesmith.serving import probes

MODELS, REPORTS = Path("models"), Path("reports")
BASE = MODELS / BASELINE


def main(name: str) -> str:
    names, signing = load(Names, "registry"), load(Settings, "signing").root
    comparison = json.loads((REPORTS / "comparison.json").read_text())
    origin = lineage.read(MODELS / name)
    servable.check(MODELS / name, BASE, on(origin), load(int, "serve.max_lora_rank"))
    documents = {
        probes.NAME: json.dumps(chosen(name), indent=1, ensure_ascii=False) + "\n",
        sameness.SCORES: json.dumps(sameness.scores(read_evaluation(name)[1])) + "\n",
        "README.md": model_card.write(name, origin, comparison, base_license=load(str | None, "package.license")),
    }
    experiment = Experiment(names.experiment)
    publish_base(experiment)
    run_id = publish_model(experiment, name)
    sentence = sentences.headline(name, comparison)
    experiment.log(run_id, tags={"mlflow.note.content": sentence})
    start = journal.first(journal.read(MODELS / name / journal.NAME), "start")
    decision = comparison["gate"][name]
    version = registration.register(
        Registry(names.experiment),
        names.model,
        run_id,
        MODELS / name,
        outcome=decision["outcome"],
        evidence=f"{sentence} {decision['reason']}",
        files=documents,
        tags=version_tags(origin, comparison) | {"tunesmith.verdict": decision["outcome"]},
        description=registration.description(name, origin, sentence, start["rows"], start["dataset"]),
        signing=signing,
    )
    made = {
        "tracking_uri": experiment.uri,
        "registered_model": names.model,
        "version": version,
        "run_id": run_id,
        "model": name,
        "model_digest": manifest.read(MODELS / name).digest,
    }
    files.write_text(REPORTS / name / "README.md", documents["README.md"])
    ready_rows.write_json(REPORTS / name / "registration.json", made)
    return f"{names.model} version {version} at {experiment.uri}: {sentence}"


def on(origin: lineage.Lineage) -> Path | None:
    """The folder of the full weights under an adapter, where those are not the base's."""
    under = origin.get("on", {}).get("model", BASELINE)
    return None if under == BASELINE else MODELS / under


def chosen(name: str) -> probes.Probes:
    """Prompts by which a server of the model is told from one of anything else."""
    metrics, own = read_evaluation(name)
    _, base = read_evaluation(BASELINE)
    repeats = ready_rows.read(REPORTS / BASELINE / "repeats.jsonl")
    return probes.choose(name, own, base, repeats, count=load(int, "serve.probes"), dtype=metrics["dtype"])


def publish_base(experiment: Experiment) -> None:
    metrics, samples = read_evaluation(BASELINE)
    began = metrics["time"] - round(1000 * metrics["seconds"])
    base_run = experiment.run(publishing.evaluation_key(metrics), BASELINE, began, {"method": "base model"})
    publishing.publish_evaluation(experiment, base_run, metrics, samples)
    experiment.finish(base_run, "FINISHED", metrics["time"])


def publish_model(experiment: Experiment, name: str) -> str:
    metrics, samples = read_evaluation(name)
    events = journal.read(MODELS / name / journal.NAME)
    start, end = journal.first(events, "start"), journal.first(events, "end")
    run_id = publishing.publish_training(experiment, events)
    for path, entry in lineage.read(MODELS / name)["inputs"].items():
        experiment.log_dataset(run_id, start["dataset"], entry["sha256"], path, Path(path).stem, entry["rows"])
    publishing.publish_evaluation(experiment, run_id, metrics, samples)
    experiment.upload(run_id, REPORTS / "comparison.html")
    experiment.finish(run_id, "FINISHED", end["time"])
    return run_id


def read_evaluation(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    metrics = json.loads((REPORTS / name / "metrics.json").read_text())
    return metrics, ready_rows.read(REPORTS / name / "samples.jsonl")


def version_tags(origin: lineage.Lineage, comparison: dict[str, Any]) -> dict[str, str]:
    """What a reader filters versions by; what counts is signed, and the whole lineage is in the artifact."""
    inputs = {f"input.{Path(path).name}": entry["sha256"] for path, entry in origin["inputs"].items()}
    return {
        "git.commit": str(origin["code"]["commit"]),
        "git.clean": str(origin["code"]["clean"]),
        "base.source": origin["base"]["source"],
        "base.weights_digest": origin["base"]["weights_digest"],
        "lock.sha256": str(origin["environment"]["lock_sha256"]),
        **{f"prompts.{suite}": one["prompts_digest"] for suite, one in comparison["suites"].items()},
        **inputs,
    }


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
