"""What a reader must know to trust a comparison: its base, data, code, machine and software."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypedDict

from tunesmith.core.lineage import Code, Input, Lineage
from tunesmith.evaluation.documents import Comparison, ModelMetrics


class TrainingFacts(TypedDict):
    """How a model was made; null for what its lineage does not say."""

    created: str | None
    """The time, UTC, in ISO 8601."""
    code: Code
    hardware: str
    """The device, the processor's architecture and the operating system."""
    software: list[str]
    """Python, and the libraries that train, each with its version."""
    inputs: dict[str, Input]
    """The files of ready rows that trained it, by path."""


class Facts(TypedDict):
    """The facts of a comparison."""

    base: str
    """The place that the base was fetched from, with its commit or version."""
    base_digest: str
    """SHA-256, in hex, of the manifest of its folder."""
    evaluated: str
    """The end of the last evaluation: the time, UTC, in ISO 8601."""
    dtype: str
    """The dtype that models were evaluated in."""
    devices: list[str]
    """The devices that models were evaluated on; empty where no report names one."""
    trainings: dict[str, TrainingFacts]
    """The facts of each model but the base, by name."""


class ComparisonReport(Comparison):
    """reports/comparison.json: the comparison, and the facts that its page shows."""

    facts: Facts


def collect(base: Lineage, lineages: Mapping[str, Lineage], metrics: Sequence[ModelMetrics]) -> Facts:
    """The facts of a comparison. lineages: by model. metrics: of all models, the base's first."""
    latest = max(one["time"] for one in metrics)
    return {
        "base": base.get("source", "unknown"),
        "base_digest": metrics[0]["model_digest"],
        "evaluated": datetime.fromtimestamp(latest / 1000, UTC).isoformat(timespec="seconds"),
        "dtype": metrics[0]["dtype"],
        "devices": _distinct(one.get("device", "") for one in metrics),
        "trainings": {name: _training(lineage) for name, lineage in lineages.items()},
    }


def _training(lineage: Lineage) -> TrainingFacts:
    hardware, environment = lineage.get("hardware"), lineage.get("environment")
    where = (hardware["device"], hardware["machine"], hardware["system"]) if hardware else ()
    libraries = {"python": environment["python"], **environment["libraries"]} if environment else {}
    return {
        "created": lineage.get("created"),
        "code": lineage.get("code") or {"commit": None, "clean": None},
        "hardware": ", ".join(where),
        "software": [f"{name} {version}" for name, version in libraries.items()],
        "inputs": lineage.get("inputs", {}),
    }


def code(made: Code) -> str:
    """The code that ran, in words: the commit, whether all of it was committed, and the package's version."""
    commit = f"commit {made['commit'][:12]}" if made["commit"] else "no git commit"
    state = {True: "", False: ", with changes that were not committed", None: ""}[made["clean"]]
    package = made.get("package")
    return commit + state + (f", tunesmith {package['version'] or package['sha256'][:12]}" if package else "")


def summary(facts: Facts) -> list[tuple[str, list[str]]]:
    """The facts that a page opens with: what each is, and its values; several where the models differ in it."""
    trainings = facts["trainings"].values()
    inputs = {path: entry for training in trainings for path, entry in training["inputs"].items()}
    files = [f"{path}: {entry['rows']:,} rows, SHA-256 {entry['sha256'][:12]}" for path, entry in inputs.items()]
    dates = sorted(training["created"][:10] for training in trainings if training["created"])
    days = [*dict.fromkeys((dates[0], dates[-1]))] if dates else []
    devices = [f"on {device}" for device in facts["devices"]]
    lines = [
        ("base", [f"{facts['base']}", f"manifest {facts['base_digest'][:12]}"]),
        ("trained on", files),
        ("code", _distinct(code(training["code"]) for training in trainings)),
        ("hardware", _distinct(training["hardware"] for training in trainings)),
        ("software", _distinct(", ".join(training["software"]) for training in trainings)),
        ("trained", [" to ".join(days)] if days else []),
        ("evaluated", [f"{facts['evaluated'].replace('T', ' ')[:16]} UTC, in {facts['dtype']}", *devices]),
    ]
    return [(what, values) for what, values in lines if values]


def _distinct(values: Iterable[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]
