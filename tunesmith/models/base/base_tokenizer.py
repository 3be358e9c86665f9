"""The base model's tokenizer and chat template, for checking rows before any weight is loaded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunesmith.core import manifest
from tunesmith.core.ready_rows import Conversation
from tunesmith.data.lengths import Lengths
from tunesmith.models import chat, chat_template
from tunesmith.models.base import base_images
from tunesmith.models.base.base_images import ImageTokens
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


def open_tokenizer(base: Path, *, images: Sequence[Path] = ()) -> PreTrainedTokenizerBase:
    """Open the tokenizer of the base. Raises IntegrityError where a file beside the weights does not verify.

    images: folders with the images that rows name, for a base that reads them.
    """
    manifest.verify(base, weights=False)
    config = json.loads((base / "tokenizer_config.json").read_text())
    seeing = not base_images.why_none(base)
    if config.get("tokenizer_class") in GENERIC and not seeing:
        return PreTrainedTokenizerFast.from_pretrained(base)
    from transformers import AutoTokenizer

    from tunesmith.models.images.row_images import RowImages  # with torch

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if seeing:
        parts.give(tokenizer, RowImages(base, images))
    return tokenizer


def lengths(tokenizer: PreTrainedTokenizerBase, base: Path) -> Lengths:
    """A counter of the base's tokens, the length of its context, and whether it takes tools and images."""
    config = json.loads((base / "config.json").read_text())
    context = config.get("text_config", config).get("max_position_embeddings", tokenizer.model_max_length)
    wanted = style.of(tokenizer)
    no_images = base_images.why_none(base)
    return Lengths(
        Counter(tokenizer),
        context,
        tools=wanted.calls,
        definitions=wanted.tools,
        system=chat_template.writes_system(tokenizer),
        unreasoned=chat_template.unreasoned(tokenizer),
        image_tokens=None if no_images else ImageTokens(tokenizer),
        no_images=no_images,
    )
