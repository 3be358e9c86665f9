"""A registered version is a model for MLflow: it loads with the weights that were registered, and answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
import tiny_vision
import torch
from lineages import ORIGIN
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from profiles import EXACT
from registered_versions import EXPERIMENT, FILES, NAME, SIGNING
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from tunesmith.core import layout, manifest
from tunesmith.models import loading, saving, weights
from tunesmith.models.settings import Lora
from tunesmith.registry import mlmodel, registration
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment

ENVIRONMENT = {"python": "3.11.9", "libraries": {"torch": "2.13.0+cpu", "transformers": "5.23.0", "trl": "1.16.0"}}
HUB = {"kind": "hub", "repo": "org/model", "commit": "c" * 40, "chat_template": None}


@pytest.fixture
def base(project: Path, tiny_base: Path) -> Path:
    return Path(shutil.copytree(tiny_base, project / layout.BASE).relative_to(project))


def adapter(base: Path) -> Path:
    """An adapter that changes what the base answers, with the base's tokenizer."""
    torch.manual_seed(1)
    policy = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, init_lora_weights=False))
    folder = layout.MODELS / "sft-lora"
    policy.save_pretrained(folder)
    for path in base.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special")):
            shutil.copy(path, folder)
    return folder


def full(base: Path) -> Path:
    return Path(shutil.copytree(base, layout.MODELS / "sft-full"))


def register(folder: Path, under: Path | None) -> str:
    """Register a folder and return its address in the registry."""
    (folder / "manifest.json").unlink(missing_ok=True)
    manifest.write(folder)
    origin: Any = ORIGIN | {"environment": ORIGIN["environment"] | ENVIRONMENT}
    number = registration.register(
        Registry(),
        NAME,
        Experiment(EXPERIMENT).run("k", folder.name, 0, {}),
        folder,
        loading=mlmodel.loading(origin, under, "float32"),
        outcome="pass",
        evidence="",
        files=FILES,
        tags={},
        description="",
        signing=SIGNING,
    )
    return f"models:/{NAME}/{number}"


@pytest.mark.filterwarnings("ignore")  # MLflow's and transformers' own
@pytest.mark.parametrize("kind", ["adapter", "full weights"])
def test_mlflow_loads_a_version_with_its_weights_and_serves_chat(
    base: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = adapter(base) if kind == "adapter" else full(base)
    uri = register(folder, base if kind == "adapter" else None)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    loaded = mlflow.transformers.load_model(uri, return_type="components")
    expected = AutoModelForCausalLM.from_pretrained(folder)  # peft's, for an adapter
    tokens = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded["model"](tokens).logits, expected(tokens).logits)
    asked = {"messages": [{"role": "user", "content": "2 + 2?"}], "max_tokens": 3}
    [answer] = mlflow.pyfunc.load_model(uri).predict(asked)
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert mlflow.models.get_model_info(uri).signature.inputs.input_names()[0] == "messages"
    registry = Registry()
    [model] = registry.client.search_logged_models([Experiment(EXPERIMENT).id])
    assert (model.status, json.loads(model.tags["mlflow.modelVersions"])) == ("READY", [{"name": NAME, "version": "1"}])
    assert [output.model_id for output in registry.client.get_run(model.source_run_id).outputs.model_outputs] == [
        model.model_id
    ]


def test_an_adapter_on_a_hubs_base_names_repository_and_commit(base: Path) -> None:
    (base / "lineage.json").write_text(json.dumps({"source": "hub", "params": HUB}))
    origin: Any = ORIGIN | {"environment": ENVIRONMENT}
    loading = mlmodel.loading(origin, base, "bfloat16")
    assert loading.fields == {
        "peft_adaptor": "model",
        "source_model_name": "org/model",
        "source_model_revision": "c" * 40,
        "tokenizer_name": "org/model",
        "tokenizer_revision": "c" * 40,
    }
    assert loading.requirements == ("torch==2.13.0", "transformers==5.23.0")
    (base / "lineage.json").write_text(json.dumps({"params": HUB | {"chat_template": {"path": "own.jinja"}}}))
    assert "local_base_model_path" in mlmodel.loading(origin, base, "bfloat16").fields


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["adapter", "full weights"])
def test_mlflow_loads_a_model_that_reads_images_with_its_processor(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    base = Path(tiny_vision.fetch("idefics3", tmp_path / "published", project / layout.BASE).relative_to(project))
    folder = layout.MODELS / "sft-lora"
    if kind == "adapter":
        opened = loading.open_model(base, base, EXACT)
        model: Any = weights.add_lora(opened.model, Lora(rank=2, alpha=4))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(torch.randn_like(parameter) if "lora_B" in name else 0)
        saving.save_adapter(model, folder, None, base)
        saving.save_reader(opened, folder)
    else:
        shutil.copytree(base, folder)
    uri = register(folder, base if kind == "adapter" else None)
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    loaded = mlflow.transformers.load_model(uri, return_type="components")
    expected = AutoModelForImageTextToText.from_pretrained(base)
    if kind == "adapter":
        expected = PeftModel.from_pretrained(expected, str(folder))
    inputs = AutoProcessor.from_pretrained(folder)(
        text=["<image>What is it?"], images=[[Image.new("RGB", (32, 32), "red")]], return_tensors="pt"
    )
    asked = loaded["processor"](
        text=["<image>What is it?"], images=[[Image.new("RGB", (32, 32), "red")]], return_tensors="pt"
    )
    assert torch.equal(loaded["model"](**asked).logits, expected(**inputs).logits)


@pytest.mark.filterwarnings("ignore")
def test_mlflow_opens_no_tokenizer_in_place_of_a_processor(project: Path, tmp_path: Path) -> None:
    """Without torchvision, transformers has no processor for Qwen's models; a tokenizer would leave images out."""
    base = Path(tiny_vision.fetch("qwen2_5_vl", tmp_path / "published", project / layout.BASE).relative_to(project))
    uri = register(Path(shutil.copytree(base, layout.MODELS / "sft-full")), None)
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    with pytest.raises(ImportError, match="requires the Torchvision library"):
        mlflow.transformers.load_model(uri, return_type="components")
