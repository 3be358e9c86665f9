"""Publish the runs of the base and of a model, and register the model as a version with its lineage.

    python -m stages.register sft-lora

reads   models/<model>, reports/{base,<model>}/{metrics.json,samples.jsonl}, reports/comparison.{json,html}
params  registry
writes  reports/<model>/registration.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from tunesmith import journal, lineage, manifest, promotion, publishing, ready, words
from tunesmith.comparison import BASELINE
from tunesmith.console import run
from tunesmith.params import load
from tunesmith.registry import Registry

MODELS, REPORTS = Path("models"), Path("reports")


def main(name: str) -> str:
    names = load(publishing.Names, "registry")
    comparison = json.loads((REPORTS / "comparison.json").read_text())
    registry = Registry(names.experiment)
    publish_base(registry)
    run_id = publish_model(registry, name)
    origin = lineage.read(MODELS / name)
    sentence = words.headline(name, comparison)
    registry.log(run_id, tags={"mlflow.note.content": sentence})
    start = journal.first(journal.read(MODELS / name / journal.NAME), "start")
    version = promotion.register(
        registry,
        names.model,
        run_id,
        MODELS / name,
        tags=version_tags(name, origin, comparison),
        description=promotion.description(name, origin, sentence, start["rows"], start["dataset"]),
    )
    registration = {
        "tracking_uri": registry.uri,
        "registered_model": names.model,
        "version": version,
        "run_id": run_id,
        "model": name,
        "model_digest": manifest.read(MODELS / name).digest,
    }
    ready.write_json(REPORTS / name / "registration.json", registration)
    return f"{names.model} version {version} at {registry.uri}: {sentence}"


def publish_base(registry: Registry) -> None:
    metrics, samples = read_evaluation(BASELINE)
    began = metrics["time"] - round(1000 * metrics["seconds"])
    base_run = registry.run(publishing.evaluation_key(metrics), BASELINE, began, {"method": "base model"})
    publishing.publish_evaluation(registry, base_run, metrics, samples)
    registry.finish(base_run, "FINISHED", metrics["time"])


def publish_model(registry: Registry, name: str) -> str:
    metrics, samples = read_evaluation(name)
    events = journal.read(MODELS / name / journal.NAME)
    start, end = journal.first(events, "start"), journal.first(events, "end")
    run_id = publishing.publish_training(registry, events)
    for path, entry in lineage.read(MODELS / name)["inputs"].items():
        registry.log_dataset(run_id, start["dataset"], entry["sha256"], path, Path(path).stem, entry["rows"])
    publishing.publish_evaluation(registry, run_id, metrics, samples)
    registry.upload(run_id, REPORTS / "comparison.html")
    registry.finish(run_id, "FINISHED", end["time"])
    return run_id


def read_evaluation(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    metrics = json.loads((REPORTS / name / "metrics.json").read_text())
    return metrics, ready.read(REPORTS / name / "samples.jsonl")


def version_tags(name: str, origin: lineage.Lineage, comparison: dict[str, Any]) -> dict[str, str]:
    """What a reader filters versions by, or checks them against; the whole lineage is in the artifact."""
    inputs = {f"input.{Path(path).name}": entry["sha256"] for path, entry in origin["inputs"].items()}
    return {
        promotion.MODEL: name,
        promotion.VERDICT: comparison["gate"][name]["outcome"],
        promotion.EVIDENCE: f"{words.headline(name, comparison)} {comparison['gate'][name]['reason']}",
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
