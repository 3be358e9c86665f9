"""Seconds that `tunesmith lineage` and `tunesmith history` take with many runs in the tracker.

    python -m benchmarks.tracker_size [--runs 1000]

A tracker of its own, on SQLite, holds so many runs of 50 metric points, two registered versions, one the parent of the
other, and a promotion. Each command is timed in a process of its own, a first and a second time, after everything is
imported (MLflow imports much of itself when it opens its database, which is done before); and whole, imports included.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NAME = "m"
PARAMS = f"registry: {{experiment: e, model: {NAME}}}\nsigning: {{kind: key, private: null, trusted: []}}\n"
ORIGIN: dict[str, Any] = {
    "created": "2026-01-01",
    "code": {"commit": None, "clean": None},
    "base": {"source": "none", "digest": "b", "weights_digest": "w"},
    "inputs": {},
    "params": {},
    "environment": {"lock_sha256": None, "image_digest": None, "python": "3", "libraries": {}},
    "hardware": {},
}


def fill(runs: int) -> None:
    """Make the runs, versions and the promotion, in the current folder."""
    from tunesmith.core import manifest, params
    from tunesmith.registry import promotion, registration
    from tunesmith.registry.mlmodel import Loading
    from tunesmith.registry.registered_models import Registry
    from tunesmith.registry.runs import Experiment, MetricPoint
    from tunesmith.registry.signing import Settings

    experiment, signing = Experiment("e"), params.load(Settings, "signing").root
    points = [MetricPoint(f"metric{number}", 1.0, 0, step) for number in range(5) for step in range(10)]
    for number in range(runs):
        experiment.log(experiment.run(f"k{number}", "sft-lora", 0, {}), points=points)
    loading = Loading({"model_binary": "model"}, "float32", "3.11.0", ())
    registry, parents = Registry(), dict[str, Any]()
    for name in ("sft-lora", "dpo"):
        folder = Path("models", name)
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(name.encode())
        (folder / "lineage.json").write_text(json.dumps(ORIGIN | {"parents": parents}))
        written = manifest.write(folder)
        parents = {name: {"digest": written.digest, "weights_digest": written.weights_digest}}
        statement = {
            "loading": loading,
            "outcome": "pass",
            "evidence": "",
            "files": {},
            "tags": {},
            "description": "",
            "signing": signing,
        }
        registration.register(registry, NAME, experiment.run(name, name, 0, {}), folder, **statement)
    promotion.promote(registry, NAME, "dpo", signing=signing, probe=lambda fetched: None, alias="champion", reason=None)


def timed(command: Callable[[], object]) -> float:
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        command()
    return time.perf_counter() - began


def ask(name: str) -> None:
    """Print the seconds of a first and a second call of a command in this process."""
    from tunesmith.cli import lineage, promote
    from tunesmith.registry.registered_models import Registry

    Registry()
    commands: dict[str, Callable[[], object]] = {
        "lineage @champion": lambda: lineage.run("@champion", verify=False, as_json=False),
        "lineage @champion --verify": lambda: lineage.run("@champion", verify=True, as_json=False),
        "history": promote.history,
    }
    print(timed(commands[name]), timed(commands[name]))


def measure(name: str) -> str:
    """A line of the table, measured in fresh processes."""
    child = [sys.executable, "-m", "benchmarks.tracker_size", "--ask", name]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first, again = subprocess.run(child, check=True, capture_output=True, text=True, env=environment).stdout.split()
    tunesmith = [str(Path(sys.executable).with_name("tunesmith")), *name.split()]
    whole = timed(lambda: subprocess.run(tunesmith, check=True, capture_output=True))
    return f"{name:30} {float(first):5.2f} s {float(again):5.2f} s {whole:5.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        ask(arguments.ask)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ |= {"XDG_CONFIG_HOME": folder, "MLFLOW_TRACKING_URI": ""}
        Path("params.yaml").write_text(PARAMS)
        fill(arguments.runs)
        print(f"{arguments.runs} runs{'':22} first   again   whole command")
        for name in ("lineage @champion", "lineage @champion --verify", "history"):
            print(measure(name))


if __name__ == "__main__":
    main()
