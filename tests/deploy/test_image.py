"""The contents of the images that `make image` builds: what they must hold and must not.

Needs a Docker engine and TUNESMITH_TEST_IMAGE, the name of a `train` image beside which `-test` and `-serve` were built
from this project, and build/sbom.cdx.json; .ci/engine makes all of them.
"""

import hashlib
import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TRAIN = os.environ.get("TUNESMITH_TEST_IMAGE", "tunesmith")
IMAGES = [TRAIN, f"{TRAIN}-test", f"{TRAIN}-serve"]
COMPILERS = ["gcc", "cc", "g++", "make", "ld", "pip-compile", "uv"]
SECRETS = "-name '.env*' -o -name .git -o -name config.local -o -name pip.conf -o -name '*.pem'"
INSTALLED = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
SCRIPTS = {
    "user": "id -u",
    "compilers": f"for program in {' '.join(COMPILERS)}; do command -v $program; done",
    "secrets": f"find /etc /home /root /tmp /workspace -xdev '(' {SECRETS} ')' 2>/dev/null",
    "code": "ls -A /workspace; python -c 'import tunesmith' 2>/dev/null && echo importable",
    "installed": f'python -c "{INSTALLED}"',
}

pytestmark = pytest.mark.engine


def inspect(image: str) -> dict[str, Any]:
    inspected = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=True)
    config: dict[str, Any] = json.loads(inspected.stdout)[0]["Config"]
    return config


@cache
def output(image: str) -> dict[str, list[str]]:
    """The words that each of SCRIPTS prints in a container of the image, as the image's own user."""
    script = "; echo; echo ==; ".join([*SCRIPTS.values(), "true"])
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", script]
    *parts, _ = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n==\n")
    return {name: part.split() for name, part in zip(SCRIPTS, parts, strict=True)}


@pytest.mark.parametrize("image", IMAGES)
def test_its_user_is_not_root(image: str) -> None:
    assert inspect(image)["User"] == "10001:10001"
    assert output(image)["user"] == ["10001"]


@pytest.mark.parametrize("image", IMAGES)
def test_its_labels_name_the_commit_and_the_lock(image: str) -> None:
    labels = inspect(image)["Labels"]
    command = ["git", "-c", f"safe.directory={ROOT}", "rev-parse", "HEAD"]  # the checkout may be another user's
    head = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == head.stdout.strip()
    digest = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    assert labels["tunesmith.lock-digest"] == f"sha256:{digest}"


@pytest.mark.parametrize("image", IMAGES)
def test_it_has_no_compiler(image: str) -> None:
    assert output(image)["compilers"] == []


@pytest.mark.parametrize("image", IMAGES)
def test_it_has_no_secret(image: str) -> None:
    paths = [path for path in output(image)["secrets"] if not path.startswith("/etc/ssl/")]  # authorities are public
    assert paths == []
    assert not any("proxy" in variable.lower() or "index" in variable.lower() for variable in inspect(image)["Env"])


def test_the_train_image_has_no_code_of_its_own() -> None:
    assert output(TRAIN)["code"] == []


def test_the_bill_of_materials_names_every_package_of_the_image() -> None:
    bill = json.loads((ROOT / "build" / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {(normal(part["name"]), part["version"]) for part in bill["components"]}
    installed = {tuple(word.split("==")) for word in output(TRAIN)["installed"]}
    assert len(installed) > 100
    assert {(normal(name), version) for name, version in installed} == listed


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
