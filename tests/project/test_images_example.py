"""examples/images: its model answers texts as the text model does, its pictures are all kept, and its params hold."""

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    LlamaConfig,
    LlamaForCausalLM,
)

from tunesmith.core import manifest, ready_rows
from tunesmith.data import prepare, readers
from tunesmith.data.dataset import Dataset
from tunesmith.data.images import parts
from tunesmith.models.base import base_tokenizer
from tunesmith.project import checks, document

EXAMPLE = Path(__file__).parents[2] / "examples" / "images"
COMPOSE: Callable[..., str] = runpy.run_path(str(EXAMPLE / "compose.py"))["compose"]
WRITE: Callable[..., None] = runpy.run_path(str(EXAMPLE / "shapes.py"))["write"]


@pytest.fixture(scope="module")
def text(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model that writes by the embedding that it reads by, as SmolLM2 does."""
    folder = tmp_path_factory.mktemp("text") / "base"
    shutil.copytree(tiny_folder, folder)
    tied = LlamaConfig.from_pretrained(tiny_folder, tie_word_embeddings=True)
    torch.manual_seed(0)
    LlamaForCausalLM(tied).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def composed(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("composed") / "base"
    assert COMPOSE(text, folder) == manifest.folder_digest(folder)
    manifest.write(folder)
    return folder


def test_the_composed_model_answers_texts_as_the_text_model_does(text: Path, composed: Path) -> None:
    written = AutoModelForCausalLM.from_pretrained(text)
    seeing = AutoModelForImageTextToText.from_pretrained(composed)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before, after = written(ids).logits, seeing(input_ids=ids).logits
    assert after.shape[-1] > before.shape[-1]  # the tokens of images
    torch.testing.assert_close(after[..., : before.shape[-1]], before)


def test_a_picture_is_four_tokens_that_the_model_takes(composed: Path) -> None:
    processor = AutoProcessor.from_pretrained(composed)
    inputs = processor(text=["<image>?"], images=[[Image.new("RGB", (64, 64), "red")]], return_tensors="pt")
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert (inputs["input_ids"] == image).sum() == 4
    with torch.no_grad():
        assert torch.isfinite(AutoModelForImageTextToText.from_pretrained(composed)(**inputs).logits).all()


def rows(folder: Path, composed: Path) -> list[Any]:
    dataset = Dataset(path=folder, files="rows.jsonl", verifier="exact")
    tokenizer = base_tokenizer.open_tokenizer(composed)
    with prepare.check_files(
        dataset,
        readers.find(dataset.path, dataset.files),
        special_tokens=[],
        lengths=base_tokenizer.lengths(tokenizer, composed),
    ) as checked:
        assert checked.problems == []
        return [checked.row(position) for position in range(len(checked.index))]


def test_all_pictures_are_good_rows_and_shuffled_ones_have_other_answers(composed: Path, tmp_path: Path) -> None:
    WRITE(tmp_path / "own", 40)
    WRITE(tmp_path / "other", 40, shuffled=True)
    own, other = (rows(tmp_path / name, composed) for name in ("own", "other"))
    assert len(own) == len(other) == 40

    def answers(made: list[Any]) -> dict[str, str]:
        return {parts.images(row)[0]["image"]: ready_rows.answer_text(row["completion"][0]) for row in made}

    first, second = answers(own), answers(other)
    assert first.keys() == second.keys()
    assert sum(first[digest] != second[digest] for digest in first) > 30
    assert sorted(first.values()) == sorted(second.values())


def test_the_params_are_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    WRITE(Path("data/raw/shapes"), 2)
    WRITE(Path("data/raw/exchanged"), 2, seed=21, shuffled=True)
    Path("data/held_out").mkdir()
    Path("data/demo_chat.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    params = yaml.safe_load((EXAMPLE / "params.yaml").read_text())
    params["base_model"]["sha256"] = "0" * 64
    Path("params.yaml").write_text(yaml.safe_dump(params))
    checks.check(document.load(Path("params.yaml")))
