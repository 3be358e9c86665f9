import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny_vision
from PIL import Image
from transformers import PreTrainedTokenizerFast

from tunesmith.models.base import base_images, base_tokenizer
from tunesmith.models.base.base_images import ImageTokens
from tunesmith.models.images import processor

SIZES = [(24, 16), (64, 64), (500, 30), (30, 500), (1000, 1000), (64, 64)]
"""Widths and heights."""


@pytest.fixture(scope="module", params=tiny_vision.KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    return tiny_vision.fetch(request.param, folder / "published", folder / "base")


def test_tokens_of_images_are_those_that_the_processor_and_the_template_write(base: Path) -> None:
    tokenizer = base_tokenizer.open_tokenizer(base)
    counter = base_tokenizer.lengths(tokenizer, base).image_tokens
    assert isinstance(counter, ImageTokens)
    counts = counter(SIZES)
    made: Any = processor.open_processor(base)
    for size, count in zip(SIZES, counts, strict=True):
        content = [{"type": "image"}, {"type": "text", "text": "?"}]
        text = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        without = tokenizer.apply_chat_template([{"role": "user", "content": content[1:]}], tokenize=False)
        written = made(text=[text], images=[[Image.new("RGB", size)]], add_special_tokens=False)["input_ids"][0]
        assert count == len(written) - len(tokenizer.encode(without, add_special_tokens=False))
    assert pickle.loads(pickle.dumps(counter))(SIZES) == counts


def test_a_base_of_text_alone_takes_no_images_and_says_so(
    tiny_base: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    lengths = base_tokenizer.lengths(tokenizer, tiny_base)
    assert lengths.image_tokens is None
    assert lengths.no_images == "its config.json has no vision_config: it was trained on text alone"
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": {}}))
    assert base_images.why_none(tmp_path) == (
        "it has no processor, neither processor_config.json nor preprocessor_config.json"
    )
