import subprocess
import sys
import time

import psutil
import pytest

from tunesmith.verifiers.math import verifier, worker_process


def test_a_killed_worker_is_started_again() -> None:
    verifier.verify("5", {"reference": "5"})
    process = verifier.WORKER._process
    assert process is not None
    process.kill()
    process.wait()
    assert verifier.verify("5", {"reference": "5"}).score == 1


def test_a_worker_that_does_not_start_is_an_error() -> None:
    with pytest.raises(OSError, match="does not start"):
        worker_process.Worker("tunesmith.verifiers.no_such_module").ask({}, 1.0)


ORPHANS = {
    "exits": "pass",
    "forks, and both exit": "os.fork() or verifier.verify('1', {'reference': '1'})",
    "vanishes": "os._exit(0)",
    "is killed at work": "os.write(worker.stdin.fileno(), TOWER); time.sleep(0.5); os.kill(os.getpid(), 9)",
}
PARENT = """
import json, os, time
from tunesmith.verifiers.math import verifier
verifier.verify("5", {"reference": "5"})
worker = verifier.WORKER._process
TOWER = json.dumps({"reference": "5", "completion": "9^{9^{9^{9}}}", "seconds": 3}).encode() + b"\\n"
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
right = verifier.verify("7", {"reference": "7"}).score == 1 and verifier.WORKER._process.pid
if child == 0:
    verifier.WORKER.stop()
    os._exit(0 if right and right != worker.pid else 1)
assert right == worker.pid
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert verifier.verify("6", {"reference": "6"}).score == 1
"""


def test_a_forked_child_has_a_worker_of_its_own() -> None:
    assert subprocess.run([sys.executable, "-c", PARENT + FORK], stdout=subprocess.DEVNULL, timeout=60).returncode == 0
