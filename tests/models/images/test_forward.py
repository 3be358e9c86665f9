"""A model that reads images gets the pixels of each row's images in every way that rows go through it, or an error."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_vision
import torch
from PIL import Image
from tiny_vision import ask, say
from torch import Tensor
from transformers import AutoModelForImageTextToText

from tests.model_kinds import EXACTLY
from tests.profiles import EXACT
from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Message, Row
from tunesmith.models import chat, generation, loading, log_probs
from tunesmith.models.attention.packed_attention import attend_packed, backbone, packed, packs_exactly
from tunesmith.models.attention.shared_prompts import SharedPrompts
from tunesmith.models.images import forward, processor
from tunesmith.models.images.tokens import FIRST_ID
from tunesmith.models.loading import OpenModel

COLORS = ("red", "blue", "green")


@pytest.fixture(scope="module", params=tiny_vision.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(kind)
    tiny_vision.draw(folder / "images", COLORS)
    tiny_vision.draw(folder / "images", COLORS, (64, 32))
    return tiny_vision.fetch(kind, folder / "published", folder / "base")


@pytest.fixture
def model(base: Path) -> OpenModel:
    return loading.open_model(base, base, EXACT, images=[base.parent / "images"])


@pytest.fixture(scope="module")
def prompts(base: Path) -> list[list[Message]]:
    """Prompts with one image, with two of different sizes, with the same twice, and with none."""
    images = base.parent / "images"
    square, wide = tiny_vision.draw(images, COLORS), tiny_vision.draw(images, COLORS, (64, 32))
    text: list[Message] = [{"role": "user", "content": "Hi."}]
    return [ask(square[0]), ask(square[1], wide[2]), ask(wide[0], wide[0]), text, ask(square[2])]


def as_published(base: Path, model: OpenModel, prompt: list[Message], answer: str) -> Tensor:
    """Logits at the tokens of an answer, by transformers' own processor and plain attention, from one row alone."""
    plain = AutoModelForImageTextToText.from_pretrained(base, attn_implementation="eager").eval()
    opened: Any = processor.open_processor(base)
    content: Any = prompt[0]["content"]
    digests = [part["image"] for part in content if part["type"] == "image"] if isinstance(content, list) else []
    images = [Image.open(base.parent / "images" / f"{digest}.png") for digest in digests]
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    text = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
    )
    written = f"{text}{answer}{model.tokenizer.eos_token}"
    made = opened(text=[written], images=[images] if images else None, return_tensors="pt")
    tokens = len(model.tokenizer.encode(f"{answer}{model.tokenizer.eos_token}", add_special_tokens=False))
    with torch.no_grad():
        logits: Tensor = plain(**made).logits[0, -tokens - 1 : -1]
    return logits


def examples(model: OpenModel, prompts: Sequence[list[Message]], answer: str) -> list[tuple[list[int], list[int]]]:
    return [chat.encode_example(model.tokenizer, prompt, say(answer)).split() for prompt in prompts]


@pytest.mark.parametrize("way", ["shared", "packed", "padded"])
def test_rows_with_images_get_what_transformers_gives_each_alone(
    base: Path, model: OpenModel, prompts: list[list[Message]], way: str
) -> None:
    expected = [as_published(base, model, prompt, "red") for prompt in prompts for _ in range(2)]
    if way != "padded":
        assert attend_packed(model.model) is not forward.sees_both_ways(backbone(model.model))
        if way == "packed" and forward.sees_both_ways(backbone(model.model)):
            return  # a mask says what an image's tokens see, which packed rows have none of
    rows = [each for each in examples(model, prompts, "red") for _ in range(2)]  # each twice, which shares its prompt
    if way == "packed":
        both = packed([prompt + answer for prompt, answer in rows])
        with torch.no_grad():
            logits = model.model(**both, use_cache=False).logits[0]
        ends = torch.tensor([len(prompt) + len(answer) for prompt, answer in rows]).cumsum(0).tolist()
        found = [logits[end - 1 - len(rows[0][1]) : end - 1] for end in ends]
    else:
        batch, mask = log_probs.padded([prompt for prompt, _ in rows], 0, left=True)
        answers, answer_mask = log_probs.padded([answer for _, answer in rows], 0, left=False)
        ids, mask = torch.cat([batch, answers], 1), torch.cat([mask, answer_mask], 1)
        called: Any = SharedPrompts(model.model, answers.shape[1]) if way == "shared" else model.model
        if way == "shared":
            assert called.shares(ids, mask) is not forward.sees_both_ways(backbone(model.model))  # whose layers slide
        with torch.no_grad():
            found = [*called(input_ids=ids, attention_mask=mask, logits_to_keep=answers.shape[1] + 1).logits[:, :-1]]
    for each, other in zip(found, expected, strict=True):
        torch.testing.assert_close(each, other, **EXACTLY)


def test_another_image_gives_other_logits_and_another_answer(model: OpenModel, prompts: list[list[Message]]) -> None:
    red, green = (log_probs.likelihoods(model, examples(model, [prompts[at]], "red"), batch_size=1) for at in (0, 4))
    assert abs(red[0].log_prob - green[0].log_prob) > 1e-3


def test_answers_are_the_same_alone_and_together(model: OpenModel, prompts: list[list[Message]]) -> None:
    """Also a text's after an image's, whose positions a model keeps."""
    rows: list[Row] = [{"prompt": prompt} for prompt in [*prompts, prompts[3], prompts[0]]]
    alone = [generation.answer(model.model, model.tokenizer, [row], max_new_tokens=6)[0] for row in rows]
    assert generation.answer(model.model, model.tokenizer, rows, max_new_tokens=6) == alone
    assert len({*alone}) >= 3


def test_generation_has_the_log_probabilities_of_training(model: OpenModel, prompts: list[list[Message]]) -> None:
    tokens = [chat.encode_prompt(model.tokenizer, prompt) for prompt in prompts]
    generated = generation.greedy_log_probs(model.model, model.tokenizer, tokens, max_new_tokens=6)
    pairs = [(prompt, completion) for prompt, (completion, _) in zip(tokens, generated, strict=True)]
    images = forward.seen_by(backbone(model.model))
    assert images is not None
    assert all(images.token not in completion for completion, _ in generated)
    for (_, log_prob), trained in zip(generated, log_probs.likelihoods(model, pairs, batch_size=3), strict=True):
        assert log_prob == pytest.approx(trained.log_prob, abs=0.15)  # generation leaves out the image token, 1 of 300


def test_packed_rows_with_images_do_not_change_each_other(
    kind: str, model: OpenModel, prompts: list[list[Message]]
) -> None:
    assert attend_packed(model.model) == (kind != "gemma3")  # an image's tokens see each other in both directions
    if kind == "gemma3":
        return
    rows = [prompt + answer for prompt, answer in examples(model, prompts, "red")]
    assert packs_exactly(model.model, packed(rows), rows[-1])


def test_tokens_of_an_image_see_what_they_do_as_published(base: Path, model: OpenModel, prompts: list[Any]) -> None:
    """Each token of a row, those of its images included."""
    row = prompts[1]
    ids = torch.tensor([chat.encode_prompt(model.tokenizer, row)])
    images = forward.seen_by(backbone(model.model))
    opened: Any = processor.open_processor(base)
    assert images is not None
    text = model.tokenizer.apply_chat_template(row, tokenize=False, add_generation_prompt=True)
    files = [Image.open(base.parent / "images" / f"{part['image']}.png") for part in row[0]["content"][:2]]
    made = opened(text=[text], images=[files], return_tensors="pt")
    assert torch.equal(ids.masked_fill(ids >= FIRST_ID, images.token), made["input_ids"])
    plain = AutoModelForImageTextToText.from_pretrained(base, attn_implementation="eager").eval()
    with torch.no_grad():
        torch.testing.assert_close(model.model(input_ids=ids).logits, plain(**made).logits, **EXACTLY)


def test_an_image_token_without_pixels_is_an_error(model: OpenModel, prompts: list[list[Message]]) -> None:
    images = forward.seen_by(backbone(model.model))
    assert images is not None
    ids = chat.encode_prompt(model.tokenizer, prompts[0])
    blind = [min(token, images.token) if token >= len(model.tokenizer) else token for token in ids]
    assert images.token in blind
    with pytest.raises(DataError, match="without having seen"):
        log_probs.likelihoods(model, [(blind, [5, 2])], batch_size=1)
    with pytest.raises(DataError, match="without having seen"):
        generation.generate(model.model, [blind], model.tokenizer, max_new_tokens=2, do_sample=False)


def test_a_row_that_was_cut_within_an_image_is_an_error(model: OpenModel, prompts: list[list[Message]]) -> None:
    ids = chat.encode_prompt(model.tokenizer, prompts[0])
    cut = [token for at, token in enumerate(ids) if token < len(model.tokenizer) or ids[at - 1] != token]
    with pytest.raises(DataError, match="was cut"):
        log_probs.likelihoods(model, [(cut, [5, 2])], batch_size=1)


def test_a_model_that_was_not_given_the_images_cannot_read_them(model: OpenModel, base: Path) -> None:
    without = loading.open_model(base, base, replace(EXACT))
    with pytest.raises(DataError, match="no image"):
        chat.encode_prompt(without.tokenizer, ask({"type": "image", "image": "0" * 64, "width": 32, "height": 32}))
