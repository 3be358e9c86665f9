"""What stands for images in a row's text and among its tokens, and what is refused."""

import json
from pathlib import Path

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
from tunesmith.models.images import parts
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
