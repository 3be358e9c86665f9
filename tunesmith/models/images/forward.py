"""How a model sees: what stands for images among its tokens becomes pixels just before it computes.

Every pass goes through here, that of a trainer, of generation and of a cache of prompts alike, and one whose tokens say
that there is an image while nobody gives its pixels is an error: models answer blindly then, without one.
"""

import inspect
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tunesmith.core.errors import DataError
from tunesmith.models.images.row_images import RowImages
from tunesmith.models.images.tokens import FIRST_ID

ENCODED = "mm_encoder_outputs"
PIXELS = ("pixel_values", ENCODED)
"""Arguments of a model that bring images."""
TYPES = ("mm_token_type_ids", "token_type_ids")
"""Arguments of models that say which tokens are of images: 1 there, 0 for text."""


def attach(inner: Any, images: RowImages) -> None:
    """Let a model see ``images``, and refuse image tokens without pixels. inner: the model without its output head."""
    inner.row_images = images
    inner.register_forward_pre_hook(_see, with_kwargs=True)


def seen_by(inner: torch.nn.Module) -> RowImages | None:
    """The images that a model, without its output head, sees; None where it reads text alone."""
    images: RowImages | None = getattr(inner, "row_images", None)
    return images


def _see(inner: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> Any:
    """Exchange the ids of images for image tokens and pixels."""
    if args:  # as transformers' own code never calls it
        args, inputs = args[1:], {"input_ids": args[0], **inputs}
    ids = inputs.get("input_ids")
    if ids is None:
        return args, inputs
    if inputs.get(ENCODED) == {}:  # as `generate` gives it to models that take it
        inputs = {name: value for name, value in inputs.items() if name != ENCODED}
    images: RowImages = inner.row_images
    of_images = ids >= FIRST_ID
    if not of_images.any():
        if all(inputs.get(name) is None for name in PIXELS) and (ids == images.token).any():
            raise DataError(
                "a model got the token of an image and no pixels: it would answer without having seen it",
                fix="report this with your params.yaml; rows with images need a model opened with their folder",
            )
        return args, inputs
    digests = images.order(ids[of_images].tolist())
    pixels = {name: value.to(ids.device) for name, value in images.pixels(digests).items()}
    seen = inputs | pixels | {"input_ids": ids.masked_fill(of_images, images.token)}
    seen |= {name: of_images.to(torch.int) for name in TYPES if name in _taken(inner)}
    if _has_grid(inner) and (inputs.get("position_ids") is None or inputs["position_ids"].ndim == 2):
        seen["position_ids"] = _in_grid(inner, ids, inputs)
    return args, seen


def positions(inner: torch.nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Position ids under a mask with padding on either side: (batch, tokens), or (3, batch, tokens) in time, height and
    width where a model has such and there are images.
    """
    if seen_by(inner) is not None and _has_grid(inner) and (ids >= FIRST_ID).any():
        return _in_grid(inner, ids, {"attention_mask": mask})
    return (mask.cumsum(1) - 1).clamp(min=0)


def for_generation(inner: Any, ids: Tensor) -> dict[str, Any]:
    """Arguments of `generate` for prompts, (rows, tokens): it writes no image token, and may place images in a grid."""
    images = seen_by(inner)
    if images is None:
        return {}
    settings: dict[str, Any] = {"suppress_tokens": [images.token]}
    of_images = ids >= FIRST_ID
    if sees_both_ways(inner):
        settings |= {name: of_images.to(torch.int) for name in TYPES if name in _taken(inner)}
    if _has_grid(inner):
        inner.rope_deltas = None  # of the prompts before, which transformers would go on with
        if of_images.any():
            grids = [_grid(images, digest) for digest in images.order(ids[of_images].tolist())]
            settings |= {"image_grid_thw": torch.cat(grids).to(ids.device), TYPES[0]: of_images.to(torch.int)}
    return settings


def sees_both_ways(inner: torch.nn.Module) -> bool:
    """Whether the tokens of an image attend to each other in both directions, as in Gemma 3: its layers are told which
    those are.
    """
    if seen_by(inner) is None:
        return False
    config: Any = inner.config
    named = getattr(config.get_text_config(), "use_bidirectional_attention", None)
    return TYPES[1] in _taken(inner) or named == "vision"


def _taken(inner: torch.nn.Module) -> Iterable[str]:
    """The names of the arguments of a model."""
    return inspect.signature(type(inner).forward).parameters


def _has_grid(inner: Any) -> bool:
    """Whether positions of image tokens follow the image's height and width, as in Qwen's models."""
    return hasattr(inner, "get_rope_index")


def _grid(images: RowImages, digest: str) -> Tensor:
    grid = images.of(digest).grid
    assert grid is not None, "a model with positions in a grid has a processor that gives it"
    return grid


def _in_grid(inner: Any, ids: Tensor, inputs: dict[str, Any]) -> Tensor:
    """Positions in time, height and width, (3, batch, tokens), of rows under a mask or packed by their offsets."""
    offsets, mask = inputs.get("cu_seq_lens_q"), inputs.get("attention_mask")
    if offsets is None:
        return _of_rows(inner, ids, mask)
    ends = offsets.tolist()
    return torch.cat([_of_rows(inner, ids[:, begin:end], None) for begin, end in pairwise(ends)], 2)


def _of_rows(inner: Any, ids: Tensor, mask: Tensor | None) -> Tensor:
    images: RowImages = inner.row_images
    of_images = ids >= FIRST_ID
    grids = [_grid(images, digest) for digest in images.order(ids[of_images].tolist())]
    found: Tensor = inner.get_rope_index(
        input_ids=ids,
        mm_token_type_ids=of_images.to(torch.int),
        image_grid_thw=torch.cat(grids).to(ids.device) if grids else None,
        attention_mask=mask,
    )[0]
    return found
