"""The parts of a model that reads images: the language model, the vision tower, and the projector between them."""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from tunesmith.models.images.processor import reads_images
from tunesmith.models.settings import Vision

PROJECTORS = ("connector", "multi_modal_projector", "merger", "deepstack_merger_list", "embed_vision", "mlp1")
"""The names of modules that turn what a tower sees into the language model's embeddings."""


def sees(model: PreTrainedModel) -> bool:
    """Whether the model has a part that reads images."""
    return getattr(model.config, "vision_config", None) is not None


def trained(model: PreTrainedModel, vision: Vision) -> Callable[[str], bool]:
    """Whether the module or parameter of a name trains, where ``vision`` does beside the language model."""
    if not sees(model) or vision == "all":
        return lambda name: True
    own = _of_language(model)
    projector = {*PROJECTORS} if vision == "projector" else set[str]()
    return lambda name: name.startswith(own) or bool({*name.split(".")} & projector)


def train_all(model: PreTrainedModel, vision: Vision) -> None:
    """Let all weights train, but those of what ``vision`` leaves frozen."""
    trains = trained(model, vision)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains(name))


def excluded(model: PreTrainedModel, vision: Vision) -> str | None:
    """A pattern of the names of layers that an adapter leaves out; None where it leaves none out."""
    if not sees(model) or vision == "all":
        return None
    projector = rf"(?!(.*\.)?({'|'.join(PROJECTORS)})(\..*)?$)" if vision == "projector" else ""
    return rf"{projector}({'|'.join(map(re.escape, _names(model)))})\..*"


def names(folder: Path) -> list[str]:
    """The names of the modules that see, in the model with the config of ``folder``; none where it reads text alone."""
    if not reads_images(folder):
        return []
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        return _names(AutoModelForImageTextToText.from_config(config, trust_remote_code=False))


def _names(model: PreTrainedModel) -> list[str]:
    children = [*model.children(), *model.base_model.children()]
    outside = [module for module in children if module is not model.base_model]
    own = _of_language(model)
    named = model.named_modules()
    return [
        name for name, module in named if any(module is each for each in outside) and not f"{name}.".startswith(own)
    ]


def _of_language(model: PreTrainedModel) -> tuple[str, ...]:
    """The beginnings of the names of what is in the language model and the output head."""
    own = (model.get_decoder(), model.get_output_embeddings())
    return tuple(f"{name}." for name, module in model.named_modules() if any(module is each for each in own))
