"""The contents of the images that `make image` builds: what they must hold and must not.

Needs a Docker engine and TUNESMITH_TEST_IMAGE, the name of a `train` image beside which `-test` and `-serve` were built
from this project, and build/sbom.cdx.json; .ci/engine makes all of them.
"""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TRAIN = os.environ.get("TUNESMITH_TEST_IMAGE", "tunesmith")
IMAGES = [TRAIN, f"{TRAIN}-test", f"{TRAIN}-serve"]
FORBIDDEN = ["gcc", "cc", "g++", "make", "ld", "pip-compile", "uv"]

pytestmark = pytest.mark.engine


def inspect(image: str) -> dict[str, Any]:
    inspected = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=True)
    config: dict[str, Any] = json.loads(inspected.stdout)[0]["Config"]
    return config


def output(image: str, script: str) -> list[str]:
    """The words that a shell script prints in a container of the image, as the image's own user."""
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("image", IMAGES)
def test_its_user_is_not_root(image: str) -> None:
    assert inspect(image)["User"] == "10001:10001"
    assert output(image, "id -u") == ["10001"]


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
    assert output(image, f"for program in {' '.join(FORBIDDEN)}; do command -v $program; done; true") == []


@pytest.mark.parametrize("image", IMAGES)
def test_it_has_no_secret(image: str) -> None:
    names = "-name '.env*' -o -name .git -o -name config.local -o -name pip.conf -o -name '*.pem'"
    paths = output(image, f"find /etc /home /root /tmp /workspace -xdev '(' {names} ')' 2>/dev/null; true")
    assert [path for path in paths if not path.startswith("/etc/ssl/")] == []  # certificate authorities are public
    assert not any("proxy" in variable.lower() or "index" in variable.lower() for variable in inspect(image)["Env"])


def test_the_train_image_has_no_code_of_its_own() -> None:
    assert output(TRAIN, "ls -A /workspace; python -c 'import tunesmith' 2>/dev/null && echo importable; true") == []


def test_the_bill_of_materials_names_every_package_of_the_image() -> None:
    bill = json.loads((ROOT / "build" / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {(normal(part["name"]), part["version"]) for part in bill["components"]}
    script = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
    installed = {tuple(line.split("==")) for line in output(TRAIN, f'python -c "{script}"')}
    assert len(installed) > 100
    assert {(normal(name), version) for name, version in installed} == listed


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
