"""The processor of a base that reads images: its files, and what of it images need."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import AutoConfig, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from tunesmith.core.errors import BaseModelError, MissingLibraryError, ParamsError

FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""The files of a processor beside those of its tokenizer."""
TEMPLATE = "chat_template"
"""The key of a processor's file that may hold a chat template, in place of the one that a model folder has."""


def reads_images(folder: Path) -> bool:
    """Whether the full weights in ``folder`` have a part that sees, by their config."""
    return "vision_config" in json.loads((folder / "config.json").read_text())


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
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    try:
        return _without_videos(PROCESSOR_MAPPING[type(config)]).from_pretrained(folder, trust_remote_code=False)
    except ImportError as error:
        raise MissingLibraryError(
            f"{folder}: its processor needs a library: {error}", fix="install the library that it names"
        ) from None
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BaseModelError(
            f"{folder}: transformers cannot open the processor for {config.model_type}: {error}",
            fix="take a base whose processor is one of transformers' own; code that a repository brings is not run",
        ) from None


def template(folder: Path) -> str | None:
    """The chat template that the processor in ``folder`` brings, which writes images; None where it brings none."""
    found: Any = open_processor(folder).chat_template
    return found.get("default") if isinstance(found, dict) else found


def image_token(processor: Any) -> int:
    """The id of the token that an image takes several of. Raises BaseModelError where it is no token of its own."""
    marker = getattr(processor, "image_token", None)
    ids = [] if marker is None else list(processor.tokenizer.encode(marker, add_special_tokens=False))
    if len(ids) != 1:
        raise BaseModelError(
            f"{type(processor).__name__}: {marker!r}, which stands for an image, is {len(ids)} tokens and not one",
            fix="take a base whose tokenizer has a token for images; those tried are in docs/methods.md",
        )
    return int(ids[0])


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
            return [name for name in super().get_attributes() if name != "video_processor"]

    return Images
