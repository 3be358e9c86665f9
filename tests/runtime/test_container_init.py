"""Process 1 of a container: which limit ended the stage."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith.runtime import (
    container_init,
)

ROOT = Path(__file__).parents[2]


def test_a_folder_that_cannot_be_written_ends_the_container_before_the_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(container_init.WRITABLE, '["/tmp", "/proc/sys/kernel"]')
    assert container_init.main(["/no/such/program"]) == container_init.NOT_WRITABLE


def test_triton_finds_the_images_compiled_module_and_can_add_to_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TRITON_HOME", raising=False)
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    compiled = tmp_path / "compiled"
    container_init.copy_triton_cache(compiled)
    assert list(tmp_path.iterdir()) == []
    (compiled / "key").mkdir(parents=True)
    (compiled / "key" / "cuda_utils.so").write_text("compiled")
    container_init.copy_triton_cache(compiled)
    cache = tmp_path / ".triton" / "cache"
    assert (cache / "key" / "cuda_utils.so").read_text() == "compiled"
    (cache / "kernel").mkdir()


def test_a_stage_finds_the_hosts_data_sets_and_can_write_beside_them(tmp_path: Path) -> None:
    cache, scratch = tmp_path / "cache", tmp_path / "scratch" / "datasets"
    container_init.link_datasets(cache, scratch)
    assert not scratch.exists()
    (cache / "team___sums" / "main").mkdir(parents=True)
    (cache / "team___sums" / "main" / "sums-test.arrow").write_text("rows")
    (cache / "team___sums.lock").touch()
    container_init.link_datasets(cache, scratch)
    assert [path.name for path in scratch.iterdir()] == ["team___sums"]
    assert (scratch / "team___sums" / "main" / "sums-test.arrow").read_text() == "rows"
    (scratch / "team___sums" / "main" / "cache-1.arrow").touch()
    assert len(list((cache / "team___sums" / "main").iterdir())) == 1


@pytest.mark.parametrize(
    ("file", "content", "limit"),
    [
        ("memory.events", "low 0\noom 3\noom_kill 1\n", container_init.OUT_OF_MEMORY),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", container_init.OUT_OF_MEMORY),
        ("pids.events", "max 5\n", container_init.OUT_OF_PIDS),
        ("pids/pids.events", "max 1\n", container_init.OUT_OF_PIDS),
        ("pids.events", "max 0\n", None),
        ("memory.events", "oom 3\noom_kill 0\n", None),
    ],
)
def test_a_limit_that_was_hit_is_read_from_the_kernels_counters(
    file: str, content: str, limit: int | None, tmp_path: Path
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    assert [
        name for name, counters in container_init.COUNTERS.items() if container_init.is_counted(counters, tmp_path)
    ] == ([limit] if limit else [])


@pytest.mark.parametrize(
    ("free", "total", "limit"),
    [
        ({"/tmp": 0}, 2**31, container_init.SCRATCH_FULL),
        ({"/dev/shm": 4096}, 2**31, container_init.SHARED_MEMORY_FULL),
        ({"/tmp": 2**30, "/dev/shm": 2**30}, 2**31, None),
        ({"/dev/shm": 2**16}, 2**16, None),  # a small and empty disk
    ],
)
def test_a_full_disk_with_a_limit_of_its_own_is_named(
    free: dict[str, int], total: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_init, "COUNTERS", {})
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) in free)
    monkeypatch.setattr(
        container_init.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[str(path)], total=total)
    )
    assert container_init.exceeded_limit() == limit
