"""Images within turns: marks in their text while a row is built, and parts of their content in a ready row.

The ready row of a record with an image is

    {"id": …,
     "prompt": [{"role": "user", "content": [{"type": "image", "image": "<sha256>", "width": 640, "height": 480},
                                             {"type": "text", "text": "What colour is the car?"}]}],
     "completion": [{"role": "assistant", "content": "Red."}]}

and what reads ready rows may rely on this:

- A content is a text where its turn has no image, and a list of parts where it has. Only users' and tools' turns have
  images, and only in the prompt. No two texts of a list follow each other, and none is empty; the text is that of the
  record, to the letter, without the markers.
- The file of an image is `layout.image(folder, digest)`: data/ready/<dataset>/images/<digest>.png or .jpg, beside the
  rows. The digest is the SHA-256 of its bytes. Every image that a row of any split names is there, and no other.
- It is a PNG or a baseline or progressive JPEG, in RGB with 8 bits, upright, without metadata, not animated, and was
  decoded once to its end. Its width and height are those of the part.
- The images of a row, in the order of `images`, are those that its processor takes, in the same order.
- Tokens of images are counted by `Lengths.image_tokens` from sizes; those of the text by `Lengths.count`.
"""

import re
from collections.abc import Sequence
from typing import cast

from tunesmith.core.ready_rows import PARTS, ImagePart, Message, Row, TextPart, content_text

OPENING, CLOSING = "\ufdd0", "\ufdd1"
"""Noncharacters of Unicode, which no text that is exchanged may have, around the number or the digest of an image."""
MARK = re.compile(f"{OPENING}([^{CLOSING}]*){CLOSING}")


def mark(name: int | str) -> str:
    """Return the mark of an image in a text, by its number in the row or by its digest."""
    return f"{OPENING}{name}{CLOSING}"


def marks(message: Message) -> list[int]:
    """Return the numbers of the images that a turn shows, while its content is a text."""
    content = message["content"]
    return list(map(int, MARK.findall(content))) if isinstance(content, str) and OPENING in content else []


def images(row: Row) -> list[ImagePart]:
    """Return the images of a ready row, in the order of its turns."""
    contents = [turn["content"] for name in PARTS for turn in row.get(name, ()) if not isinstance(turn["content"], str)]
    return [part for content in contents for part in content if part["type"] == "image"]


def key(message: Message) -> str:
    """Return the content of a turn as one text in which each image is the mark of its digest, to compare turns by."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(mark(part["image"]) if part["type"] == "image" else part["text"] for part in content)


def shown(text: str) -> str:
    """Return a text with marks as people may see it."""
    return MARK.sub("<image>", text) if OPENING in text else text


def with_images(row: Row, found: Sequence[ImagePart]) -> Row:
    """Return a row in which the marks of its prompt are the images of their numbers."""
    return {**row, "prompt": [_with_images(turn, found) for turn in row["prompt"]]}


def texts_alone(prompt: list[Message]) -> list[Message]:
    """Return a prompt without its images."""
    if all(isinstance(turn["content"], str) for turn in prompt):
        return prompt
    return [{**turn, "content": content_text(turn)} for turn in prompt]


def _with_images(turn: Message, found: Sequence[ImagePart]) -> Message:
    if not marks(turn):
        return turn
    content: list[TextPart | ImagePart] = []
    for place, text in enumerate(MARK.split(cast("str", turn["content"]))):
        if place % 2:
            content.append(found[int(text)])
        elif text:
            content.append({"type": "text", "text": text})
    return {**turn, "content": content}
