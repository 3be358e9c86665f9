"""The contents of turns in requests: texts, and images as data URLs."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)

FORMS = ("as text", "as parts")
"""Forms of a content, as the places of problems name them."""
MANY_PARTS = Field(max_length=1024, fail_fast=True)
DATA_URL = re.compile(r"data:image/(png|jpeg|jpg|webp);base64,", re.IGNORECASE)
MAX_FIELDS = 64
"""Most fields of an object on the list."""


class Part(BaseModel):
    """An object on the list of what a request may have, and its fields: no others, of their own types alone."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if len(value) > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields")
        return {key: item for key, item in value.items() if item is not None}


class Text(Part):
    type: Literal["text"]
    text: str


class ImageUrl(Part):
    url: str
    """A data URL of a JPEG, PNG or WebP."""
    detail: Literal["auto", "low", "high"] | None = None
    """Changes nothing: the model's own processor says how large an image is read."""
    _size: tuple[int, int] = PrivateAttr(default=(0, 0))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels, once the image was checked (`tunesmith.serving.gateway.images`)."""
        return self._size

    def put(self, url: str, size: tuple[int, int]) -> None:
        """Exchange the image for its one form."""
        self.url, self._size = url, size

    @field_validator("url")
    @classmethod
    def _holds_an_image(cls, value: str) -> str:
        if not DATA_URL.match(value):
            raise ValueError(
                "send the image itself, as data:image/png;base64,… (or jpeg, webp): nothing is fetched from a network "
                "or read from a disk"
            )
        return value


class Image(Part):
    type: Literal["image_url"]
    image_url: ImageUrl


def _form(content: Any) -> str:
    return "as parts" if isinstance(content, list) else "as text"


def _no_media(part: Any) -> Any:
    """Return a part. Raises ValueError for one that holds audio or video."""
    if isinstance(part, dict) and isinstance(kind := part.get("type"), str) and re.search("audio|video", kind):
        raise ValueError(f"audio and video are not supported ({kind[:64]}): send text, or images as image_url")
    return part


Plain = Annotated[str, Tag("as text")]
Known = Annotated[Annotated[Text | Image, Field(discriminator="type")], BeforeValidator(_no_media)]
Parts = Annotated[list[Known], MANY_PARTS, Tag("as parts")]
Content = Annotated[Plain | Parts, Discriminator(_form)]
"""The content of a turn; a problem of it is named in its own form alone."""
