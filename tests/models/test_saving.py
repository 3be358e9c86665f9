"""A saved adapter opens in plain peft from any directory, and its card says what it is."""

import json
import shutil
from pathlib import Path

import adapters
import pytest
import yaml
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tunesmith.core import layout, lineage, manifest
from tunesmith.models import saving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB, LOCAL = f"hub team/tiny@{COMMIT}", "folder models/mine sha256:ab"


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_base, tmp_path / "project" / "models" / "base")


def save(base: Path, source: str, name: str = "sft-lora") -> Path:
    """An adapter on the base, saved as a training does, in the project that the base is in."""
    folder = adapters.write(base.parent / name, base)
    origin = lineage.read(folder)
    origin["base"]["source"] = source
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    saving.save_adapter(model, folder, origin, layout.BASE)
    saving.write_card(folder, name, origin)
    manifest.write(folder)
    return folder


@pytest.mark.parametrize("source", [HUB, LOCAL])
def test_peft_opens_an_adapter_from_any_directory(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(base.parents[1])
    folder = save(base, source)
    config = json.loads((folder / "adapter_config.json").read_text())
    named = config["base_model_name_or_path"], config["revision"]
    assert named == (("team/tiny", COMMIT) if source == HUB else (str(base), None))
    # The hub's cache as a download leaves it, without the main branch: only the commit can be found there.
    shutil.copytree(base, tmp_path / "hub" / "models--team--tiny" / "snapshots" / COMMIT)
    if source == HUB:
        base.rename(tmp_path / "gone")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    opened = AutoPeftModelForCausalLM.from_pretrained(folder, cache_dir=tmp_path / "hub")
    saved = load_file(folder / "adapter_model.safetensors")
    weights = opened.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"].weight
    assert any(weights.equal(tensor) for tensor in saved.values())


def test_naming_the_base_changes_no_weight(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base.parents[1])
    folders = [save(base, source, name) for source, name in ((HUB, "one"), (LOCAL, "two"))]
    plain = adapters.write(base.parent / "three", base)
    assert len({manifest.read(folder).weights_digest for folder in (*folders, plain)}) == 1


def test_an_adapter_on_another_models_weights_names_their_folder_even_if_the_base_is_the_hubs(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parents[1])
    full = adapters.write_full(base.parent / "sft-full", base)
    folder = adapters.write(base.parent / "dpo", base, on=full)
    origin = lineage.read(folder)
    origin["base"]["source"] = HUB
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(full), LoraConfig(task_type="CAUSAL_LM"))
    saving.save_adapter(model, folder, origin, Path("models/sft-full"))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (str(full), None)


@pytest.mark.parametrize("source", [HUB, LOCAL])
def test_the_card_in_a_model_folder_is_the_same_in_every_run(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(base.parents[1])
    folder = save(base, source)
    text = (folder / saving.CARD).read_text()
    assert saving.CARD in manifest.verify(folder).files
    assert str(tmp_path) not in text
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata.get("base_model") == ("team/tiny" if source == HUB else None)
    assert metadata["library_name"] == "peft"
    assert ("PeftModel.from_pretrained(weights," in text) == (source == LOCAL)
