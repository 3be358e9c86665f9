"""Work on many blocks in as many processes as there are CPUs, with the results in order."""

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
PRELOAD = ("tunesmith.data.row_checks", "tunesmith.cli.survey", "tunesmith.models.chat")
"""Loaded once for all workers, where this process has loaded them."""
_work: Callable[[Any], Any]


def ordered(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None, fork: bool = False
) -> Iterator[Result]:
    """``work`` of every item, in their order.

    Few items are done here, in two threads, so that what leaves Python (tokenizing) overlaps with what does not:
    starting processes takes longer. A few items a worker are under way at a time: memory does not grow with their
    number. fork: this process has not let ``work`` or its libraries run yet, so that workers can be forked from it at
    once. Raises DataError where a worker is killed, as systems do when memory is short.
    """
    workers = workers or cpus.usable_cpus()
    items = iter(items)
    fork = fork and sys.platform == "linux"
    few = FORKED_FEW if fork else FEW
    first = list(itertools.islice(items, few))
    pool: Executor
    if len(first) < few or workers == 1:
        pool, call = ThreadPoolExecutor(min(workers, 2)), work
    else:
        pool, call = _processes(work, workers, fork=fork), _call
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


def _processes(work: Callable[[Any], Any], workers: int, *, fork: bool) -> ProcessPoolExecutor:
    context: BaseContext = multiprocessing.get_context("fork")
    if not fork:
        # From a fresh process: forked from this one, where libraries may have threads, workers could hang.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([name for name in PRELOAD if name in sys.modules])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(work,))


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}  # one process a CPU is enough
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _call(item: Any) -> Any:
    return _work(item)
