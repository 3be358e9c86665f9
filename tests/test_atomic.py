import errno
import os
from pathlib import Path

import pytest

from tunesmith import atomic
from tunesmith.errors import BusyError


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic.new_folder(tmp_path / "out") as work:
        (work / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert content(tmp_path / "out") == {"a": "1"}
    assert names(tmp_path) == ["out"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic.new_folder(tmp_path / "out") as work:
            (work / name).write_text(name)
    assert content(tmp_path / "out") == {"new": "new"}


def fail_half_way(out: Path, error: BaseException) -> None:
    with atomic.new_folder(out) as work:
        (work / "a").write_text("half")
        raise error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), ValueError(), KeyboardInterrupt()])
def test_a_failure_leaves_the_previous_folder_and_no_other(tmp_path: Path, error: BaseException) -> None:
    with atomic.new_folder(tmp_path / "out") as work:
        (work / "a").write_text("good")
    with pytest.raises(type(error)):
        fail_half_way(tmp_path / "out", error)
    assert content(tmp_path / "out") == {"a": "good"}
    assert names(tmp_path) == ["out"]


def test_a_kill_between_the_two_renames_is_mended_by_the_next_run(tmp_path: Path) -> None:
    (tmp_path / ".out.previous").mkdir()
    (tmp_path / ".out.previous" / "a").write_text("good")
    (tmp_path / ".out.partial").mkdir()
    with pytest.raises(ValueError, match="again"), atomic.new_folder(tmp_path / "out"):
        raise ValueError("again")
    assert content(tmp_path / "out") == {"a": "good"}


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "deep" / "file", "1")
    atomic.write_text(tmp_path / "deep" / "file", "2")
    assert content(tmp_path / "deep") == {"file": "2"}


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    atomic.write_text(tmp_path / "file", "old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write_text(tmp_path / "file", "new")
    assert content(tmp_path) == {"file": "old"}


def test_a_second_writer_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    with atomic.new_folder(tmp_path / "out") as work:
        (work / "a").write_text("1")
        with pytest.raises(BusyError, match=f"process {os.getpid()} is writing it"):
            fail_half_way(tmp_path / "out", ValueError())
    assert content(tmp_path / "out") == {"a": "1"}
