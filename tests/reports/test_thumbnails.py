import base64
import io
from pathlib import Path

import image_files
import numpy as np
import pytest
import tiny_vision
from PIL import Image
from reports.test_answers import unpacked
from shoot_out import SUITE, evaluated

from tunesmith.core import layout
from tunesmith.core.ready_rows import ImagePart
from tunesmith.evaluation.comparison import Evaluated
from tunesmith.reports import answers, thumbnails
from tunesmith.reports.thumbnails import MOST_IN_ROW, Thumbnails


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


def with_images(folder: Path, count: int) -> Evaluated:
    """Answers to prompts with an image of noise each."""
    model = evaluated("base", ["0"] * count)
    for number, sample in enumerate(model.samples[SUITE]):
        noise = Image.effect_noise((192, 192), 90).convert("RGB")
        name = f"{number:064x}"
        dataset = folder / model.metrics["suites"][SUITE]["dataset"]
        image_files.put(dataset / layout.IMAGES / f"{name}.png", image_files.encoded(noise))
        part: ImagePart = {"type": "image", "image": name, "width": 192, "height": 192}
        sample["row"]["prompt"] = tiny_vision.ask(part, text="What is it?")
    return model


def test_prompts_of_the_comparison_show_their_images_within_the_bounds_of_the_page(tmp_path: Path) -> None:
    model = with_images(tmp_path, 12)
    packed = unpacked(answers.pack([model], ready=tmp_path).chunks[0])
    assert [text["prompt"] for text in packed] == ["[image]What is it?"] * 12
    assert [len(text["images"]) for text in packed] == [1] * 12
    small = answers.pack([model], largest=120_000, ready=tmp_path)
    assert sum(map(len, small.chunks)) <= 120_000
    shown = [len(text["images"]) for text in unpacked(small.chunks[0])]
    assert 0 < sum(shown) < 12
    assert shown == sorted(shown, reverse=True)
