import base64
import io
from pathlib import Path

import image_files
import numpy as np
import pytest
import tiny_vision
from PIL import Image

from tunesmith.core import layout
from tunesmith.core.ready_rows import ImagePart
from tunesmith.data.images import thumbnails
from tunesmith.data.images.thumbnails import MOST_IN_ROW, Thumbnails


def opened(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


@pytest.mark.parametrize(("size", "shown"), [((640, 320), (96, 48)), ((20, 400), (5, 96)), ((24, 16), (24, 16))])
def test_a_thumbnail_has_the_image_in_few_pixels(tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]) -> None:
    file = image_files.put(tmp_path / "a.png", image_files.encoded(image_files.picture(1, size)))
    small = opened(thumbnails.data_url(file, 96))
    assert small.size == shown
    expected = np.asarray(Image.open(file).resize(shown)).astype(float)
    assert np.abs(np.asarray(small.convert("RGB")).astype(float) - expected).mean() < 12


def test_a_photograph_becomes_a_jpeg_and_a_drawing_a_png(tmp_path: Path) -> None:
    noise = Image.effect_noise((200, 200), 80).convert("RGB")
    photograph = image_files.put(tmp_path / "a.jpg", image_files.encoded(noise, "JPEG"))
    drawing = image_files.put(tmp_path / "b.png", image_files.encoded(Image.new("RGB", (200, 200), "red")))
    assert thumbnails.data_url(photograph, 96).startswith("data:image/jpeg;base64,")
    assert thumbnails.data_url(drawing, 96).startswith("data:image/png;base64,")


def test_a_page_has_as_many_as_fit_and_a_row_only_its_first(tmp_path: Path) -> None:
    images = tiny_vision.draw(tmp_path / layout.IMAGES, ["red", "green", "blue", "gray", "black", "white"])
    made = Thumbnails(96, 10_000)
    first = made.of(images, tmp_path)
    assert len(first) == MOST_IN_ROW
    assert len(Thumbnails(96, len(first[0]) + 5).of(images, tmp_path)) == 1
    gone: ImagePart = {**images[0], "image": "0" * 64}
    assert made.of([gone], tmp_path) == []
