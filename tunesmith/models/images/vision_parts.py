"""The parts of a model that reads images: the language model, the vision tower, and the projector between them."""

import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from tunesmith.core.errors import BaseModelError, ParamsError
from tunesmith.models.images.processor import reads_images
from tunesmith.models.settings import Vision

PROJECTORS = (
    "connector",
    "multi_modal_projector",
    "mm_projector",
    "projector",
    "vision_projection",
    "language_projection",
    "aligner",
    "merger",
    "deepstack_merger_list",
    "resampler_model",
    "embed_vision",
    "mlp1",
)
"""The names of modules that turn what a tower sees into the language model's embeddings."""


def sees(model: PreTrainedModel) -> bool:
    """Whether the model has a part that reads images."""
    return getattr(model.config, "vision_config", None) is not None


def prepare(model: PreTrainedModel, vision: Vision) -> None:
    """Keep gradients out of what sees where it is frozen, also where layers are recomputed: transformers then lets the
    embeddings of every part require gradients, and a frozen tower would run backward, too.

    Raises ParamsError where the model has nothing of what ``vision`` asks to train, and BaseModelError where its part
    that sees cannot be told from the language model.
    """
    if not sees(model):
        if vision != "frozen":
            raise ParamsError(
                f"vision: {vision} trains what sees, and the base reads text alone",
                fix="leave vision out, or take a base that reads images (base_model in params.yaml)",
            )
        return
    parts = _names(model)
    if not parts:
        raise BaseModelError(
            f"{type(model).__name__}: the part that sees is not apart from the language model",
            fix="take another base; those that are tested are in docs/methods.md",
        )
    if vision != "all":
        for module in chain.from_iterable(model.get_submodule(name).modules() for name in parts):
            if isinstance(module, PreTrainedModel):
                of_tower: Any = module
                of_tower.get_input_embeddings = _none
    language, projects = trained(model, "frozen"), trained(model, "projector")
    if vision == "projector" and not any(projects(name) and not language(name) for name, _ in model.named_parameters()):
        raise ParamsError(
            f"vision: projector: none of the modules in {', '.join(parts)} has a known name of a projector",
            fix="set vision to frozen or all",
        )


def _none() -> None:
    """In place of the embeddings of a part whose inputs need no gradient."""


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


def check_adapted(model: PreTrainedModel, vision: Vision) -> None:
    """Raise ParamsError where an adapter is on nothing of what sees though ``vision`` asks for it."""
    language = trained(model, "frozen")
    adapted = [name for name, values in model.named_parameters() if values.requires_grad]
    if sees(model) and vision != "frozen" and all(map(language, adapted)):
        raise ParamsError(
            f"vision: {vision}: an adapter finds no linear layer there, by lora.targets",
            fix="set vision to frozen, lora.targets to all-linear or to layers of what sees, or weights to full",
        )


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
