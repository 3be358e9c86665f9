import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.verifiers.worker import requests
from tunesmith.verifiers.worker.pool import Pool, size


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(requests.__name__, "1")
    yield pool
    pool.stop()


def test_a_worker_that_dies_of_a_request_is_started_again(pool: Pool) -> None:
    assert pool.ask({"run": "1 + 1"}) == {"value": "2"}
    assert pool.ask({"run": "os._exit(1)"}) is None
    assert pool.ask({"run": "1 +"}) is None
    assert pool.ask({"run": "bytearray(1 << 31)"}) is None
    assert pool.ask({"run": "print('among the replies') or 2"}) == {"value": "2"}


def test_the_limit_is_cpu_time_of_the_request_alone(pool: Pool) -> None:
    assert pool.ask({"run": "10 ** 10 ** 10"}, 0.2) is None
    assert pool.ask({"run": "time.sleep(0.5)"}, 0.2) == {"value": "None"}


def test_a_process_that_was_killed_is_replaced_with_all_that_was_prepared() -> None:
    pool = Pool(requests.__name__, "SPACE.update(prepared=os.getpid())")
    first = pool.ask({"run": "(prepared, os.getpid())"})
    assert pool.ask({"run": "10 ** 10 ** 10"}, 0.1) is None
    second = pool.ask({"run": "(prepared, os.getpid())"})
    pool.stop()
    assert first
    assert second
    (prepared, forked), (prepared_then, forked_then) = (eval(str(reply["value"])) for reply in (first, second))
    assert prepared == prepared_then
    assert forked != forked_then


def test_requests_of_threads_are_answered_beside_each_other(pool: Pool) -> None:
    with ThreadPoolExecutor(2) as threads:
        ids = set(threads.map(lambda _: str(pool.ask({"run": "time.sleep(0.3) or os.getpid()"})), range(4)))
    assert len(ids) == min(2, size())


def test_a_worker_that_does_not_start_is_an_error() -> None:
    with pytest.raises(OSError, match="does not start"):
        Pool("tunesmith.verifiers.no_such_module", "").ask({})


ORPHANS = {
    "exits": "pass",
    "forks, and both exit": "os.fork() or pool.ask({'run': '1'})",
    "vanishes": "os._exit(0)",
    "is killed at work": "worker.stdin.write(ENDLESS); worker.stdin.flush(); time.sleep(0.2); os.kill(os.getpid(), 9)",
}
PARENT = f"""
import os, time
from tunesmith.verifiers.worker.pool import Pool
pool = Pool("{requests.__name__}", "1")
pool.ask({{"run": "1"}})
[worker] = pool._workers
ENDLESS = b'{{"run": "10 ** 10 ** 10", "seconds": 1}}\\n'
print(worker.pid, flush=True)
"""


@pytest.mark.parametrize("name", ORPHANS)
def test_no_worker_outlives_a_parent_that(name: str) -> None:
    parent = subprocess.run([sys.executable, "-c", PARENT + ORPHANS[name]], capture_output=True, text=True, timeout=60)
    worker = int(parent.stdout.split()[0])
    deadline = time.monotonic() + 20
    while _is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_running(worker)


def _is_running(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


FORK = """
child = os.fork()
right = pool.ask({"run": "7"}) == {"value": "7"} and next(iter(pool._workers)).pid
if child == 0:
    pool.stop()
    os._exit(0 if right and right != worker.pid else 1)
assert right == worker.pid
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert pool.ask({"run": "6"}) == {"value": "6"}
"""


def test_a_forked_child_has_a_worker_of_its_own() -> None:
    assert subprocess.run([sys.executable, "-c", PARENT + FORK], stdout=subprocess.DEVNULL, timeout=60).returncode == 0
