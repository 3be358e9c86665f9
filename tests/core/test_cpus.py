import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tunesmith.cli import main, reproduce
from tunesmith.core import cpus
from tunesmith.registry.provenance.worktree import Worktree

UNIFIED, FIRST = "0::/a/b\n", "4:memory:/c\n3:cpu,cpuacct:/docker/x\n0::/\n"
CASES = {
    "no quota": (UNIFIED, {"a/b/cpu.max": "max 100000"}, 8),
    "a quota": (UNIFIED, {"a/b/cpu.max": "250000 100000"}, 2),
    "of the group above": (UNIFIED, {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
    "of the root, as a container sees its own": (UNIFIED, {"cpu.max": "400000 100000"}, 4),
    "less than one CPU": (UNIFIED, {"a/b/cpu.max": "50000 100000"}, 1),
    "more than there are": (UNIFIED, {"a/b/cpu.max": "9900000 100000"}, 8),
    "first version, none": (FIRST, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    "first version": (FIRST, {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    "first version, another controller's": (FIRST, {"memory/c/cpu.cfs_quota_us": "1"}, 8),
    "not a number of words": (UNIFIED, {"a/b/cpu.max": ""}, 8),
    "no groups at all": ("", {}, 8),
}


@pytest.mark.parametrize(("membership", "files", "expected"), CASES.values(), ids=CASES)
def test_usable_cpus_are_the_smallest_of_affinity_and_quotas(
    membership: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    (tmp_path / "membership").write_text(membership)
    assert cpus.usable_cpus(tmp_path, tmp_path / "membership") == expected


def test_variables_that_the_user_has_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    variables = cpus.environment()
    assert (variables["OMP_NUM_THREADS"], variables["OMP_WAIT_POLICY"]) == ("7", "PASSIVE")


COMMAND = """
from tunesmith.cli.main import main
from tunesmith.core import cpus
cpus.usable_cpus = lambda: 1

@main.command()
def count():
    import torch
    print(torch.get_num_threads())

main(["count"])
"""


def test_a_command_that_imports_torch_has_a_thread_for_each_usable_cpu() -> None:
    unset = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", COMMAND], env=unset, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_reproduce_passes_only_the_users_own_thread_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a quota of two CPUs would take its host's sixteen for the user's choice."""
    variables: dict[str, str] = {}

    def run(*_: object, **__: object) -> bool:
        variables.update(Worktree(Path(), Path(), Path(), keep=False).environment())
        return True

    monkeypatch.setattr(reproduce, "run", run)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert CliRunner().invoke(main.main, ["reproduce", "toy"]).exit_code == 0
    assert {name: variables.get(name) for name in cpus.environment()} == {
        "OMP_NUM_THREADS": None,
        "MKL_NUM_THREADS": "3",
        "OMP_WAIT_POLICY": None,
    }


def test_this_machine_has_at_least_one_usable_cpu() -> None:
    assert 1 <= cpus.usable_cpus() <= (os.cpu_count() or 1)
