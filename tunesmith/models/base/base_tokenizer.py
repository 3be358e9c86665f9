"""The base model's tokenizer and chat template, for checking rows before any weight is loaded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunesmith.core import manifest
from tunesmith.core.ready_rows import Conversation, ImagePart, TextPart
from tunesmith.data.images.settings import Size
from tunesmith.data.lengths import Lengths
from tunesmith.models import chat, chat_template
from tunesmith.models.base import base_images
from tunesmith.models.images import parts
from tunesmith.models.rendering import style

GENERIC = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Classes without code of their own, which open without torch and the table of all models (5 s to import)."""


@dataclass(frozen=True)
class Counter:
    """A picklable counter of tokens as training will see them."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, conversations: Sequence[Conversation]) -> tuple[list[int], list[int]]:
        return chat.count_tokens(self.tokenizer, conversations)


@dataclass(frozen=True)
class ImageCounter:
    """A picklable counter of the tokens that images of some sizes, in pixels, add to a prompt."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, sizes: Sequence[Size]) -> list[int]:
        kinds = list(dict.fromkeys(sizes))
        text: TextPart = {"type": "text", "text": "?"}
        asked = [Conversation([{"role": "user", "content": [text]}], [])]
        for width, height in kinds:
            image: ImagePart = {"type": "image", "image": "", "width": width, "height": height}
            asked.append(Conversation([{"role": "user", "content": [image, text]}], []))
        (alone, *prompts), _ = chat.count_tokens(self.tokenizer, asked)
        tokens = dict(zip(kinds, prompts, strict=True))
        return [tokens[size] - alone for size in sizes]


def open_tokenizer(base: Path, *, images: Sequence[Path] = ()) -> PreTrainedTokenizerBase:
    """Open the tokenizer of the base. Raises IntegrityError where a file beside the weights does not verify.

    images: folders with the images that rows name, for a base that reads them.
    """
    manifest.verify(base, weights=False)
    config = json.loads((base / "tokenizer_config.json").read_text())
    seeing = "vision_config" in json.loads((base / "config.json").read_text())
    if config.get("tokenizer_class") in GENERIC and not seeing:
        return PreTrainedTokenizerFast.from_pretrained(base)
    from transformers import AutoTokenizer

    from tunesmith.models.images import row_images  # with torch

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if seeing:
        parts.give(tokenizer, row_images.open_images(base, images))
    return tokenizer


def lengths(tokenizer: PreTrainedTokenizerBase, base: Path) -> Lengths:
    """A counter of the base's tokens, the length of its context, and whether it takes tools and images."""
    config = json.loads((base / "config.json").read_text())
    context = config.get("text_config", config).get("max_position_embeddings", tokenizer.model_max_length)
    wanted = style.of(tokenizer)
    images = base_images.counter(base)
    return Lengths(
        Counter(tokenizer),
        context,
        tools=wanted.calls,
        definitions=wanted.tools,
        system=chat_template.writes_system(tokenizer),
        unreasoned=chat_template.unreasoned(tokenizer),
        image_tokens=ImageCounter(tokenizer) if parts.read_by(tokenizer) else None,
        no_images=images if isinstance(images, str) else "",
    )
