import json
import pickle
from pathlib import Path

import pytest
from PIL import Image
from tiny_model import make_tokenizer
from transformers import Idefics3ImageProcessor, Idefics3Processor, PreTrainedTokenizerFast

from tunesmith.models.base import base_images, base_tokenizer
from tunesmith.models.base.base_images import ImageTokens

SIZES = [(24, 16), (64, 64), (500, 30), (30, 500), (1000, 1000)]
"""Widths and heights."""


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> tuple[Idefics3Processor, Path]:
    """A processor that cuts large images into tiles of 32 pixels, each of four tokens, and its folder."""
    tokenizer = make_tokenizer()
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    around = ["<fake_token_around_image>", "<image>", "<global-img>"]
    tokenizer.add_special_tokens({"extra_special_tokens": [*around, *tiles]})
    images = Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    made = Idefics3Processor(images, tokenizer, image_seq_len=4)
    folder = tmp_path_factory.mktemp("base")
    made.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "idefics3", "vision_config": {}}))
    return made, folder


def test_tokens_of_images_are_those_that_the_processor_writes(processor: tuple[Idefics3Processor, Path]) -> None:
    made, folder = processor
    counter = base_images.counter(folder)
    assert isinstance(counter, ImageTokens)
    counts = counter(SIZES)
    for size, count in zip(SIZES, counts, strict=True):
        written = made(text="<image>", images=[Image.new("RGB", size)], add_special_tokens=False)
        assert count == len(written["input_ids"][0])
    assert len(set(counts)) > 1
    assert pickle.loads(pickle.dumps(counter))(SIZES) == counts


def test_a_base_of_text_alone_takes_no_images_and_says_so(
    processor: tuple[Idefics3Processor, Path], tiny_base: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    lengths = base_tokenizer.lengths(tokenizer, tiny_base)
    assert lengths.image_tokens is None
    assert lengths.no_images == "its config.json has no vision_config: it was trained on text alone"
    (tmp_path / "config.json").write_text((processor[1] / "config.json").read_text())
    assert base_images.counter(tmp_path) == (
        "it has no processor, neither processor_config.json nor preprocessor_config.json"
    )
