import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.core import manifest
from tunesmith.core.errors import IntegrityError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    manifest.write(tmp_path)
    return tmp_path


def test_an_untouched_folder_verifies(folder: Path) -> None:
    assert set(manifest.verify(folder).files) == {"model.safetensors", "config.json"}


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"Weights"), "model.safetensors (changed)"),
        (lambda folder: (folder / "config.json").unlink(), "config.json (missing)"),
        (lambda folder: (folder / "code.py").write_text(""), "code.py (added)"),
        (lambda folder: (folder / "config.json").rename(folder / "c.json"), "c.json (added), config.json (missing)"),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "a link"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: not a regular file"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "no readable manifest"),
        (lambda folder: (folder / "manifest.json").write_text('{\n "files": []\n}\n'), "no readable manifest"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": ' + "[" * 90_000), "no readable manifest"),
        (lambda folder: (folder / "manifest.json").unlink(), "no readable manifest"),
    ],
)
def test_any_change_is_refused_by_name(folder: Path, tamper: Callable[[Path], None], message: str) -> None:
    tamper(folder)
    with pytest.raises(IntegrityError) as error:
        manifest.verify(folder)
    assert message in str(error.value)


def test_a_pickle_gets_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(IntegrityError, match="pickle"):
        manifest.write(tmp_path)


def test_the_weights_digest_depends_on_the_weights_alone(folder: Path) -> None:
    before = manifest.verify(folder)
    (folder / "config.json").write_text(json.dumps({"a": 1}))
    after = manifest.write(folder)
    assert after.weights_digest == before.weights_digest
    assert after.digest != before.digest
