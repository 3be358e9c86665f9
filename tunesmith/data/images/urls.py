"""Images of ready rows as OpenAI's API takes them: parts of a content with data URLs."""

import base64
from pathlib import Path

from tunesmith.core import layout
from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Message


def openai_content(message: Message, folder: Path) -> str | list[dict[str, object]]:
    """Return the content of a turn with each image as a data URL.

    folder: of the ready rows, with the images beside them. Raises DataError where the file of an image is missing.
    """
    content = message["content"]
    if isinstance(content, str):
        return content
    return [
        {"type": "image_url", "image_url": {"url": data_url(layout.image(folder, part["image"]))}}
        if part["type"] == "image"
        else dict(part)
        for part in content
    ]


def data_url(file: Path) -> str:
    """Return an image as a data URL. Raises DataError where there is no such file."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{file}: no such image", fix="`dvc checkout` brings back what a stage wrote") from None
    kind = "jpeg" if file.suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
