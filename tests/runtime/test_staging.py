import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import unprivileged

from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import ContainerError
from tunesmith.runtime.staging import Staging


def stage(*outputs: str) -> Stage:
    return Stage("train@x", (), tuple(map(Path, outputs)), runs=True)


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a base, a model of an earlier run, and reports."""
    for name in ("models/base/weights", "models/mine/weights", "reports/a.json", "reports/deep/b.json"):
        write(tmp_path / name, f"old {name}")
    write(tmp_path / "models" / ".mine.lock")
    return tmp_path


def mounted(staging: Staging) -> dict[str, tuple[str, bool]]:
    return {
        str(mount.target.relative_to(staging.root)): (str(mount.source.relative_to(staging.root)), mount.writable)
        for mount in staging.mounts
    }


def test_only_the_staging_folder_is_writable_and_other_entries_are_mounted_in_it(root: Path) -> None:
    assert mounted(Staging(root, stage("models/mine", "reports/deep/b.json"))) == {
        ".": (".", False),
        "models": (".dvc/tmp/engines/train@x/models", True),
        "models/base": ("models/base", False),
        "reports/deep": (".dvc/tmp/engines/train@x/reports/deep", True),
    }


def test_outputs_may_lie_in_nested_folders(root: Path) -> None:
    mounts = mounted(Staging(root, stage("reports/new.json", "reports/deep/b.json")))
    assert list(mounts) == [".", "reports", "reports/a.json", "reports/deep"]
    assert mounts["reports/deep"] == (".dvc/tmp/engines/train@x/reports/deep", True)


def test_a_stage_finds_the_files_it_wrote_before_and_not_the_folders(root: Path) -> None:
    staging = Staging(root, stage("models/mine", "reports/a.json"))
    assert (staging.folder / "reports" / "a.json").read_text() == "old reports/a.json"
    assert not (staging.folder / "models" / "mine").exists()


def test_written_outputs_move_to_their_places_whole(root: Path) -> None:
    staging = Staging(root, stage("models/mine", "models/new", "reports/a.json", "reports/never.json"))
    write(staging.folder / "models" / "mine" / "sub" / "weights", "trained")
    write(staging.folder / "models" / "new" / "weights", "too")
    write(staging.folder / "reports" / "a.json").replace(staging.folder / "reports" / "a.json")
    staging.publish()
    assert [path.name for path in sorted((root / "models" / "mine").iterdir())] == ["sub"]
    assert (root / "models" / "mine" / "sub" / "weights").read_text() == "trained"
    assert (root / "models" / "new" / "weights").read_text() == "too"
    assert (root / "reports" / "a.json").read_text() == ""
    assert not (root / "reports" / "never.json").exists()
    assert not staging.folder.exists()


def test_files_that_are_no_output_are_left_behind(root: Path) -> None:
    staging = Staging(root, stage("models/mine"))
    write(staging.folder / "models" / "planted" / "weights")
    staging.publish()
    assert sorted(path.name for path in (root / "models").iterdir()) == [".mine.lock", "base", "mine"]
    assert (root / "models" / "mine" / "weights").read_text() == "old models/mine/weights"


def test_a_file_that_was_not_written_again_is_not_touched(root: Path) -> None:
    before = (root / "reports" / "a.json").stat()
    Staging(root, stage("reports/a.json")).publish()
    after = (root / "reports" / "a.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("place", ["models/mine", "models/mine/weights", "models"])
def test_a_link_in_place_of_an_output_never_leads_out(
    place: str, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    write(outside / "mine" / "weights", "not the stage's")
    staging = Staging(root, stage("models/mine"))
    link = staging.folder / place
    if link.is_dir():  # what held the output
        (link / "base").rmdir()
        link.rmdir()
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(ContainerError, match="the stage wrote a link"):
        staging.publish()
    assert (outside / "mine" / "weights").read_text() == "not the stage's"
    assert (root / "models" / "mine" / "weights").read_text() == "old models/mine/weights"


def test_the_rest_of_a_killed_run_is_not_taken_for_a_result(root: Path) -> None:
    write(Staging(root, stage("models/mine")).folder / "models" / "mine" / "weights", "half")
    Staging(root, stage("models/mine")).publish()
    assert (root / "models" / "mine" / "weights").read_text() == "old models/mine/weights"


def test_closed_folders_and_links_of_a_run_are_gone_in_the_next(root: Path) -> None:
    """A link left under an output's name would have the next run's copy written through it."""
    victim = write(root / "victim", "mine")
    left = Staging(root, stage("reports/a.json", "reports/deep/b.json"))
    (left.folder / "reports" / "a.json").unlink()
    (left.folder / "reports" / "a.json").symlink_to(victim)
    (left.folder / "reports" / "deep").chmod(0o555)
    (left.folder / "reports").chmod(0o555)
    again = Staging(root, stage("reports/a.json", "reports/deep/b.json"))
    assert not (again.folder / "reports" / "a.json").is_symlink()
    assert victim.read_text() == "mine"


def test_set_user_id_bits_of_outputs_are_cleared(root: Path) -> None:
    staging = Staging(root, stage("models/mine"))
    write(staging.folder / "models" / "mine" / "run").chmod(0o4755)
    staging.publish()
    assert (root / "models" / "mine" / "run").stat().st_mode & 0o7000 == 0


@pytest.mark.parametrize("refused", ["link", "kind"])
def test_of_several_outputs_none_moves_where_one_is_refused(refused: str, root: Path) -> None:
    staging = Staging(root, stage("reports/a.json", "models/mine", "reports/deep/b.json"))
    write(staging.folder / "reports" / "a.json", "new")
    (staging.folder / "reports" / "deep" / "b.json").unlink()
    if refused == "link":
        (staging.folder / "reports" / "deep" / "b.json").symlink_to("/etc/passwd")
    else:
        (staging.folder / "reports" / "deep" / "b.json").mkdir()
    with pytest.raises(
        ContainerError, match=r"reports/deep/b\.json: the stage wrote a (link|folder).* stay as they were"
    ):
        staging.publish()
    assert (root / "reports" / "a.json").read_text() == "old reports/a.json"
    assert (root / "reports" / "deep" / "b.json").read_text() == "old reports/deep/b.json"


def test_a_file_in_place_of_a_folder_is_refused(root: Path) -> None:
    staging = Staging(root, stage("models/mine"))
    write(staging.folder / "models" / "mine", "new")
    with pytest.raises(ContainerError, match="models/mine: the stage wrote a file"):
        staging.publish()
    assert (root / "models" / "mine" / "weights").read_text() == "old models/mine/weights"


def test_outputs_may_lie_on_another_disk(root: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as disk:
        for name in ("models", "reports"):
            shutil.move(root / name, disk)
            (root / name).symlink_to(Path(disk, name))
        assert Path(disk).stat().st_dev != root.stat().st_dev
        staging = Staging(root, stage("models/mine", "reports/a.json"))
        write(staging.folder / "models" / "mine" / "sub" / "weights", "new")
        write(staging.folder / "reports" / "a.json", "new")
        staging.publish()
        assert sorted(path.name for path in (root / "models" / "mine").iterdir()) == ["sub"]
        assert (root / "models" / "mine" / "sub" / "weights").read_text() == "new"
        assert (root / "reports" / "a.json").read_text() == "new"
        assert {path.name for path in (root / "reports").iterdir()} == {"a.json", "deep"}


def test_a_disk_that_is_full_when_a_result_is_copied_to_it_loses_neither(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(source: Path, to: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def copy(source: Path, to: Path) -> None:
        if source.name == "second":
            raise OSError(errno.ENOSPC, "No space left on device")

    staging = Staging(root, stage("models/mine"))
    for name in ("first", "second"):
        write(staging.folder / "models" / "mine" / name, "new")
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(shutil, "copy2", copy)
    with pytest.raises(OSError, match="No space left"):
        staging.publish()
    assert (root / "models" / "mine" / "weights").read_text() == "old models/mine/weights"
    assert {path.name for path in (staging.folder / "models" / "mine").iterdir()} == {"first", "second"}


def test_a_result_whose_replacement_was_cut_short_is_there_again(root: Path) -> None:
    (root / "models" / "mine").rename(root / "models" / ".mine.previous")
    Staging(root, stage("models/mine"))
    assert (root / "models" / "mine" / "weights").read_text() == "old models/mine/weights"


# As a user without privileges, to whom permissions apply.


@pytest.fixture
def closed_to() -> Iterator[Path]:
    """A project whose owner is not root, with a model of an earlier run."""
    with unprivileged.folder() as root:
        write(root / "models" / "mine" / "weights", "old")
        yield root


def test_a_folder_that_cannot_be_created_is_an_error(closed_to: Path) -> None:
    (closed_to / "reports").mkdir()
    (closed_to / "reports").chmod(0o555)
    with pytest.raises(ContainerError, match="reports cannot be written by user"):
        Staging(closed_to, stage("reports/new/a.json"))


def link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def pipe(place: Path, victim: Path) -> None:
    os.mkfifo(place)


@pytest.mark.parametrize("put", [link, pipe])
@pytest.mark.parametrize("mode", [0o300, 0o000])
def test_nothing_hides_in_a_folder_that_its_owner_cannot_list(
    put: Callable[[Path, Path], None], mode: int, closed_to: Path
) -> None:
    victim = write(closed_to / "victim", "mine")
    victim.chmod(0o600)
    staging = Staging(closed_to, stage("models/mine"))
    hiding = write(staging.folder / "models" / "mine" / "sub" / "weights").parent
    put(hiding / "hidden", victim)
    hiding.chmod(mode)
    with pytest.raises(ContainerError, match="models/mine/sub/hidden: the stage wrote a link or a device"):
        staging.publish()
    assert victim.stat().st_mode & 0o777 == 0o600
    assert (closed_to / "models" / "mine" / "weights").read_text() == "old"


def test_closed_outputs_are_published_readable_by_their_owner(closed_to: Path) -> None:
    staging = Staging(closed_to, stage("models/mine"))
    written = write(staging.folder / "models" / "mine" / "sub" / "weights", "new")
    for path in (written, written.parent, written.parents[1]):
        path.chmod(0)
    staging.publish()
    assert (closed_to / "models" / "mine" / "sub" / "weights").read_text() == "new"


def test_closed_folders_do_not_stop_the_next_run(closed_to: Path) -> None:
    left = Staging(closed_to, stage("models/mine"))
    hidden = write(left.folder / "models" / "stray" / "sub" / "deeper" / "file")
    for path in (hidden, *list(hidden.parents)[:4]):
        path.chmod(0)
    assert not (Staging(closed_to, stage("models/mine")).folder / "models" / "stray").exists()


def nest(folder: Path, depth: int) -> None:
    """Create nested folders, too deep for any path to name the last."""
    folder.mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("x" * 100, dir_fd=descriptor)
        above, descriptor = descriptor, os.open("x" * 100, os.O_RDONLY, dir_fd=descriptor)
        os.close(above)
    os.close(descriptor)


@pytest.mark.parametrize("depth", [33, 1200])
def test_an_output_of_deeply_nested_folders_is_refused_and_does_not_stop_the_next_run(
    depth: int, closed_to: Path
) -> None:
    staging = Staging(closed_to, stage("models/mine"))
    nest(staging.folder / "models" / "mine", depth)
    with pytest.raises(ContainerError, match=r"models/mine: (.* more than 32 nested folders|.* cannot be read)"):
        staging.publish()
    assert (closed_to / "models" / "mine" / "weights").read_text() == "old"
    Staging(closed_to, stage("models/mine")).publish()
    assert not staging.folder.exists()


# Secrets.


def test_files_that_may_hold_passwords_are_mounted_empty(root: Path) -> None:
    secrets = {".env", ".env.production", ".envrc", ".dvc/config.local", ".git/config", "signing.pem", "keys/my.key"}
    for name in (*secrets, ".dvc/config", "keys/my.pub"):
        write(root / name, "secret")
    mounts = mounted(Staging(root, stage("models/mine")))
    empty = (".dvc/tmp/engines/.empty", False)
    hidden = {name: source for name, source in mounts.items() if source == empty}
    assert hidden.keys() == secrets
    assert (root / empty[0]).read_bytes() == b""


def test_a_secret_is_hidden_beside_an_output_and_at_the_target_of_a_link(root: Path) -> None:
    write(root / "deploy" / "production", "secret")
    (root / ".env").symlink_to("deploy/production")
    write(root / ".env.local", "secret")
    staging = Staging(root, stage("metrics.json"))  # the root is a folder of outputs, whose entries are mounted
    targets = [str(mount.target.relative_to(root)) for mount in staging.mounts if mount.target != root]
    assert len(targets) == len(set(targets))  # an engine refuses two
    assert {name for name, (source, _) in mounted(staging).items() if source.endswith(".empty")} == {
        ".env.local",
        "deploy/production",
    }
