"""The images of requests: within the bounds of ready rows, and in their one form, which the evaluation saw too."""

import base64

from tunesmith.data.images.settings import Images
from tunesmith.data.records import RowError
from tunesmith.serving.gateway.contents import ImageUrl
from tunesmith.serving.gateway.requests import Chat, RequestError

LIMITS = Images()
"""Bounds of a request: its images, and pixels of all of them together."""


def check(request: Chat, name: str, *, seeing: bool) -> None:
    """Put every image of a request into its one form, and note its size. Raises RequestError.

    name: of the served version. seeing: whether it reads images. Headers decide before anything is decoded.
    """
    found = request.images()
    if not found:
        return
    if not seeing:
        raise RequestError(f"messages: {name} reads text alone, and the request has an image")
    if len(found) > LIMITS.max_per_row:
        raise RequestError(f"messages: {len(found)} images, where {LIMITS.max_per_row} are read")
    left = LIMITS.max_pixels
    for place, image in found:
        try:
            left -= _normalise(image, left)
        except RowError as error:
            raise RequestError(f"{place}: {error}") from None


def _normalise(image: ImageUrl, left: int) -> int:
    """Exchange an image for its one form; return its pixels. left: the most that it may have. Raises RowError."""
    from tunesmith.data.images import normal, sources  # with Pillow, which only models that read images need

    content = sources.content(image.url)
    assert content is not None, "the request was checked to have a data URL"
    made = normal.normal(content, LIMITS.model_copy(update={"max_pixels": left}))
    kind = "jpeg" if made.suffix == ".jpg" else "png"
    size = made.part["width"], made.part["height"]
    image.put(f"data:image/{kind};base64,{base64.b64encode(made.content).decode()}", size)
    return size[0] * size[1]
