"""The processor of a base that reads images: its files, and what of it images need."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoConfig, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from tunesmith.core.errors import BaseModelError, MissingLibraryError, ParamsError

FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""The files of a processor beside those of its tokenizer."""
SQUARE, WIDE = (64, 64), (160, 96)
"""Sizes of blank images, in pixels, of which a processor is asked what it writes."""
VIDEOS = "video_processor"
"""The part of a processor that reads videos."""
TEMPLATE = "chat_template"
"""The key of a processor's file that may hold a chat template, in place of the one that a model folder has."""


def reads_images(folder: Path) -> bool:
    """Whether the full weights in ``folder`` have a part that sees, by their config."""
    return "vision_config" in config(folder)


def copy_files(folder: Path, out: Path) -> None:
    """Copy a processor's files, without a chat template: the tokenizer's is the one that trains and serves."""
    for name in FILES:
        if not (folder / name).exists():
            continue
        settings = json.loads((folder / name).read_text())
        if TEMPLATE in settings:
            del settings[TEMPLATE]
            (out / name).write_text(json.dumps(settings, indent=2) + "\n")
        else:
            shutil.copyfile(folder / name, out / name)


def open_processor(folder: Path) -> ProcessorMixin:
    """The processor in ``folder``, without what reads videos, which needs torchvision.

    Raises BaseModelError where there is none or it is none of transformers', and MissingLibraryError where it needs a
    library.
    """
    if not any((folder / name).exists() for name in FILES):
        raise BaseModelError(
            f"{folder}: the model reads images, and has no processor for them ({FILES[0]})",
            fix="take a base that brings its processor's files, or add them to its folder from where it was published",
        )
    settings = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    try:
        return _without_videos(PROCESSOR_MAPPING[type(settings)]).from_pretrained(folder, trust_remote_code=False)
    except ImportError as error:
        raise MissingLibraryError(
            f"{folder}: its processor needs a library: {error}", fix="install the library that it names"
        ) from None
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BaseModelError(
            f"{folder}: transformers cannot open the processor for {settings.model_type}: {error}",
            fix="take a base whose processor is one of transformers' own; code that a repository brings is not run",
        ) from None


def template(folder: Path) -> str | None:
    """The chat template that the processor in ``folder`` brings, which writes images; None where it brings none."""
    found: Any = open_processor(folder).chat_template
    return found.get("default") if isinstance(found, dict) else found


def image_token(processor: Any, config: Mapping[str, Any]) -> int:
    """The id of the token that an image takes several of, by the model's config; it may be another than the one that a
    template writes for an image. Raises BaseModelError where it is no token of the tokenizer.
    """
    token = config.get("image_token_id", config.get("image_token_index"))
    if token is None or processor.tokenizer.convert_ids_to_tokens(token) is None:
        raise BaseModelError(
            f"{type(processor).__name__}: config.json names no token for images that the tokenizer has ({token})",
            fix=_fix("take the config and the tokenizer from one place"),
        )
    return int(token)


def placeholders(processor: Any, images: Sequence[Image.Image]) -> tuple[list[str], Any]:
    """What a processor writes for each of a row's images in place of its marker, and all that it makes of the row."""
    row = "?".join([processor.image_token] * len(images))
    made = processor(text=[row], images=[[*images]], return_text_replacement_offsets=True)
    [replaced] = made["text_replacement_offsets"]
    return [each["replacement"] for each in replaced], made


def config(folder: Path) -> dict[str, Any]:
    """The config of the full weights in ``folder``."""
    read: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return read


def check(processor: Any, folder: Path) -> None:
    """Raise BaseModelError for a processor that writes an image differently beside another image, or more than an image
    in its place: a row would be other tokens than the model was trained on.
    """
    small, wide, writer = Image.new("RGB", SQUARE), Image.new("RGB", WIDE), type(processor).__name__
    try:
        (one, other), made = placeholders(processor, [small, wide])
        apart = [placeholders(processor, [image])[0][0] for image in (small, wide)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BaseModelError(
            f"{folder}: {writer} does not say what it writes for an image ({type(error).__name__}: {error})",
            fix=_fix("take another base"),
        ) from None
    [row] = made["input_ids"]
    rows = [processor.tokenizer.encode(f"{one}?{other}", add_special_tokens=special) for special in (True, False)]
    if [one, other] != apart or list(row) not in rows:
        raise BaseModelError(
            f"{folder}: {writer} writes rows with images in a way of its own, which is not known here",
            fix=_fix("take another base"),
        )
    if image_token(processor, config(folder)) not in row:
        raise BaseModelError(
            f"{folder}: {writer} writes no image as the token that config.json names",
            fix=_fix("take the config and the processor from one place"),
        )


def _fix(action: str) -> str:
    return f"{action}; those that are tested are in docs/methods.md"


def check_reads_text(folder: Path) -> None:
    """Raise ParamsError for full weights that read images, of which transformers has no reward model."""
    if reads_images(folder):
        raise ParamsError(
            f"reward: the base in {folder} reads images, and a reward model reads text alone",
            fix="train a policy from the preferences with dpo, or by verifiers with grpo",
        )


def _without_videos(kind: Any) -> Any:
    """A class of processors without the part for videos."""

    class Images(kind):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != VIDEOS]

        @classmethod
        def from_args_and_dict(cls, args: list[Any], *settings: Any, **more: Any) -> Any:
            parts = iter(args)  # SmolVLM's asks for all
            return super().from_args_and_dict(
                [None if name == VIDEOS else next(parts) for name in kind.get_attributes()], *settings, **more
            )

    Images.__name__ = kind.__name__
    return Images
