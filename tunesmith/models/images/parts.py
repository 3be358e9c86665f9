"""The images of conversations, which a tokenizer of a base that reads images knows."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tunesmith.core.ready_rows import ImagePart, Message

if TYPE_CHECKING:  # both take seconds to import, and rows of text are prepared, and shown, without them
    from transformers import PreTrainedTokenizerBase

    from tunesmith.models.images.row_images import RowImages


SHOWN = "[image]"
"""Stands for an image where a content is shown as text."""


def images(messages: Iterable[Message]) -> list[ImagePart]:
    """The images of a conversation, in the order in which a template writes them."""
    contents = [message["content"] for message in messages if not isinstance(message["content"], str)]
    return [part for content in contents for part in content if part["type"] == "image"]


def shown(message: Message) -> str:
    """The content of a turn as one text, for people."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(f"{SHOWN} " if part["type"] == "image" else part["text"] for part in content).strip()


def give(tokenizer: "PreTrainedTokenizerBase", row_images: "RowImages | None") -> None:
    """Let a tokenizer, and copies of it, read rows with images, if there are any."""
    holder: Any = tokenizer
    holder.row_images = row_images


def read_by(tokenizer: "PreTrainedTokenizerBase") -> "RowImages | None":
    """The images that a tokenizer was given; None for a base that reads text alone."""
    return getattr(tokenizer, "row_images", None)


def marked(tokenizer: "PreTrainedTokenizerBase", ids: list[int], messages: Iterable[Message]) -> list[int]:
    """The tokens of a conversation with the ids of its images, where the base reads images."""
    row_images = read_by(tokenizer)
    return ids if row_images is None else row_images.mark(ids, images(messages))
