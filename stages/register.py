"""Publish the runs of the base and of every model, and register each model as a version: signed, with its lineage.

reads   models, reports/evaluation, reports/comparison.{json,html}, data/ready/<dataset>/images of the suites
params  registry, signing, serve.probes, serve.max_lora_rank, package.license, and the names of all models
writes  reports/registered/<model>/{registration.json,README.md}, reports/registered/comparison.html

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
from tunesmith.registry import attempts, mlmodel, publishing, registration, servable
from tunesmith.registry.provenance import sameness
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment
from tunesmith.registry.signing import Settings
from tunesmith.registry.tracker import Names
from tunesmith.reports import model_card, registered_page, sentences
from tunesmith.serving import probes

PARAMS = resolved("register")
PAGE = layout.REGISTERED / "comparison.html"


def main() -> str:
    models = load(list[str], "models", path=PARAMS)
    registry = load(Names, "registry", path=PARAMS)
    remove_others(models)
    PAGE.unlink(missing_ok=True)  # where no server is reached, none is better than one of another comparison
    comparison: Comparison = json.loads((layout.REPORTS / "comparison.json").read_text())
    experiment = Experiment(registry.experiment)
    publish_base(experiment, comparison)
    refused: dict[str, TunesmithError] = {}
    for name in models:
        try:
            print(f"  {register(name, registry, experiment, comparison)}", flush=True)
        except UnreachableTrackerError:
            raise
        except TunesmithError as error:
            refused[name] = error
    publish_page(models, registry, experiment)
    for name in attempts.models():
        attempts.settle(experiment, name)
    if refused:
        reasons = "\n".join(f"{name}: {error.reason}" for name, error in refused.items())
        fixes = "; ".join(f"{name}: {error.fix}" for name, error in refused.items())
        raise RegistrationError(f"{len(refused)} of {len(models)} models were not registered:\n{reasons}", fix=fixes)
    return f"{layout.REGISTERED}: {len(models)} models registered as {registry.model} at {experiment.uri}"


def remove_others(models: list[str]) -> None:
    """Remove the records of models that params.yaml no longer names; their versions stay in the registry."""
    layout.REGISTERED.mkdir(parents=True, exist_ok=True)
    for folder in layout.REGISTERED.iterdir():
        if folder.is_dir() and folder.name not in models:
            shutil.rmtree(folder)


def register(name: str, names: Names, experiment: Experiment, comparison: Comparison) -> str:
    """Register one model; return its version and its comparison in a sentence."""
    folder, registry = layout.MODELS / name, Registry()
    origin, (metrics, samples) = lineage.read(folder), read_evaluation(name)
    under = weights_under(origin)
    other = under if under != layout.BASE else None
    servable.check(folder, layout.BASE, other, load(int, "serve.max_lora_rank", path=PARAMS))
    license_ = load(RootModel[str | None], "package.license", path=PARAMS).root
    documents = {
        probes.NAME: json.dumps(choose_probes(name), indent=1, ensure_ascii=False) + "\n",
        sameness.SCORES: json.dumps(sameness.scores(samples)) + "\n",
        "README.md": model_card.write(name, origin, comparison, task=mlmodel.task(folder), base_license=license_),
    }
    if "engine" in metrics:
        documents["engine.json"] = json.dumps(metrics["engine"], indent=1) + "\n"  # the vLLM that answered
    sentence = sentences.headline(name, comparison)
    run = publish_training(experiment, name, origin, sentence)
    logged = registry.ensure_logged(run, name, manifest.read(folder).digest)
    publishing.publish_evaluation(experiment, run, metrics, samples, comparison["suites"], logged.id)
    end = journal.first(journal.read(folder / journal.NAME), "end")
    experiment.finish(run, "FINISHED", end["time"])
    decision = comparison["gate"][name]
    version = registration.register(
        registry,
        names.model,
        run,
        folder,
        loading=mlmodel.loading(origin, under, metrics["dtype"]),
        outcome=decision["outcome"],
        evidence=f"{sentence} {decision['reason']}",
        files=documents,
        tags={"tunesmith.verdict": decision["outcome"]},
        description=registration.description(name, origin, sentence, decision["reason"]),
        signing=load(Settings, "signing", path=PARAMS).root,
    )
    record: registration.Registration = {
        "tracking_uri": experiment.uri,
        "registered_model": names.model,
        "version": version,
        "run_id": run,
        "model": name,
        "model_digest": manifest.read(folder).digest,
    }
    files.write_text(layout.REGISTERED / name / "README.md", documents["README.md"])
    ready_rows.write_json(layout.REGISTERED / name / "registration.json", record)
    return f"{name}: {names.model} version {version}: {sentence}"


def publish_page(models: list[str], names: Names, experiment: Experiment) -> None:
    """Write the page of the comparison with the versions that there are, and upload it to every model's run."""
    runs: dict[str, str] = {}
    versions: dict[str, tuple[str, str]] = {}
    for name in models:
        run = experiment.find(journal.first(journal.read(layout.MODELS / name / journal.NAME), "start")["key"])
        if run is not None:
            runs[name] = run
        path = layout.REGISTERED / name / "registration.json"
        record: registration.Registration | None = json.loads(path.read_text()) if path.exists() else None
        if record and record["model_digest"] == manifest.read(layout.MODELS / name).digest:
            versions[name] = (record["run_id"], record["version"])
    registered = registered_page.registered(names.model, experiment.uri, experiment.id, versions)
    files.write_text(PAGE, registered_page.fill((layout.REPORTS / "comparison.html").read_text(), registered))
    for run in runs.values():
        experiment.upload(run, PAGE)


def weights_under(origin: lineage.Lineage) -> Path | None:
    """The folder of the full weights under an adapter; None for full weights."""
    return layout.MODELS / origin["on"]["model"] if "on" in origin else None


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
        engine="vllm" if "engine" in metrics else "transformers",
        template_kwargs=lineage.read(layout.MODELS / name)["base"].get("chat_template_kwargs"),
        suite_kwargs={suite: one["chat_template_kwargs"] for suite, one in metrics["suites"].items()},
        folders={suite: layout.READY / one["dataset"] for suite, one in metrics["suites"].items()},
    )


def publish_base(experiment: Experiment, comparison: Comparison) -> None:
    metrics, samples = read_evaluation(BASELINE)
    began = metrics["time"] - round(1000 * metrics["seconds"])
    run = experiment.run(publishing.evaluation_key(metrics), BASELINE, began, {"method": "base model"})
    source = lineage.read(layout.BASE)["source"]
    tags = publishing.source_tags("evaluate", lineage.code()["commit"])
    experiment.log(run, params={"model": BASELINE, "base_model": registration.short(source)}, tags=tags)
    publishing.publish_evaluation(experiment, run, metrics, samples, comparison["suites"])
    experiment.finish(run, "FINISHED", metrics["time"])


def publish_training(experiment: Experiment, name: str, origin: lineage.Lineage, sentence: str) -> str:
    """Publish what the follower of a training did not, and what is known since it ended. Returns the run's id."""
    path = layout.MODELS / name / journal.NAME
    events = journal.read(path)
    start = journal.first(events, "start")
    with publishing.only_publisher(path):
        run = publishing.publish_training(experiment, events, origin["code"]["commit"])
    for file, entry in origin["inputs"].items():
        split = Path(file).stem
        experiment.log_dataset(run, f"{start['dataset']}/{split}", entry["sha256"], file, split, entry["rows"])
    tags = {"mlflow.note.content": sentence}
    if parent := find_start(experiment, origin):
        tags["mlflow.parentRunId"] = parent
    experiment.log(run, params={"base_model": registration.short(origin["base"]["source"])}, tags=tags)
    return run


def find_start(experiment: Experiment, origin: lineage.Lineage) -> str | None:
    """The id of the run of the model that this one started from, or was merged from; None where that is gone."""
    for name, parent in origin.get("parents", {}).items():
        folder = layout.MODELS / name
        if (folder / journal.NAME).exists() and manifest.read(folder).digest == parent["digest"]:
            return experiment.find(journal.first(journal.read(folder / journal.NAME), "start")["key"])
    return None


def read_evaluation(name: str) -> tuple[ModelMetrics, list[Sample]]:
    metrics: ModelMetrics = json.loads((layout.EVALUATION / name / "metrics.json").read_text())
    return metrics, ready_rows.read_samples(layout.EVALUATION / name / "samples.jsonl")


if __name__ == "__main__":
    run(main)
