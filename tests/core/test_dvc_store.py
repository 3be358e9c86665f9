"""Files by digest in DVC's remote or a folder like one: each travels once, and what is damaged is never handed over."""

import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.core import dvc_store
from tunesmith.core.dvc_store import Address, Digest, Store
from tunesmith.core.errors import ClusterError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=root, check=True)
    (root / ".dvcignore").write_text("*.partial\n")
    (root / "data").mkdir()
    (root / "data" / "rows.jsonl").write_text("one\n")
    (root / "data" / "again.jsonl").write_text("one\n")
    (root / "data" / ".rows.partial").write_text("half")
    return root


def remote(root: Path, *settings: str) -> None:
    """Add a default remote beside the project, with settings."""
    dvc = [sys.executable, "-m", "dvc", "remote"]
    subprocess.run([*dvc, "add", "-q", "-d", "store", "../remote"], cwd=root, check=True)
    for setting in settings:
        subprocess.run([*dvc, "modify", "-q", "store", *setting.split()], cwd=root, check=True)


def test_a_tree_has_the_digest_of_every_file_that_dvc_does_not_ignore(project: Path) -> None:
    tree = dvc_store.tree(project, [Path("data"), Path("absent")])
    assert tree == dict.fromkeys(["data/again.jsonl", "data/rows.jsonl"], Digest("5bbf5a52328e7439ae6e719dfe712200", 4))
    assert dvc_store.plain_tree(project, [Path("data")]) == tree
    assert dvc_store.size(tree) == 4  # each content counts once


def test_content_that_is_there_already_does_not_travel_again(project: Path) -> None:
    remote(project)
    store = Store(dvc_store.of_project(project, None), root=project)
    tree = dvc_store.tree(project, [Path("data")])
    sources = {digest: project / name for name, digest in tree.items()}
    assert store.lacks(tree.values()) == set(tree.values())
    assert [store.put(sources), store.put(sources)] == [4, 0]
    on_a_node = Store(dvc_store.of_project(project, None))
    on_a_node.get(tree["data/rows.jsonl"], project / "copy")
    assert (project / "copy").read_text() == "one\n"


def test_what_dvc_pushed_is_there_for_a_node(project: Path) -> None:
    remote(project)
    for command in (["add", "-q", "data/rows.jsonl"], ["push", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=project, check=True)
    tree = dvc_store.tree(project, [Path("data/rows.jsonl")])
    assert Store(dvc_store.of_project(project, None)).lacks(tree.values()) == set()


def test_content_that_is_missing_or_damaged_is_refused_with_the_place(project: Path, tmp_path: Path) -> None:
    store, digest = Store(Address(str(tmp_path / "shared"))), Digest("5bbf5a52328e7439ae6e719dfe712200", 4)
    with pytest.raises(ClusterError, match=r"shared: 5bbf.* is not there; this machine does not even have that folder"):
        store.get(digest, tmp_path / "copy")
    store.put({digest: project / "data" / "rows.jsonl"})
    (file,) = (path for path in (tmp_path / "shared").rglob("*") if path.is_file())
    file.chmod(0o644)
    file.write_text("two\n")
    with pytest.raises(ClusterError, match="is damaged"):
        store.get(digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    file.unlink()
    with pytest.raises(ClusterError, match=r"is not there\n.*run the stage again"):
        store.get(digest, tmp_path / "copy")


def test_checkpoints_are_apart_from_dvcs_objects_and_are_removed_again(project: Path, tmp_path: Path) -> None:
    """A checkpoint may have the bytes of a final file: removing it must not take that from the remote."""
    address, file = Address(str(tmp_path / "shared")), project / "data" / "rows.jsonl"
    objects, part = Store(address), Store(address, "checkpoints/run")
    first, second = Digest(dvc_store.md5(file), 4), Digest(dvc_store.md5(project / ".dvcignore"), 10)
    objects.put({first: file})
    part.put({first: file, second: project / ".dvcignore"})
    part.keep_only([second])
    assert part.lacks([first, second]) == {first}
    part.remove()
    part.remove()
    assert part.lacks([second]) == {second}
    assert not objects.lacks([first])


def test_a_project_without_a_common_place_is_refused(project: Path) -> None:
    with pytest.raises(ClusterError, match="no place that this machine and the nodes both see"):
        dvc_store.of_project(project, None)
    assert dvc_store.of_project(project, "/mnt/shared") == Address("/mnt/shared")


def test_a_remotes_secrets_stay_at_home(project: Path) -> None:
    remote(project, "verify true")
    secret = [sys.executable, "-m", "dvc", "remote", "modify", "-q", "--local", "store", "jobs", "3"]
    subprocess.run(secret, cwd=project, check=True)  # what config.local has is a machine's own
    address = dvc_store.of_project(project, None)
    assert address == Address(str(project.parent / "remote"), {"verify": "true"})


def test_a_remote_that_keeps_versions_is_refused(project: Path) -> None:
    remote(project, "version_aware true")
    with pytest.raises(ClusterError, match="keeps versions of files"):
        dvc_store.of_project(project, None)
