"""Publish the runs of the base and of every model, and register each model as a version: signed, with its lineage.

reads   models, reports/evaluation, reports/comparison.{json,html}
params  registry, signing, serve.probes, serve.max_lora_rank, package.license, and the names of all models
writes  reports/registered/<model>/{registration.json,README.md}

A model that is registered already keeps its version. One that cannot be registered does not stop the others.
"""

import json
import shutil
from pathlib import Path

from pydantic import RootModel

from tunesmith.core import files, journal, layout, lineage, manifest, ready_rows
from tunesmith.core.console import run
from tunesmith.core.errors import RegistrationError, TunesmithError, UnreachableTrackerError
from tunesmith.core.params import load, resolved
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.comparison import BASELINE
from tunesmith.evaluation.documents import Comparison, ModelMetrics
from tunesmith.registry import publishing, registration, servable
from tunesmith.registry.provenance import sameness
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment
from tunesmith.registry.signing import Settings
from tunesmith.registry.tracker import Names
from tunesmith.reports import model_card, sentences
from tunesmith.serving import probes

PARAMS = resolved("register")


def main() -> str:
    models = load(list[str], "models", path=PARAMS)
    registry = load(Names, "registry", path=PARAMS)
    remove_others(models)
    comparison: Comparison = json.loads((layout.REPORTS / "comparison.json").read_text())
    experiment = Experiment(registry.experiment)
    publish_base(experiment)
    refused: dict[str, TunesmithError] = {}
    for name in models:
        try:
            print(f"  {register(name, registry, experiment, comparison)}", flush=True)
        except UnreachableTrackerError:
            raise
        except TunesmithError as error:
            refused[name] = error
    if refused:
        reasons = "\n".join(f"{name}: {error.reason}" for name, error in refused.items())
        fixes = "; ".join(f"{name}: {error.fix}" for name, error in refused.items())
        raise RegistrationError(f"{len(refused)} of {len(models)} models were not registered:\n{reasons}", fix=fixes)
    return f"{layout.REGISTERED}: {len(models)} models registered as {registry.model} at {experiment.uri}"


def remove_others(models: list[str]) -> None:
    """Remove the records of models that params.yaml no longer names; their versions stay in the registry."""
    layout.REGISTERED.mkdir(parents=True, exist_ok=True)
    for folder in layout.REGISTERED.iterdir():
        if folder.name not in models:
            shutil.rmtree(folder)


def register(name: str, registry: Names, experiment: Experiment, comparison: Comparison) -> str:
    """Register one model; return its version and its comparison in a sentence."""
    folder = layout.MODELS / name
    origin = lineage.read(folder)
    servable.check(folder, layout.BASE, weights_under(origin), load(int, "serve.max_lora_rank", path=PARAMS))
    license_ = load(RootModel[str | None], "package.license", path=PARAMS).root
    documents = {
        probes.NAME: json.dumps(choose_probes(name), indent=1, ensure_ascii=False) + "\n",
        sameness.SCORES: json.dumps(sameness.scores(read_evaluation(name)[1])) + "\n",
        "README.md": model_card.write(name, origin, comparison, base_license=license_),
    }
    run_id = publish_model(experiment, name)
    sentence = sentences.headline(name, comparison)
    experiment.log(run_id, tags={"mlflow.note.content": sentence})
    start = journal.first(journal.read(folder / journal.NAME), "start")
    decision = comparison["gate"][name]
    version = registration.register(
        Registry(registry.experiment),
        registry.model,
        run_id,
        folder,
        outcome=decision["outcome"],
        evidence=f"{sentence} {decision['reason']}",
        files=documents,
        tags=version_tags(origin, comparison) | {"tunesmith.verdict": decision["outcome"]},
        description=registration.description(name, origin, sentence, start["rows"], start["dataset"]),
        signing=load(Settings, "signing", path=PARAMS).root,
    )
    record: registration.Registration = {
        "tracking_uri": experiment.uri,
        "registered_model": registry.model,
        "version": version,
        "run_id": run_id,
        "model": name,
        "model_digest": manifest.read(folder).digest,
    }
    files.write_text(layout.REGISTERED / name / "README.md", documents["README.md"])
    ready_rows.write_json(layout.REGISTERED / name / "registration.json", record)
    return f"{name}: {registry.model} version {version}: {sentence}"


def weights_under(origin: lineage.Lineage) -> Path | None:
    """The folder of the full weights under an adapter, where those are not the base's."""
    under = origin.get("on", {}).get("model", BASELINE)
    return None if under == BASELINE else layout.MODELS / under


def choose_probes(name: str) -> probes.Probes:
    """The probes that distinguish a server of this model from a server of any other."""
    metrics, own = read_evaluation(name)
    _, base = read_evaluation(BASELINE)
    repeats = ready_rows.read_repeats(layout.EVALUATION / BASELINE / "repeats.jsonl")
    return probes.choose(
        name,
        own,
        base,
        repeats,
        count=load(int, "serve.probes", path=PARAMS),
        dtype=metrics["dtype"],
        template_kwargs=lineage.read(layout.MODELS / name)["base"].get("chat_template_kwargs"),
        suite_kwargs={suite: one["chat_template_kwargs"] for suite, one in metrics["suites"].items()},
    )


def publish_base(experiment: Experiment) -> None:
    metrics, samples = read_evaluation(BASELINE)
    began = metrics["time"] - round(1000 * metrics["seconds"])
    base_run = experiment.run(publishing.evaluation_key(metrics), BASELINE, began, {"method": "base model"})
    publishing.publish_evaluation(experiment, base_run, metrics, samples)
    experiment.finish(base_run, "FINISHED", metrics["time"])


def publish_model(experiment: Experiment, name: str) -> str:
    metrics, samples = read_evaluation(name)
    journal_path = layout.MODELS / name / journal.NAME
    events = journal.read(journal_path)
    start, end = journal.first(events, "start"), journal.first(events, "end")
    with publishing.only_publisher(journal_path):
        run_id = publishing.publish_training(experiment, events)
    for path, entry in lineage.read(layout.MODELS / name)["inputs"].items():
        experiment.log_dataset(run_id, start["dataset"], entry["sha256"], path, Path(path).stem, entry["rows"])
    publishing.publish_evaluation(experiment, run_id, metrics, samples)
    experiment.upload(run_id, layout.REPORTS / "comparison.html")
    experiment.finish(run_id, "FINISHED", end["time"])
    return run_id


def read_evaluation(name: str) -> tuple[ModelMetrics, list[Sample]]:
    metrics: ModelMetrics = json.loads((layout.EVALUATION / name / "metrics.json").read_text())
    return metrics, ready_rows.read_samples(layout.EVALUATION / name / "samples.jsonl")


def version_tags(origin: lineage.Lineage, comparison: Comparison) -> dict[str, str]:
    """Tags to filter versions by. They are not signed; the statement is, and the artifact holds the whole lineage."""
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
    run(main)
