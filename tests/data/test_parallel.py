import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.core.errors import DataError
from tunesmith.data import parallel


def double(number: int) -> int:
    time.sleep(0.01 if number % 3 else 0.03)
    return 2 * number


def die(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    raise ValueError(f"not {number}")


def test_results_are_in_order() -> None:
    assert list(parallel.ordered(double, range(80), workers=3)) == [2 * number for number in range(80)]


def test_forked_workers_give_the_same_results() -> None:
    assert list(parallel.ordered(double, range(30), workers=2, fork=True)) == [2 * number for number in range(30)]


def test_few_items_start_no_process() -> None:
    assert list(parallel.ordered(lambda number: (number, os.getpid()), range(3))) == [
        (number, os.getpid()) for number in range(3)
    ]


def test_items_are_taken_only_as_they_are_needed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(200):
            taken.append(number)
            yield number

    results = parallel.ordered(double, items(), workers=2)
    next(results)
    assert len(taken) <= parallel.FEW + 2 * 2 + 1
    results.close()


def test_a_killed_worker_raises_an_error_that_names_memory() -> None:
    with pytest.raises(DataError, match="memory"):
        list(parallel.ordered(die, range(60), workers=2))


def test_an_error_in_a_worker_is_raised_in_the_caller() -> None:
    with pytest.raises(ValueError, match="not 0"):
        list(parallel.ordered(fail, range(60), workers=2))


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time, multiprocessing\n"
        "from tunesmith.data import parallel\n"
        "def work(number):\n"
        "    os.write(1, f'{os.getpid()}\\n'.encode())\n"  # one write: print may take two, and lines then mix
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    list(parallel.ordered(work, range(60), workers=2))\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
