"""Many promotions at once: does exactly one win, are the others refused with the reason, is the history one line?

    python -m benchmarks.promotions [sqlite | postgresql] [--rounds 20] [--at-once 50] [--processes 5]

Each round registers two versions, compared with the present champion, and has 50 contenders promote one or the
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
from tests.registered_versions import NAME, SIGNING, folder, register
from tunesmith.core.errors import RegistryError
from tunesmith.registry import ledger, promotion
from tunesmith.registry.ledger import CHAMPION, Chain
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.versions import VersionFiles

TRACKERS = ("sqlite", "postgresql")
REFUSALS = ("was not promoted", "was compared before", "champion already")
"""The reasons with which the others may be refused; each names the winner."""


@dataclass(frozen=True)
class Round:
    """The outcome of a round. outcomes: contenders by outcome, `won` or a refusal. wrong: broken expectations."""

    outcomes: Counter[str]
    wrong: list[str]
    seconds: float


@contextmanager
def tracker(kind: str, scratch: Path) -> Iterator[dict[str, str]]:
    """Start a tracker, and yield the environment in which MLflow's clients find it."""
    if kind == "sqlite":
        yield {"MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db"}
        return
    with servers.postgres() as database:
        options = ["--backend-store-uri=postgresql+psycopg2:///mlflow", f"--artifacts-destination={scratch}/artifacts"]
        with servers.mlflow_server(scratch, *options, environment=database.environment) as server:
            yield server.environment


def contend(barrier: Any, threads: int, versions: list[str]) -> list[str]:
    """The outcomes of ``threads`` contenders in this process."""

    def ready(fetched: VersionFiles) -> None:
        barrier.wait(timeout=300)

    def run(number: int) -> str:
        registry = Registry()
        try:
            promotion.promote(registry, NAME, versions[number % len(versions)], signing=SIGNING, probe=ready)
        except RegistryError as error:
            return next((kind for kind in REFUSALS if kind in error.reason), f"unclear: {error.reason}")
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "won"

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def work(barrier: Any, threads: int, rounds: Any, answers: Any) -> None:
    """Run the contenders of one process, for all rounds."""
    while (versions := rounds.get()) is not None:
        answers.put(contend(barrier, threads, versions))


def wrong_with(registry: Registry, chain: Chain, outcomes: Counter[str], rounds: int) -> list[str]:
    """Whatever is wrong with the history and the outcomes after a number of rounds."""
    wrong = [f"fault: {fault}" for fault in chain.faults]
    if outcomes["won"] != 1:
        wrong.append(f"{outcomes['won']} winners")
    if len(chain.entries) != rounds:
        wrong.append(f"{len(chain.entries)} entries after {rounds} rounds")
    links = [(entry.parent, entry.previous) for entry in chain.entries]
    if links != [(None, None), *((entry.hash, entry.version) for entry in chain.entries[:-1])][: len(links)]:
        wrong.append("an entry that does not follow the one before")
    head = chain.head(CHAMPION)
    if head and registry.alias(NAME, CHAMPION) != head.version:
        wrong.append("an alias that does not follow the history")
    return wrong + [kind for kind in outcomes if kind != "won" and kind not in REFUSALS]


def play(kind: str, rounds: int, at_once: int, processes: int) -> list[Round]:
    played: list[Round] = []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch, tracker(kind, Path(scratch)) as environment:
        os.environ |= environment | {"XDG_CONFIG_HOME": scratch}
        os.chdir(scratch)
        barrier, todo, answers = context.Barrier(at_once), context.Queue(), context.Queue()
        arguments = (barrier, at_once // processes, todo, answers)
        workers = [context.Process(target=work, args=arguments) for _ in range(processes)]
        registry = Registry()
        for worker in workers:
            worker.start()
        try:
            for number in range(1, rounds + 1):
                paths = [folder(Path(scratch), f"{number} {name}".encode(), name) for name in ("sft-lora", "dpo")]
                versions = [register(registry, path, f"{number} {path.name}") for path in paths]
                began = time.monotonic()
                for _ in workers:
                    todo.put(versions)
                outcomes = Counter(outcome for _ in workers for outcome in answers.get(timeout=600))
                seconds = time.monotonic() - began
                wrong = wrong_with(registry, ledger.read(registry, NAME, SIGNING), outcomes, number)
                played.append(Round(outcomes, wrong, seconds))
                print(f"{kind} {number}: {seconds:.1f} s, {dict(outcomes)} {wrong or ''}", file=sys.stderr, flush=True)
        finally:
            for _ in workers:
                todo.put(None)
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
    options = parser.parse_args()
    failed = False
    for kind in options.trackers:
        rounds = play(kind, options.rounds, options.at_once, options.processes)
        outcomes = sum((played.outcomes for played in rounds), Counter[str]())
        wrong = [f"round {number}: {reason}" for number, played in enumerate(rounds, 1) for reason in played.wrong]
        failed |= bool(wrong)
        print(
            f"{kind}: {len(rounds)} rounds of {options.at_once}, median "
            f"{statistics.median(played.seconds for played in rounds):.1f} s a round (load {os.getloadavg()[0]:.1f}): "
            f"{outcomes.pop('won', 0)} won, "
            f"{sum(outcomes.values())} refused {dict(outcomes)}; {len(wrong)} wrong"
        )
        print("".join(f"  {reason}\n" for reason in wrong), end="")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
