"""Many promotions at once: does exactly one win, are the others told so, and is the history one line?

    python -m benchmarks.promotions [sqlite | postgresql] [--rounds 20] [--at-once 50] [--processes 5]

Each round registers two versions, compared with the champion that then is, and has 50 contenders promote one or the
other: threads of several processes, which all read the history, fetch and verify their version, wait for each other,
and then promote at the same moment. SQLite is one file that the processes open; PostgreSQL (Debian's, started here) is
behind an `mlflow server`. After each round the history must be one entry longer, each entry naming the one before,
without faults, and the tracker's alias must follow it.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import servers
from tests.registered_versions import EXPERIMENT, NAME, SIGNING, folder, register
from tunesmith.core.errors import RegistryError
from tunesmith.registry import ledger, promotion
from tunesmith.registry.ledger import CHAMPION, Chain
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.versions import VersionFiles

TRACKERS = ("sqlite", "postgresql")
REFUSALS = ("was not promoted", "was compared before", "champion already")
"""What the others may be told, all of it with who was faster."""


@dataclass(frozen=True)
class Round:
    """How a round went. told: what came of the contenders, by kind. wrong: what is not as it should be."""

    told: Counter[str]
    wrong: list[str]
    seconds: float


@contextmanager
def tracker(kind: str, scratch: Path) -> Iterator[dict[str, str]]:
    """The environment in which MLflow's clients find it."""
    if kind == "sqlite":
        yield {"MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db"}
        return
    with servers.postgres() as database:
        options = ["--backend-store-uri=postgresql+psycopg2:///mlflow", f"--artifacts-destination={scratch}/artifacts"]
        with servers.mlflow_server(scratch, *options, environment=database.environment) as server:
            yield server.environment


def contend(barrier: Any, threads: int, versions: list[str]) -> list[str]:
    """What each of ``threads`` contenders of this process is told."""

    def ready(fetched: VersionFiles) -> None:
        barrier.wait(timeout=300)

    def run(number: int) -> str:
        registry = Registry(EXPERIMENT)
        try:
            promotion.promote(registry, NAME, versions[number % len(versions)], signing=SIGNING, probe=ready)
        except RegistryError as error:
            return next((kind for kind in REFUSALS if kind in error.reason), f"unclear: {error.reason}")
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "won"

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def work(barrier: Any, threads: int, tasks: Any, answers: Any) -> None:
    """A process of contenders, for all rounds."""
    while (versions := tasks.get()) is not None:
        answers.put(contend(barrier, threads, versions))


def wrong_with(registry: Registry, chain: Chain, told: Counter[str], rounds: int) -> list[str]:
    """What the history and the contenders should not show after a number of rounds."""
    found = [f"fault: {fault}" for fault in chain.faults]
    if told["won"] != 1:
        found.append(f"{told['won']} winners")
    if len(chain.entries) != rounds:
        found.append(f"{len(chain.entries)} entries after {rounds} rounds")
    links = [(entry.parent, entry.previous) for entry in chain.entries]
    if links != [(None, None), *((entry.hash, entry.version) for entry in chain.entries[:-1])][: len(links)]:
        found.append("an entry that does not follow the one before")
    head = chain.head(CHAMPION)
    if head and registry.alias(NAME, CHAMPION) != head.version:
        found.append("an alias that does not follow the history")
    return found + [kind for kind in told if kind != "won" and kind not in REFUSALS]


def play(kind: str, rounds: int, at_once: int, processes: int) -> list[Round]:
    played: list[Round] = []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch, tracker(kind, Path(scratch)) as environment:
        os.environ |= environment | {"XDG_CONFIG_HOME": scratch}
        os.chdir(scratch)
        barrier, tasks, answers = context.Barrier(at_once), context.Queue(), context.Queue()
        each = (barrier, at_once // processes, tasks, answers)
        workers = [context.Process(target=work, args=each) for _ in range(processes)]
        registry = Registry(EXPERIMENT)
        for worker in workers:
            worker.start()
        try:
            for number in range(1, rounds + 1):
                paths = [folder(Path(scratch), f"{number} {one}".encode(), one) for one in ("sft-lora", "dpo")]
                versions = [register(registry, path, f"{number} {path.name}") for path in paths]
                began = time.monotonic()
                for _ in workers:
                    tasks.put(versions)
                told = Counter(one for _ in workers for one in answers.get(timeout=600))
                seconds = time.monotonic() - began
                wrong = wrong_with(registry, ledger.read(registry, NAME, SIGNING), told, number)
                played.append(Round(told, wrong, seconds))
                print(f"{kind} {number}: {seconds:.1f} s, {dict(told)} {wrong or ''}", file=sys.stderr, flush=True)
        finally:
            for _ in workers:
                tasks.put(None)
            for worker in workers:
                worker.join(timeout=60)
                worker.kill()
    return played


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trackers", nargs="*", default=list(TRACKERS), metavar="sqlite | postgresql")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--processes", type=int, default=5)
    given = parser.parse_args()
    failed = False
    for kind in given.trackers:
        rounds = play(kind, given.rounds, given.at_once, given.processes)
        told = sum((one.told for one in rounds), Counter[str]())
        wrong = [f"round {number}: {what}" for number, one in enumerate(rounds, 1) for what in one.wrong]
        failed |= bool(wrong)
        print(
            f"{kind}: {len(rounds)} rounds of {given.at_once}, median "
            f"{statistics.median(one.seconds for one in rounds):.1f} s a round (load {os.getloadavg()[0]:.1f}): "
            f"{told.pop('won', 0)} won, "
            f"{sum(told.values())} refused {dict(told)}; {len(wrong)} wrong"
        )
        print("".join(f"  {one}\n" for one in wrong), end="")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
