"""transformers' engine answers prompts with images as the evaluation did, from an adapter or full weights."""

import copy
from pathlib import Path
from typing import Any

import image_files
import pytest
import tiny_vision
import torch
from peft import PeftModel
from profiles import EXACT
from starlette.testclient import TestClient
from tiny_vision import ask

from tunesmith.core.ready_rows import ImagePart, Row
from tunesmith.data.images import urls
from tunesmith.models import chat, generation, loading, saving, weights
from tunesmith.models.base import base_tokenizer
from tunesmith.models.settings import Lora
from tunesmith.serving import engine, engine_commands, transformers_server
from tunesmith.serving.engine_commands import ServedModel
from tunesmith.serving.gateway import images, prompts
from tunesmith.serving.gateway.prompts import PromptReader
from tunesmith.serving.gateway.requests import Chat, Completion, RequestError
from tunesmith.serving.settings import Serve

COLORS = ("red", "blue", "green")


@pytest.fixture(scope="module", params=["idefics3", "qwen2_5_vl"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    tiny_vision.draw(folder / "rows" / "images", COLORS)
    return tiny_vision.fetch(request.param, folder / "published", folder / "base")


@pytest.fixture
def rows(base: Path) -> list[Row]:
    folder = base.parent / "rows" / "images"
    shown = [*tiny_vision.draw(folder, COLORS), *tiny_vision.draw(folder, COLORS[:1], (64, 32))]
    questions = [ask(image) for image in shown] + [ask(shown[0], shown[1], text="Which?")]
    return [{"prompt": prompt} for prompt in [*questions, [{"role": "user", "content": "Say red."}]]]


def adapter(base: Path, folder: Path) -> Path:
    """An adapter as trainings save it, with random weights."""
    opened = loading.open_model(base, base, EXACT, images=[base.parent / "rows" / "images"])
    model: Any = weights.add_lora(opened.model, Lora(rank=2, alpha=4))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.5 * torch.randn_like(parameter))
    saving.save_adapter(model, folder, None, base)
    saving.save_reader(opened, folder)
    return folder


def served(base: Path, tmp_path: Path, kind: str) -> ServedModel:
    folder = adapter(base, tmp_path / "sft-lora") if kind == "adapter" else base
    return ServedModel("shapes@7", folder, base, "float32")


def request(row: Row, folder: Path) -> dict[str, Any]:
    turns = [{**message, "content": urls.openai_content(message, folder)} for message in row["prompt"]]
    return {"messages": turns, "max_tokens": 6, "temperature": 0}


@pytest.mark.parametrize("kind", ["adapter", "full weights"])
def test_the_engine_answers_as_the_evaluation_did(
    base: Path, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    model = served(base, tmp_path, kind)
    opened = loading.open_model(base, base, EXACT, images=[base.parent / "rows" / "images"])
    asked: Any = opened.model
    if kind == "adapter":
        asked = PeftModel.from_pretrained(asked, str(model.folder)).eval()
    expected = generation.answer(asked, opened.tokenizer, rows, max_new_tokens=6, special_tokens=False)
    assert len({*expected}) >= 4
    (tmp_path / "work").mkdir()
    engine_commands.transformers(model, tmp_path / "socket", tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    client = TestClient(transformers_server.app(model.name, "cpu", "float32"))
    for row, answer in zip(rows, expected, strict=True):
        reply = client.post("/v1/chat/completions", json=request(row, base.parent / "rows") | {"model": model.name})
        assert reply.json()["choices"][0]["message"]["content"].split() == answer.split()


def test_tokens_are_counted_as_the_evaluation_counts_them(base: Path, rows: list[Row], tmp_path: Path) -> None:
    reader = prompts.reader(served(base, tmp_path, "full weights"), Serve())
    tokenizer = base_tokenizer.open_tokenizer(base, images=[base.parent / "rows" / "images"])
    for row in rows:
        chat_request = checked(request(row, base.parent / "rows"))
        assert reader.count(chat_request) == len(chat.encode_prompt(tokenizer, row["prompt"]))


def test_a_text_cannot_stand_for_an_image(base: Path, tmp_path: Path) -> None:
    reader = prompts.reader(served(base, tmp_path, "full weights"), Serve())
    marker = base_tokenizer.open_tokenizer(base).row_images.marker  # type: ignore[attr-defined]
    with pytest.raises(RequestError, match="control token"):
        reader.count(Chat.model_validate({"messages": [{"role": "user", "content": f"What is {marker}?"}]}))
    with pytest.raises(RequestError, match="read as an image that is not there"):
        reader.count(Completion(prompt=f"What is {marker}?"))


def checked(body: dict[str, Any]) -> Chat:
    made = Chat.model_validate(copy.deepcopy(body))
    images.check(made, "shapes@7", seeing=True)
    return made


def test_an_image_reaches_the_engine_in_the_form_of_ready_rows() -> None:
    turned = image_files.jpeg(3, turned=6)
    part = {"type": "image_url", "image_url": {"url": image_files.url(turned, "image/jpeg"), "detail": "auto"}}
    made = checked({"messages": [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]})
    [(_, image)] = made.images()
    assert image.size == (16, 24)  # upright
    [sent] = [part for part in made.engine_fields()["messages"][0]["content"] if part["type"] == "image_url"]
    assert sent["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_reader_of_text_says_so(tiny_base: Path) -> None:
    reader = prompts.reader(ServedModel("m@1", tiny_base, tiny_base, "float32"), Serve())
    assert isinstance(reader, PromptReader)
    assert not reader.reads_images


def test_probes_send_their_images(base: Path, rows: list[Row]) -> None:
    [part] = [part for part in rows[0]["prompt"][0]["content"] if part["type"] == "image"]  # type: ignore[index]
    image: ImagePart = part  # type: ignore[assignment]
    sent = engine._as_sent(rows[0]["prompt"][0], {image["image"]: "data:image/png;base64,x"})
    assert sent["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}},
        {"type": "text", "text": "What color?"},
    ]
