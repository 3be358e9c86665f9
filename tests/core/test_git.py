import subprocess
from pathlib import Path

import pytest

from tunesmith.core import git
from tunesmith.core.errors import LineageError

PERSON = ["-c", "user.name=t", "-c", "user.email=t@t"]


def run(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder within a repository, with one commit."""
    folder = tmp_path / "top" / "project"
    folder.mkdir(parents=True)
    run(tmp_path / "top", "init", "-q")
    (folder / "file").write_text("first")
    run(folder, "add", ".")
    run(folder, *PERSON, "commit", "-q", "-m", "first")
    return folder


def test_a_file_is_read_as_it_was_at_a_commit(project: Path) -> None:
    commit = run(project, "rev-parse", "HEAD")
    (project / "file").write_text("second")
    assert git.read(project, commit, "file") == b"first"
    assert git.read(project, commit, "absent") is None
    assert not git.clean(project)


def test_the_lock_of_dvc_and_params_yaml_do_not_count_as_changes(project: Path) -> None:
    for name in ("dvc.lock", "params.yaml"):
        (project / name).write_text("changed")
        assert git.clean(project)
    (project / "other.yaml").write_text("changed")
    assert not git.clean(project)


@pytest.mark.parametrize("commit", ["HEAD", "", "--help", "0" * 40, "f" * 39, "F" * 40])
def test_only_a_whole_hash_of_this_repository_is_a_commit(project: Path, commit: str) -> None:
    assert not git.knows(project, commit)
    assert git.read(project, commit, "file") is None


def test_the_hash_of_a_tree_is_not_a_commit(project: Path) -> None:
    assert not git.knows(project, run(project, "rev-parse", "HEAD^{tree}"))


def test_a_work_tree_holds_the_project_at_its_place_and_is_removed_without_a_trace(
    project: Path, tmp_path: Path
) -> None:
    commit = run(project, "rev-parse", "HEAD")
    (project / "file").write_text("second")
    folder = git.check_out(project, commit, tmp_path / "tree")
    assert folder == tmp_path / "tree" / "project"
    assert (folder / "file").read_text() == "first"
    (folder / "new").write_text("new")
    git.remove(project, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert len(run(project, "worktree", "list").splitlines()) == 1


def test_hooks_of_the_repository_do_not_run_in_a_work_tree(project: Path, tmp_path: Path) -> None:
    hook = project.parent / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git.check_out(project, run(project, "rev-parse", "HEAD"), tmp_path / "tree")
    assert not (tmp_path / "ran").exists()


def test_a_refusal_of_git_is_an_error_with_gits_words(project: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(LineageError, match="already exists"):
        git.check_out(project, run(project, "rev-parse", "HEAD"), tmp_path / "taken")


def test_head_is_the_whole_hash_of_the_commit_that_is_checked_out(project: Path) -> None:
    assert git.head(project) == run(project, "rev-parse", "HEAD")


def test_before_the_first_commit_there_is_no_head(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q")
    assert git.head(tmp_path) is None


def test_outside_of_a_checkout_there_is_no_root_head_or_commit(tmp_path: Path) -> None:
    assert git.root(tmp_path) is None
    assert git.head(tmp_path) is None
    assert not git.knows(tmp_path, "0" * 40)
