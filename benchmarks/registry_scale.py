"""A large registry: how long do `history`, `lineage` and a registration take?

    python -m benchmarks.registry_scale [sqlite | postgresql] [--runs 1000] [--versions 200] [--promotions 100]
    python -m benchmarks.registry_scale sqlite --copied --runs 10000 --versions 1000 --promotions 5000 --megabytes

Fills a tracker of its own with runs and their metrics, registered and signed versions, and a series of promotions; then
times, as medians of --repeats:

history, lineage    as whole commands, and in a process with everything imported: at first, and again, when it has
                    verified the signatures before
polling             what a gateway's health follows: the history, read and verified
UI                  the first page of MLflow's runs, and the best of all by a metric
registering         a model folder of --megabytes, beside copying its bytes there and back by the tracker's client, and
                    from one folder to another

``--copied`` makes three versions, and the rest as rows of the database (benchmarks/bulk_records.py); all entries of the
history are signed. SQLite is one file; PostgreSQL (Debian's, started here) is behind an `mlflow server`.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks import bulk_records
from benchmarks.promotions import TRACKERS, tracker
from tests.registered_versions import EXPERIMENT, NAME, SIGNING, register, unprobed
from tunesmith.cli import lineage as lineage_command
from tunesmith.cli import promote
from tunesmith.core import lineage, manifest
from tunesmith.registry import ledger, promotion
from tunesmith.registry import signing as signatures
from tunesmith.registry.logged_models import MODEL_FOLDER
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment, MetricPoint

STEPS, METRICS = 25, 8
MODEL = "sft-lora"


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def median(repeats: int, action: Callable[[], object]) -> float:
    return statistics.median(seconds(action) for _ in range(repeats))


def model_folder(size: int, number: int) -> Path:
    """Write a model folder in the current project with weights of ``size`` bytes, and a lineage."""
    path, base = Path("models") / MODEL, Path("models/base")
    path.mkdir(parents=True, exist_ok=True)
    base.mkdir(exist_ok=True)
    (base / "model.safetensors").write_bytes(b"base")
    params = {"sft": {"epochs": 1, "learning_rate": 1e-3}, "number": number}
    origin = lineage.collect(
        base=manifest.write(base), source="package x==1 sha256:00", inputs=[], params=params, seed=number, device="cpu"
    )
    (path / lineage.NAME).write_text(json.dumps(origin))
    (path / "adapter_model.safetensors").write_bytes(os.urandom(size))
    (path / "adapter_config.json").write_text('{"r": 16}')
    manifest.write(path)
    return path


def fill(registry: Registry, runs: int, registered: int, promotions: int) -> None:
    """Make runs, register the last of them, and promote every other one of these while promotions are left."""
    experiment, now = Experiment(EXPERIMENT), time.time_ns() // 1_000_000
    points = [
        MetricPoint(f"metric/{name}", step / 7, now + step, step) for step in range(STEPS) for name in range(METRICS)
    ]
    for number in range(runs - registered):
        run = experiment.run(f"run {number}", MODEL, now, {"method": "SFT with LoRA"})
        experiment.log(run, points=points, params={f"sft.param{name}": number for name in range(20)})
        experiment.finish(run, "FINISHED", now + STEPS)
    left = promotions
    for number in range(registered):
        version = register(registry, model_folder(1000, number), f"registered {number}")
        experiment.log(experiment.run(f"registered {number}", MODEL, now, {}), points=points)
        if left and (number % 2 == 0 or left >= registered - number):
            promotion.promote(registry, NAME, version, signing=SIGNING, probe=unprobed)
            left -= 1
        if number % 20 == 19:
            print(f"  {number + 1} versions, {promotions - left} promotions", file=sys.stderr, flush=True)


def fill_by_copies(registry: Registry, database: Path, runs: int, registered: int, promotions: int) -> None:
    """The same, of three versions that are made and copies of their rows."""
    fill(registry, 4, 3, 2)
    run = Experiment(EXPERIMENT).find("run 0")
    assert run is not None
    bulk_records.add_runs(database, run, runs - 4)
    bulk_records.add_history(database, registry, ledger.read(registry, NAME, SIGNING), registered, promotions)


def quiet(action: Callable[[], object]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        action()


def command(*arguments: str) -> None:
    tunesmith = [sys.executable, "-c", "from tunesmith.cli.main import main; main()", *arguments]
    subprocess.run(tunesmith, check=True, stdout=subprocess.DEVNULL)


def time_answers(registry: Registry, registered: int, repeats: int) -> None:
    signatures.verify_text_by_key.cache_clear()
    first_read = seconds(lambda: ledger.read(registry, NAME, SIGNING))
    chain = ledger.read(registry, NAME, SIGNING)
    print(f"  {len(chain.entries)} promotions, {len(registry.versions(NAME))} versions, faults: {chain.faults}")
    first, last = "1", str(registered)
    commands: dict[str, tuple[list[str], Callable[[], object]]] = {
        "history": (["history"], promote.history),
        "lineage @champion": (
            ["lineage", "@champion"],
            lambda: lineage_command.run("@champion", verify=False, as_json=False),
        ),
        "lineage of the first": (["lineage", first], lambda: lineage_command.run(first, verify=False, as_json=False)),
        "lineage of the last": (["lineage", last], lambda: lineage_command.run(last, verify=False, as_json=False)),
    }
    for name, (arguments, action) in commands.items():
        whole = median(repeats, lambda arguments=arguments: command(*arguments))
        inside = median(repeats, lambda action=action: quiet(action))
        began = time.process_time()
        quiet(action)
        used = time.process_time() - began
        print(f"  {name:22} {whole:5.2f} s as a command, {inside:5.2f} s in process ({used:.2f} s of CPU)")
    again = median(repeats, lambda: ledger.read(registry, NAME, SIGNING).verified(NAME))
    print(f"  {'polling':22} {first_read:5.2f} s at first, {again:5.2f} s again")
    time_pages(repeats)
    print(f"  {'--help, for comparison':22} {median(repeats, lambda: command('--help')):5.2f} s as a command")


def time_pages(repeats: int) -> None:
    """Time what MLflow's UI asks for."""
    experiment = Experiment(EXPERIMENT)
    pages = {"page of runs": [], "best by a metric": ["metrics.`metric/0` DESC"]}
    for name, order in pages.items():
        took = median(
            repeats, lambda order=order: experiment.client.search_runs([experiment.id], max_results=100, order_by=order)
        )
        print(f"  {name:22} {took:5.2f} s in process")


def time_registering(registry: Registry, size: int, repeats: int) -> None:
    """Time registrations, each of a new model, beside copies of the same files."""
    registered, over_client, bare = [], [], []
    for number in range(repeats):
        path = model_folder(size, 10**6 + number)
        registered.append(seconds(lambda path=path, number=number: register(registry, path, f"timed {size} {number}")))
        run = Experiment(EXPERIMENT).run(f"copied {size} {number}", MODEL, 0, {})

        def there_and_back(path: Path = path, run: str = run) -> None:
            with tempfile.TemporaryDirectory() as scratch:
                registry.upload(run, path, MODEL_FOLDER)
                registry.download(f"{registry.artifacts(run)}/{MODEL_FOLDER}", Path(scratch))

        over_client.append(seconds(there_and_back))
        with tempfile.TemporaryDirectory() as scratch:
            bare.append(seconds(lambda path=path, scratch=scratch: shutil.copytree(path, Path(scratch) / "copy")))
    whole, copied, plain = (statistics.median(times) for times in (registered, over_client, bare))
    print(
        f"  registering {size / 1e6:6.1f} MB: {whole:5.2f} s; copied there and back {copied:5.2f} s, "
        f"to a folder {plain:5.2f} s; {whole - copied:.2f} s beyond copying there and back"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trackers", nargs="*", default=list(TRACKERS), metavar="sqlite | postgresql")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=200)
    parser.add_argument("--promotions", type=int, default=100)
    parser.add_argument("--copied", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=float, nargs="*", default=[20.0, 540.0])
    options = parser.parse_args()
    sections = {"registry": {"experiment": EXPERIMENT, "model": NAME}, "signing": SIGNING.model_dump(mode="json")}
    for kind in options.trackers:
        with tempfile.TemporaryDirectory() as scratch, tracker(kind, Path(scratch)) as environment:
            os.environ |= environment | {"XDG_CONFIG_HOME": scratch, "PYTHONPATH": str(Path(__file__).parent.parent)}
            os.chdir(scratch)
            Path("params.yaml").write_text(yaml.safe_dump(sections))
            Experiment(EXPERIMENT)  # creates the database
            registry, began = Registry(), time.perf_counter()
            if options.copied and kind == "sqlite":
                database = Path(scratch) / "mlflow.db"
                fill_by_copies(registry, database, options.runs, options.versions, options.promotions)
            else:
                fill(registry, options.runs, options.versions, options.promotions)
            took = time.perf_counter() - began
            print(f"{kind}: {options.runs} runs, filled in {took:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)
            time_answers(registry, options.versions, options.repeats)
            for megabytes in options.megabytes:
                time_registering(registry, round(megabytes * 1e6), options.repeats)
            os.chdir("/")


if __name__ == "__main__":
    main()
