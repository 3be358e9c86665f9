"""The part of a model that sees: its counts and sizes, and the memory that it takes in a training. Pure arithmetic.

A tower turns patches of an image into vectors, and a projector makes an embedding of some of them for each image token.
Where it is frozen, only one layer's tensors exist at a time, before those of the language model; where it trains,
autograd saves each layer's, as counted by `saved` (after Korthikanti et al. 2022, section 4.1, for a layer with norms,
attention and an MLP). Where layers are recomputed in the backward pass, so are those of the tower: then it saves each
layer's input, and all of one layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from tunesmith.models.images import vision_parts
from tunesmith.planning.workload import FLOAT32, Workload

Linears = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Vision:
    """Counts and sizes of the vision tower and the projector.

    parameters: of tower and projector. projector: of it alone. tower_linears, projector_linears: (in, out) of linear
    layers. patch: numbers in a patch. patches: of which an image token is made. gated: whether MLPs have a gate.
    rotated: whether queries and keys are, by their positions.
    """

    parameters: int
    projector: int
    tower_linears: Linears
    projector_linears: Linears
    layers: int
    hidden: int
    intermediate: int
    heads: int
    patch: int
    patches: int
    gated: bool
    rotated: bool

    def linears(self, workload: Workload) -> Linears:
        """(in, out) of the linear layers that train, in full or by an adapter."""
        match workload.vision:
            case "frozen":
                return ()
            case "projector":
                return self.projector_linears
            case "all":
                return self.tower_linears + self.projector_linears

    def trained(self, workload: Workload) -> list[tuple[int, ...]]:
        """The shapes of the tensors that train, vectors and what is no linear layer as one."""
        linears = self.linears(workload)
        if workload.weights != "full":
            return [size for i, o in linears for size in ((workload.rank, i), (o, workload.rank))]
        count = {"frozen": 0, "projector": self.projector, "all": self.parameters}[workload.vision]
        rest = count - sum(inputs * outputs for inputs, outputs in linears)
        return [*((outputs, inputs) for inputs, outputs in linears), *([(rest,)] if rest else [])]


def read(model: PreTrainedModel) -> Vision | None:
    """The vision of a transformers model on any device; None for a model of text."""
    if not vision_parts.sees(model):
        return None
    config: Any = model.config.vision_config
    language, projects = vision_parts.trained(model, "frozen"), vision_parts.trained(model, "projector")
    seeing = {name: values.numel() for name, values in model.named_parameters() if not language(name)}
    linears = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not language(f"{name}.")
    }
    channels = getattr(config, "num_channels", None) or getattr(config, "in_channels", None) or 3
    time = getattr(config, "temporal_patch_size", None) or 1
    return Vision(
        parameters=sum(seeing.values()),
        projector=sum(count for name, count in seeing.items() if projects(name)),
        tower_linears=tuple(size for name, size in linears.items() if not projects(f"{name}.")),
        projector_linears=tuple(size for name, size in linears.items() if projects(f"{name}.")),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=config.num_attention_heads,
        patch=channels * time * _pixels(config.patch_size),
        patches=_patches(model.config, config),
        gated=any(name.endswith(".gate_proj") for name in linears),
        rotated=any(name.endswith(".qkv") for name in linears),  # in one layer, as in models with rotations
    )


def _patches(model: Any, tower: Any) -> int:
    """The patches that an image token is made of, by the configs of the model and of its tower."""
    if tokens := getattr(model, "mm_tokens_per_image", None):  # Gemma 3 makes as many of an image of any size
        return max(_pixels(tower.image_size) // _pixels(tower.patch_size) // int(tokens), 1)
    if ratio := getattr(model, "downsample_ratio", None):
        return int(1 / ratio**2)
    side = getattr(model, "scale_factor", None) or getattr(tower, "spatial_merge_size", None) or 1
    return int(side**2)


def _pixels(size: int | Sequence[int]) -> int:
    """The pixels of a square, by its side, or of an area, by its height and width."""
    return size**2 if isinstance(size, int) else math.prod(size)


def weights(vision: Vision, workload: Workload) -> int:
    """Bytes of its weights, which are never quantized, and in full training are held as those of the language model."""
    return vision.parameters * (
        workload.trained_bytes if workload.weights == "full" else workload.machine.compute_bytes
    )


def working(vision: Vision, workload: Workload) -> int:
    """Bytes that exist while images are seen without gradients: pixels, and the tensors of one layer."""
    patches, c = workload.seen_tokens * vision.patches, workload.machine.compute_bytes
    return patches * (vision.patch * (FLOAT32 + c) + (6 * vision.hidden + 2 * vision.intermediate) * c)


def saved(vision: Vision, workload: Workload) -> int:
    """Bytes that autograd saves of the tower and the projector, where they train."""
    if workload.vision == "frozen":
        return 0
    patches, c = workload.seen_tokens * vision.patches, workload.machine.compute_bytes
    projected = sum(map(sum, vision.projector_linears)) * workload.seen_tokens * c
    if workload.vision == "projector":
        return projected
    kept = vision.layers * layer(vision, workload)
    if workload.machine.checkpointing:
        kept = patches * vision.layers * vision.hidden * workload.stream_bytes + layer(vision, workload)
    embedded = patches * vision.patch * c if workload.weights == "full" else 0
    return kept + embedded + projected


def layer(vision: Vision, workload: Workload) -> int:
    """Bytes that autograd saves of one layer of the tower, where it trains."""
    patches, c = workload.seen_tokens * vision.patches, workload.machine.compute_bytes
    a = FLOAT32 if workload.attends_in_float32 else c
    # Queries, keys, values and output; queries and keys once more before their rotation.
    attention = (6 if vision.rotated else 4) * vision.hidden * a + vision.heads * FLOAT32
    inputs = 2 * vision.hidden * c + vision.intermediate * c  # of attention, its output and the MLP
    norms, activation = 2 * vision.hidden * FLOAT32, (3 if vision.gated else 2) * vision.intermediate * c
    adapters = workload.rank * len(vision.tower_linears) // vision.layers * c if workload.weights != "full" else 0
    return patches * (attention + inputs + norms + activation + adapters)
