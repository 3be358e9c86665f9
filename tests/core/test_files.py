import errno
import os
from pathlib import Path
from socket import gethostname

import pytest
import unprivileged

from tunesmith.core import files, layout
from tunesmith.core.errors import BusyError


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "out") as work:
        (work / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert content(tmp_path / "out") == {"a": "1"}
    assert names(tmp_path) == ["out"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with files.new_folder(tmp_path / "out") as work:
            (work / name).write_text(name)
    assert content(tmp_path / "out") == {"new": "new"}


def fail_half_way(out: Path, error: BaseException) -> None:
    with files.new_folder(out) as work:
        (work / "a").write_text("half")
        raise error


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_in_a_new_folder_can_be_read_by_everyone_who_can_read_the_folder(
    tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        with files.new_folder(tmp_path / "out") as partial:
            (partial / "sub").mkdir()
            (partial / "sub" / "weights").write_text("as safetensors writes them")
            (partial / "sub" / "weights").chmod(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "out" / "sub" / "weights").stat().st_mode & 0o777 == mode


def test_links_and_pipes_in_a_new_folder_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "victim").touch(mode=0o600)
    with files.new_folder(tmp_path / "out") as partial:
        (partial / "sub").mkdir(mode=0o700)
        (partial / "sub" / "link").symlink_to(tmp_path / "victim")
        (partial / "dangling").symlink_to("nowhere")
        os.mkfifo(partial / "pipe")
        held = os.open(partial / "pipe", os.O_RDWR)  # opening it alone would block for ever
    os.close(held)
    assert (tmp_path / "victim").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"sub", "dangling", "pipe"}


def test_a_subfolder_that_its_owner_cannot_list_is_not_skipped() -> None:
    with unprivileged.folder() as place:
        with files.new_folder(place / "out") as partial:
            (partial / "sub" / "deeper").mkdir(parents=True)
            (partial / "sub" / "deeper" / "weights").touch(mode=0o600)
            (partial / "sub" / "deeper").chmod(0o300)
        readers = (place / "out").stat().st_mode & 0o444
        assert (place / "out" / "sub" / "deeper" / "weights").stat().st_mode & 0o444 == readers


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), ValueError(), KeyboardInterrupt()])
def test_a_failure_leaves_the_previous_folder_and_no_other(tmp_path: Path, error: BaseException) -> None:
    with files.new_folder(tmp_path / "out") as work:
        (work / "a").write_text("good")
    with pytest.raises(type(error)):
        fail_half_way(tmp_path / "out", error)
    assert content(tmp_path / "out") == {"a": "good"}
    assert names(tmp_path) == ["out"]


def test_a_kill_between_the_two_renames_is_repaired_by_the_next_run(tmp_path: Path) -> None:
    (tmp_path / ".out.previous").mkdir()
    (tmp_path / ".out.previous" / "a").write_text("good")
    (tmp_path / ".out.partial").mkdir()
    with pytest.raises(ValueError, match="again"), files.new_folder(tmp_path / "out"):
        raise ValueError("again")
    assert content(tmp_path / "out") == {"a": "good"}


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    files.write_text(tmp_path / "deep" / "file", "1")
    files.write_text(tmp_path / "deep" / "file", "2")
    assert content(tmp_path / "deep") == {"file": "2"}


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files.write_text(tmp_path / "file", "old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text(tmp_path / "file", "new")
    assert content(tmp_path) == {"file": "old"}


def test_a_second_writer_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "out") as work:
        (work / "a").write_text("1")
        with pytest.raises(BusyError, match=rf"process {os.getpid()} is writing it\n.*: `kill {os.getpid()}`"):
            fail_half_way(tmp_path / "out", ValueError())
    assert content(tmp_path / "out") == {"a": "1"}


def test_a_writer_in_a_container_is_named_by_its_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process ID means another process here."""
    monkeypatch.setenv(layout.IMAGE_DIGEST_VARIABLE, "sha256:0")
    with files.only_writer(tmp_path / "out"):
        with pytest.raises(BusyError, match=f"container {gethostname()} is(.|\n)*`docker rm --force {gethostname()}`"):
            files.only_writer(tmp_path / "out").__enter__()
        (tmp_path / ".out.lock").write_text("")  # it has the lock and has not written yet
        with pytest.raises(BusyError, match="another process is writing it"):
            files.only_writer(tmp_path / "out").__enter__()


def test_no_lock_is_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"\.out\.lock"):
        files.only_writer(tmp_path / "out").__enter__()
    assert (tmp_path / "victim").read_text() == "mine"
