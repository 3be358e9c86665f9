"""A function applied to many items by one process for each CPU, with the results in order."""

import collections
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from tunesmith.core import cpus
from tunesmith.core.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")
FEW, FORKED_FEW = 32, 4
"""Fewest items for which processes are started; forked processes start sooner."""
_work: Callable[..., Any]
"""The function of a worker process."""
elsewhere: Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]] | None = None
"""Applies a function to many items on other machines, with the results in order; set where a cluster runs the stage."""


def ordered(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    preload: Iterable[str] = (),
    fork: bool = False,
) -> Iterator[Result]:
    """Yield ``work(item)`` for every item, in the order of the items.

    A few items are done in two threads of this process, where tokenizing, which leaves Python, overlaps with the rest:
    starting processes takes longer. Where a cluster is at hand, it does more (`elsewhere`). About two items a worker
    are in flight, so that memory does not grow with their number. Raises DataError where a worker is killed, as systems
    do when memory is short.

    preload: modules to import once for all workers, besides that of ``work``. fork: neither ``work`` nor its libraries
    have run in this process yet, so that workers can be forked from it at once.
    """
    workers = workers or cpus.usable_cpus()
    items = iter(items)
    fork = fork and sys.platform == "linux"
    few = FORKED_FEW if fork else FEW
    first = list(itertools.islice(items, few))
    if elsewhere is not None and len(first) == few:
        yield from elsewhere(work, itertools.chain(first, items))
        return
    pool: Executor
    if len(first) < few or workers == 1:
        pool, call = ThreadPoolExecutor(min(workers, 2)), work
    else:
        pool, call = _processes(work, workers, {work.__module__, *preload}, fork=fork), _call
    pending: collections.deque[Future[Result]] = collections.deque()
    try:
        for item in itertools.chain(first, items):
            pending.append(pool.submit(call, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            "a process that checks rows was killed, as systems do when memory is short",
            fix="free some memory, or run with fewer CPUs (`taskset -c 0 dvc repro`)",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _processes(work: Callable[..., object], workers: int, preload: set[str], *, fork: bool) -> ProcessPoolExecutor:
    context: BaseContext = multiprocessing.get_context("fork")
    if not fork:
        # Workers forked from this process, where libraries may have threads, could hang: fork from a fresh process.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(sorted(preload))
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(work,))


def _start(work: Callable[..., object]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent shuts the workers down
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}  # each CPU has its process already
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _call(item: object) -> Any:
    return _work(item)
