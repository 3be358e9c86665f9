"""The counts and the memory of what sees, against those of tiny models of five architectures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_vision
import torch
from tiny_vision import ask
from transformers import AutoConfig

from tests.profiles import EXACT
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import OBJECTIVES, WeightsKind
from tunesmith.models import chat, loading, weights
from tunesmith.models.attention.packed_attention import backbone
from tunesmith.models.images import forward
from tunesmith.models.images.tokens import image_tokens
from tunesmith.models.loading import OpenModel
from tunesmith.models.settings import Lora, Vision
from tunesmith.planning import hardware, memory, methods, model_shape, vision
from tunesmith.planning.workload import FLOAT32, Machine, Workload

SFT = Workload(
    objective="sft", weights="full", batch=1, length=64, machine=Machine("cpu", FLOAT32, False), rank=4, image_tokens=16
)


@pytest.fixture(scope="module", params=tiny_vision.KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    tiny_vision.draw(folder / "images", ["red", "blue"])
    return tiny_vision.fetch(request.param, folder / "published", folder / "base")


def opened(base: Path, kind: WeightsKind, trains: Vision) -> OpenModel:
    images = [base.parent / "images"]
    return loading.open_policy(base, base, EXACT, kind, Lora(rank=4), vision=trains, images=images)


@pytest.mark.parametrize("trains", ["frozen", "projector", "all"])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_what_trains_is_counted_exactly(base: Path, kind: WeightsKind, trains: Vision) -> None:
    if (kind, trains) == ("lora", "projector") and "gemma3" in (base / "config.json").read_text():
        with pytest.raises(ParamsError, match="vision"):  # its projector is no linear layer
            opened(base, kind, trains)
        return
    shape, work = model_shape.read(str(base)), replace(SFT, weights=kind, vision=trains)
    trainable, total = weights.count_parameters(opened(base, kind, trains).model)
    assert shape.vision is not None
    assert memory.trainable(shape, work) == trainable
    adapter = trainable if kind == "lora" else 0
    assert shape.parameters + shape.vision.parameters == total - adapter
    assert memory.predict(shape, work).weights == (total - adapter) * FLOAT32


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_what_autograd_saves_of_images_is_near_the_prediction(base: Path, kind: WeightsKind, recomputed: bool) -> None:
    model = opened(base, kind, "all")
    if recomputed:
        model.model.gradient_checkpointing_enable()
        model.model.train()
    inner: Any = backbone(model.model)
    images = forward.seen_by(inner)
    assert images is not None
    prompt = ask(*tiny_vision.draw(base.parent / "images", ["red", "blue"]))
    ids = chat.encode_prompt(model.tokenizer, prompt)
    pixels = images.pixels(images.order([token for token in ids if token >= len(model.tokenizer)]))
    own = {parameter.untyped_storage().data_ptr() for parameter in inner.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        inner.get_image_features(**pixels)
    shape = model_shape.read(str(base))
    assert shape.vision is not None
    machine = replace(SFT.machine, checkpointing=recomputed)
    work = replace(SFT, weights=kind, vision="all", image_tokens=image_tokens(ids), machine=machine)
    measured = sum(storage.nbytes() for storage in storages.values())
    later = vision.layer(shape.vision, work) if recomputed else 0  # in the backward pass
    predicted = vision.saved(shape.vision, work) - later
    whole = vision.saved(shape.vision, replace(work, machine=SFT.machine))
    assert predicted == pytest.approx(measured, abs=0.1 * whole if recomputed else 0.2 * measured)


def test_images_take_memory_and_more_where_what_sees_trains(base: Path) -> None:
    shape, work = model_shape.read(str(base)), replace(SFT, image_tokens=4096)
    frozen, projector, all_of_it = (
        memory.predict(shape, replace(work, vision=trains)).total for trains in ("frozen", "projector", "all")
    )
    assert frozen < projector < all_of_it
    assert memory.predict(shape, replace(work, batch=2)).total > frozen


def test_no_method_of_a_base_that_reads_images_needs_a_reward_model(base: Path) -> None:
    machine = hardware.Hardware("here", SFT.machine, 10**12)
    groups = methods.survey(model_shape.read(str(base)), OBJECTIVES, machine, length=64, rank=4)
    assert [group[0].workload.objective for group in groups] == ["sft", "dpo", "kto", "grpo"]


def test_patches_of_an_image_token_are_those_of_its_architecture(tmp_path: Path) -> None:
    kinds = {"internvl": 4, "gemma3": 16, "llava": 1, "qwen2_5_vl": 4}
    found = {}
    for kind in kinds:
        settings = {"vision_config": {"image_size": 896, "patch_size": 14}} if kind == "gemma3" else {}
        AutoConfig.for_model(kind, **settings).save_pretrained(tmp_path / kind)
        shape = model_shape.read(str(tmp_path / kind))
        assert shape.vision is not None
        found[kind] = shape.vision.patches
    assert found == kinds
