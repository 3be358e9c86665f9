"""What is installed is what a lock names: every package by its hash, and images by digests that are looked up."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def installs(name: str) -> list[str]:
    """The `pip install` commands of Makefile or Dockerfile, in their order."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [part.strip() for part in re.findall(r"pip install(.*?)(?:&&|;|$)", text, re.MULTILINE)]


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_the_lock_comes_first_and_no_package_of_its_can_come_without_a_hash(name: str) -> None:
    first, *others = installs(name)
    assert "--require-hashes" in first
    assert re.search(r"requirements\.lock", first)
    resolves = [command for command in others if "--no-deps" not in command]
    assert [
        command for command in resolves if "TORCH" not in command
    ] == []  # another build than PyPI's, after the lock
    unhashed = [command for command in others if "--require-hashes" not in command and command not in resolves]
    assert all(re.search(r"torch|TORCH|--no-build-isolation", command) for command in unhashed)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_of_a_lock_has_a_hash(lock: Path) -> None:
    packages = re.split(r"^(?=\S)", lock.read_text(), flags=re.MULTILINE)
    assert packages
    assert [package for package in packages if package.strip() and "--hash=sha256:" not in package] == []


def test_the_build_tools_are_those_that_pyproject_names_at_the_versions_of_the_other_locks() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    build = pins(ROOT / "requirements-build.lock")
    assert dict(requirement.split("==") for requirement in requires).items() <= build.items()
    for lock in (ROOT / "requirements.lock", ROOT / "requirements-dev.lock"):
        assert {name: version for name, version in pins(lock).items() if build.get(name, version) != version} == {}


def test_the_cuda_libraries_are_in_a_lock_of_their_own() -> None:
    cuda = pins(ROOT / "requirements-cuda.lock")
    assert "triton" in cuda
    assert not cuda.keys() & pins(ROOT / "requirements.lock").keys()


@pytest.mark.parametrize("program", ["docker", "skopeo"])
def test_the_digests_of_images_are_looked_up_and_written_wherever_an_image_of_others_is_named(
    tmp_path: Path, program: str
) -> None:
    project, tools = tmp_path / "project", tmp_path / "bin"
    (project / "deploy").mkdir(parents=True)
    tools.mkdir()
    for name in ("compose.yaml", "Dockerfile", "deploy/pin_images.py"):
        shutil.copy(ROOT / name, project / name)
    environment = os.environ | {"PATH": str(tools)}
    for digest in ("a" * 64, "b" * 64):  # the second time, the newer one replaces it
        (tools / program).write_text(f"#!/bin/sh\necho sha256:{digest}\n")
        (tools / program).chmod(0o755)
        subprocess.run([sys.executable, "deploy/pin_images.py"], cwd=project, env=environment, check=True)
        for name, images in (
            ("compose.yaml", ("postgres:17", "versity/versitygw:v")),
            ("Dockerfile", ("debian:bookworm-slim", "nvidia/cuda:13")),
        ):
            text = (project / name).read_text()
            assert text.count(f"@sha256:{digest}") == text.count("@sha256:") == len(images)
            assert all(re.search(rf"{image}[^@\s]*@sha256:{digest}", text) for image in images)
            assert re.sub("@sha256:[0-9a-f]{64}", "", text) == re.sub(
                "@sha256:[0-9a-f]{64}", "", (ROOT / name).read_text()
            )


def test_without_an_answer_of_the_registry_nothing_is_written(tmp_path: Path) -> None:
    for name in ("compose.yaml", "Dockerfile", "deploy/pin_images.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "deploy/pin_images.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PATH": "/nowhere"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "neither docker nor skopeo is installed" in done.stderr
    assert (tmp_path / "compose.yaml").read_text() == (ROOT / "compose.yaml").read_text()


def test_an_image_is_built_from_all_that_the_wheel_includes() -> None:
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copies = re.findall(r"^COPY ((?:.|\\\n)*?) /source/", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    copied = {word for line in copies for word in line.replace("\\\n", " ").split()}
    for name in included["force-include"]:
        assert {name, *map(str, Path(name).parents)} & copied, name
