"""A training in a container has its own folder of checkpoints and no other, and leaves only plain files in it."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import unprivileged

from tunesmith.core import checkpoints, layout
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import ContainerError
from tunesmith.runtime import container_checkpoints
from tunesmith.runtime.staging import Mount, Staging

OWN = Path("build/checkpoints/container/dpo")


def training(*outputs: str) -> Stage:
    return Stage("train_dpo@dpo", (), tuple(map(Path, outputs or ("models/dpo",))), runs=True)


def writable(staging: Staging) -> list[Path]:
    return [mount.target for mount in staging.mounts if mount.writable]


def test_a_training_writes_its_own_checkpoints_in_place_and_another_stage_none(tmp_path: Path) -> None:
    staging = Staging(tmp_path, training())
    assert Mount(tmp_path / OWN, tmp_path / OWN, writable=True) in staging.mounts
    assert writable(staging) == [tmp_path / "models", tmp_path / OWN]
    assert (tmp_path / OWN).is_dir()
    other = Stage("reference@dpo", (), (Path("models/dpo"),), runs=True)
    assert writable(Staging(tmp_path, other)) == [tmp_path / "models"]


@pytest.mark.parametrize("copy", ["tmp1x/y", "standalone/tmp2"])
def test_an_experiment_in_a_copy_writes_those_of_the_project(
    copy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / ".dvc" / "tmp" / "exps" / copy
    root.mkdir(parents=True)
    assert writable(Staging(root, training())) == [root / "models", tmp_path / OWN]
    monkeypatch.setenv(layout.IMAGE_DIGEST_VARIABLE, "sha256:0")
    monkeypatch.chdir(root)  # as in the container
    assert checkpoints.place("dpo", "key").is_relative_to(tmp_path / OWN)


@pytest.mark.parametrize("output", ["build/report", "build/checkpoints/report", "report"])
def test_they_are_mounted_below_what_is_read_only_beside_another_output(output: str, tmp_path: Path) -> None:
    (tmp_path / "build" / "checkpoints" / "host" / "dpo").mkdir(parents=True)
    staging = Staging(tmp_path, training("models/dpo", output))
    assert [mount.source for mount in staging.mounts if mount.target == tmp_path / OWN] == [tmp_path / OWN]
    place = staging.folder / Path(output).parent
    shown = {mount.target: mount.source for mount in staging.mounts if not mount.writable}
    beside = next(path for path in (tmp_path / OWN).parents if path.parent == tmp_path / Path(output).parent)
    assert shown[beside] == beside  # so the engine finds the place of the checkpoints in it
    assert (place / beside.name).is_dir()


def link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def folder_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim.parent)


def pipe(place: Path, victim: Path) -> None:
    os.mkfifo(place)


def listening(place: Path, victim: Path) -> None:
    os.chdir(place.parent)  # the address of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place.name)


def set_user_id(place: Path, victim: Path) -> None:
    place.write_text("run me")
    place.chmod(0o4755)


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of an earlier run."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / OWN / "key" / "step-00000001"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    return folder


@pytest.mark.parametrize("put", [link, folder_link, pipe, listening, set_user_id])
@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_what_is_no_plain_file_is_removed_before_a_run_and_after_it(
    put: Callable[[Path, Path], None], place: str, left: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim" / "file"
    victim.parent.mkdir()
    victim.write_text("mine")
    victim.chmod(0o4600)
    planted = (left / place).resolve() / "planted"
    put(planted, victim)
    staging = Staging(tmp_path, training())
    assert not os.path.lexists(planted)
    assert "1 entries were no plain files" in capsys.readouterr().err
    put(planted, victim)
    staging.publish()
    assert not os.path.lexists(planted)
    assert (left / "run.json").read_text() == "{}"
    assert (victim.read_text(), victim.stat().st_mode & 0o7777) == ("mine", 0o4600)


def test_a_training_that_leaves_folders_nested_too_deep_is_refused(left: Path, tmp_path: Path) -> None:
    (tmp_path / OWN / "/".join("x" * 9)).mkdir(parents=True)
    with pytest.raises(ContainerError, match=r"dpo/x.* is refused: more than 8 nested folders"):
        Staging(tmp_path, training())


@pytest.fixture
def closed_to() -> Iterator[Path]:
    with unprivileged.folder() as root:
        yield root


def test_a_folder_that_its_owner_cannot_read_is_refused_and_a_concurrent_change_is_no_error(
    closed_to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = closed_to / OWN / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0)
    with pytest.raises(ContainerError, match="dpo/closed is refused: Permission denied"):
        Staging(closed_to, training())
    closed.rmdir()
    monkeypatch.setattr(os, "listdir", lambda descriptor: ["gone"])
    container_checkpoints.clean(closed_to / OWN)
