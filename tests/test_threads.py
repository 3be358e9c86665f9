import os
from pathlib import Path

import pytest

from tunesmith import threads

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
def test_the_least_of_affinity_and_quotas_counts(
    membership: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    (tmp_path / "membership").write_text(membership)
    assert threads.usable_cpus(tmp_path, tmp_path / "membership") == expected


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    chosen = threads.environment()
    assert (chosen["OMP_NUM_THREADS"], chosen["OMP_WAIT_POLICY"]) == ("7", "PASSIVE")


def test_here_there_is_at_least_one() -> None:
    assert 1 <= threads.usable_cpus() <= (os.cpu_count() or 1)
