"""What stands for images in a row's text and among its tokens, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_vision
from tiny_vision import ask, say
from transformers import PreTrainedTokenizerFast

from tunesmith.core import manifest
from tunesmith.core.errors import BaseModelError, ChatError, DataError, IntegrityError
from tunesmith.core.ready_rows import Message
from tunesmith.models import chat
from tunesmith.models.base import base_model, base_tokenizer
from tunesmith.models.base_sources import Folder
from tunesmith.models.images import parts, processor
from tunesmith.models.images.row_images import RowImages
from tunesmith.models.images.tokens import FIRST_ID


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("idefics3")
    tiny_vision.draw(folder / "images", ["red", "blue"])
    return tiny_vision.fetch("idefics3", folder / "published", folder / "base")


@pytest.fixture
def reader(base: Path) -> PreTrainedTokenizerFast:
    tokenizer: PreTrainedTokenizerFast = base_tokenizer.open_tokenizer(base, images=[base.parent / "images"])
    return tokenizer


def test_every_image_has_ids_of_its_own(base: Path, reader: PreTrainedTokenizerFast) -> None:
    red, blue = tiny_vision.draw(base.parent / "images", ["red", "blue"])
    one, other, both = (chat.encode_prompt(reader, ask(*images)) for images in ([red], [blue], [red, blue, red]))
    assert [token for token in one if token < FIRST_ID] == [token for token in other if token < FIRST_ID]
    [of_red], [of_blue] = ({token for token in ids if token >= FIRST_ID} for ids in (one, other))
    images = parts.read_by(reader)
    assert images is not None
    assert of_red != of_blue
    assert [token for token in both if token >= FIRST_ID] == [of_red] * 4 + [of_blue] * 4 + [of_red] * 4
    assert images.order([of_red] * 4 + [of_blue] * 4) == [red["image"], blue["image"]]


def test_earlier_turns_train_after_their_own_images(base: Path, reader: PreTrainedTokenizerFast) -> None:
    red, blue = tiny_vision.draw(base.parent / "images", ["red", "blue"])
    messages = [*ask(red), *say("red"), *ask(blue)]
    [example] = chat.encode_examples(reader, messages, say("blue"), turns="all")
    trained = [token for token, counts in zip(example.input_ids, example.completion_mask, strict=True) if counts]
    assert reader.decode(trained) == f"red{reader.eos_token}blue{reader.eos_token}"
    assert len({token for token in example.input_ids if token >= FIRST_ID}) == 2


def test_a_text_with_the_marker_of_images_is_refused(base: Path, reader: PreTrainedTokenizerFast) -> None:
    [red] = tiny_vision.draw(base.parent / "images", ["red"])
    for prompt in (ask(red, text="What is <image>?"), [Message(role="user", content="What is <image>?")]):
        with pytest.raises(ChatError, match="take '<image>' out of the texts"):
            chat.encode_prompt(reader, prompt)
    with pytest.raises(ChatError, match="take '<image>' out of the texts"):
        chat.encode_example(reader, ask(red), say("<image>"))


def test_a_base_of_text_refuses_rows_with_images(tokenizer: PreTrainedTokenizerFast, base: Path) -> None:
    [red] = tiny_vision.draw(base.parent / "images", ["red"])
    with pytest.raises(ChatError, match="reads text alone"):
        chat.encode_prompt(tokenizer, ask(red))


def test_a_base_that_sees_is_refused_without_a_processor(tmp_path: Path) -> None:
    folder = tiny_vision.write("idefics3", tmp_path / "published")
    (folder / "processor_config.json").unlink()
    source = Folder(kind="folder", path=folder, sha256=manifest.folder_digest(folder), chat_template=None)
    with pytest.raises(BaseModelError, match="has no processor"):
        base_model.fetch(source, tmp_path / "base")


class Wrapped:
    """A processor whose placeholder of an image is changed by ``write``, from the number of images and itself."""

    def __init__(self, own: Any, write: Callable[[int, str], str], around: str = "") -> None:
        self.own, self.write, self.around = own, write, around
        self.tokenizer, self.image_token = own.tokenizer, own.image_token

    def __call__(self, *, text: list[str], images: list[list[Any]], **settings: Any) -> Any:
        made = self.own(text=text, images=images, **settings)
        [replaced] = made["text_replacement_offsets"]
        texts = [self.write(len(replaced), each["replacement"]) for each in replaced]
        row = self.around + "?".join(texts)
        return {
            "text_replacement_offsets": [[{"replacement": each} for each in texts]],
            "input_ids": [self.tokenizer.encode(row, add_special_tokens=False)],
        }


@pytest.mark.parametrize(
    ("wrapped", "reason"),
    [
        (lambda own: Wrapped(own, lambda images, text: text * images), "in a way of its own"),  # as LLaVA-OneVision
        (lambda own: Wrapped(own, lambda images, text: text, "\n"), "in a way of its own"),  # as PaliGemma
        (lambda own: Wrapped(own, lambda images, text: "x"), "no image as the token"),
        (lambda own: own.tokenizer, "does not say what it writes"),  # as Mllama and Idefics2
    ],
)
def test_a_processor_that_writes_images_in_another_way_is_refused(
    base: Path, wrapped: Callable[[Any], Any], reason: str
) -> None:
    own = processor.open_processor(base)
    processor.check(own, base)
    with pytest.raises(BaseModelError, match=reason):
        processor.check(wrapped(own), base)


def test_a_config_that_names_no_token_of_images_is_refused(base: Path) -> None:
    own = processor.open_processor(base)
    for config in ({}, {"image_token_id": 10**6}):
        with pytest.raises(BaseModelError, match="names no token for images"):
            processor.image_token(own, config)


def test_the_template_of_a_processor_does_not_stand_beside_the_base(tmp_path: Path) -> None:
    folder = tiny_vision.write("idefics3", tmp_path / "published")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    source = Folder(kind="folder", path=folder, sha256=manifest.folder_digest(folder), chat_template=None)
    base_model.fetch(source, tmp_path / "base")
    assert template in (tmp_path / "base" / "chat_template.jinja").read_text()
    assert "chat_template" not in json.loads((tmp_path / "base" / "processor_config.json").read_text())


def test_an_image_that_was_changed_or_is_of_another_size_is_an_error(base: Path, tmp_path: Path) -> None:
    [red] = tiny_vision.draw(tmp_path, ["red"])
    images = RowImages(base, [tmp_path])
    images.mark([images.token] * 8, [red, red])
    file = tmp_path / f"{red['image']}.png"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match="bytes differ from its name"):
        images.pixels([red["image"]])
    [red] = tiny_vision.draw(tmp_path, ["red"])
    images.mark([images.token] * 4, [{**red, "width": 64}])
    with pytest.raises(DataError, match="32 x 32 pixels, and its row says otherwise"):
        images.pixels([red["image"]])
