import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.verifiers.sandbox import process, tiers

Pids = Callable[[], list[int]]


def test_a_killed_caller_leaves_no_process(tier: tiers.Tier, mark: str, running: Pids, surviving: Pids) -> None:
    name, value = mark.split("=", 1)
    script = f"""
        import time
        from tunesmith.verifiers.sandbox import interpreter, process
        interpreter.VARIABLES[{name!r}] = {value!r}
        with process.open_processes({tier!r}, "candidate") as [candidate]:
            candidate.send("", "", ["import time; time.sleep(60)"], "f", True, deadline=time.monotonic() + 5)
            print("asleep", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "asleep\n"
        assert running()
        caller.kill()
    assert not surviving()


def test_an_error_in_the_block_closes_processes_and_pipes(tier: tiers.Tier, surviving: Pids) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ZeroDivisionError), process.open_processes(tier, "candidate", "tester"):
        raise ZeroDivisionError
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not surviving()
