"""What trains of a model that reads images, and what a base is refused for."""

from pathlib import Path

import pytest
import tiny_vision
import torch
from tiny_vision import ask, say

from tests.profiles import EXACT
from tunesmith.core.errors import BaseModelError, ParamsError
from tunesmith.core.params import WeightsKind
from tunesmith.models import chat, loading
from tunesmith.models.images import vision_parts
from tunesmith.models.settings import Lora, Vision


@pytest.fixture(scope="module", params=["idefics3", "qwen2_5_vl", "gemma3"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    return tiny_vision.fetch(request.param, folder / "published", folder / "base")


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("vision", ["frozen", "projector", "all"])
def test_a_frozen_tower_has_no_gradients_where_layers_are_recomputed(
    base: Path, kind: WeightsKind, vision: Vision
) -> None:
    images = tiny_vision.draw(base.parent / "images", ["red"])
    if (kind, vision) == ("lora", "projector") and "gemma3" in (base / "config.json").read_text():
        with pytest.raises(ParamsError, match="vision"):  # its projector is no linear layer
            loading.open_policy(base, base, EXACT, kind, Lora(), vision=vision, images=[base.parent / "images"])
        return
    policy = loading.open_policy(base, base, EXACT, kind, Lora(), vision=vision, images=[base.parent / "images"])
    policy.model.gradient_checkpointing_enable()
    policy.model.enable_input_require_grads()
    policy.model.train()
    passed = []
    layers = [
        module
        for name, module in policy.model.named_modules()
        if name.endswith(("layers.1", "blocks.1")) and any(part in name for part in ("vision", "visual"))
    ]
    assert layers
    layers[0].register_forward_hook(lambda layer, inputs, output: passed.append(output))
    example = chat.encode_example(policy.tokenizer, ask(*images), say("red"))
    policy.model(input_ids=torch.tensor([example.input_ids])).logits.sum().backward()
    [output] = passed[:1]
    assert (output if isinstance(output, torch.Tensor) else output[0]).requires_grad is (vision == "all")
    missing = [name for name, values in policy.model.named_parameters() if values.requires_grad and values.grad is None]
    assert not [name for name in missing if "probe" not in name and "post_layernorm" not in name]


def test_a_projector_that_is_not_known_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_parts, "PROJECTORS", ("elsewhere",))
    with pytest.raises(ParamsError, match="known name of a projector"):
        loading.open_policy(base, base, EXACT, "lora", Lora(), vision="projector")
    loading.open_policy(base, base, EXACT, "lora", Lora(), vision="all")


def test_an_adapter_that_finds_nothing_of_what_sees_is_refused(base: Path) -> None:
    lora = Lora(targets=["down_proj"]) if "qwen" not in (base / "config.json").read_text() else Lora(targets=["q_proj"])
    for vision in ("projector", "all"):
        with pytest.raises(ParamsError, match=f"vision: {vision}: an adapter finds no linear layer there"):
            loading.open_policy(base, base, EXACT, "lora", lora, vision=vision)
    loading.open_policy(base, base, EXACT, "lora", lora)
    loading.open_policy(base, base, EXACT, "lora", Lora(), vision="all")


def test_a_base_whose_part_that_sees_is_not_apart_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_parts, "_names", lambda model: [])
    with pytest.raises(BaseModelError, match="not apart from the language model"):
        loading.open_policy(base, base, EXACT, "full", None)


def test_what_sees_is_not_trained_in_a_base_of_text(tiny_base: Path) -> None:
    with pytest.raises(ParamsError, match="the base reads text alone"):
        loading.open_policy(tiny_base, tiny_base, EXACT, "lora", Lora(), vision="all")
