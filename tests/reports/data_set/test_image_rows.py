"""The page of a data set shows images in few bytes, whatever they are, and none where no text of rows is shown."""

import json
from contextlib import ExitStack
from pathlib import Path

import image_files
import numpy as np
import pytest
import tiny_vision
from PIL import Image

from tunesmith.data import prepare, readers
from tunesmith.data.dataset import Dataset
from tunesmith.data.images import store
from tunesmith.models.base import base_tokenizer
from tunesmith.reports.data_set import data_page, data_report, data_rows
from tunesmith.reports.data_set.data_rows import THUMBNAILS, PageRows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    return tiny_vision.fetch("idefics3", folder / "published", folder / "base")


def make(folder: Path, base: Path, images: int, page_rows: int = 10) -> tuple[str, PageRows]:
    """The page of rows with so many photographs each."""
    rows = []
    for number in range(20):
        names = [f"{number}-{place}.jpg" for place in range(images)]
        for name in names:
            pixels = np.random.default_rng(len(rows)).integers(0, 256, (40, 60, 3), dtype=np.uint8)
            photograph = Image.fromarray(pixels).resize((300, 200), Image.Resampling.BICUBIC)
            photograph.putpixel((0, 0), (number, len(name), int(name.split("-")[1][0])))
            image_files.put(folder / "raw" / name, image_files.encoded(photograph, "PNG"))
        rows.append({"images": names, "question": "<image>" * images + f"What is {number}?", "answer": "One."})
    image_files.put(folder / "raw" / "rows.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    dataset = Dataset(path=folder / "raw", files="rows.jsonl", page_rows=page_rows)
    tokenizer = base_tokenizer.open_tokenizer(base)
    lengths = base_tokenizer.lengths(tokenizer, base)
    ready = folder / "ready"
    ready.mkdir()
    with ExitStack() as stack:
        found = readers.find(dataset.path, dataset.files)
        kept = store.new(ready)
        checked = stack.enter_context(
            prepare.check_files(dataset, found, special_tokens=[], lengths=lengths, store=kept)
        )
        selected = prepare.select(checked, dataset)
        written = {
            name: prepare.write(ready / f"{name}.jsonl", checked, positions) for name, positions in selected.items()
        }
        store.keep(ready)
        report = data_report.report("mine", dataset, checked, written, lengths)
        seeing = base_tokenizer.open_tokenizer(base, images=[ready / "images"])
        shown = data_rows.page_rows(dataset, checked, selected, seeing, ready)
    return data_page.page(report, shown), shown


@pytest.mark.parametrize("images", [1, 6])
def test_thumbnails_take_bounded_bytes_and_the_rest_is_counted(tmp_path: Path, base: Path, images: int) -> None:
    page, shown = make(tmp_path, base, images)
    rows = [*shown["examples"], *shown["longest"]]
    assert all(len(row["images"]) + row["more_images"] == images for row in rows)
    assert 0 < sum(len(url) for row in rows for url in row["images"]) <= THUMBNAILS
    assert rows[0]["images"]
    assert len(page.encode()) < 1_000_000
    if images > 4:
        assert f"{rows[0]['more_images']} more images" in page


def test_without_the_text_of_rows_there_are_no_images(tmp_path: Path, base: Path) -> None:
    page, shown = make(tmp_path, base, 1, page_rows=0)
    assert shown["examples"] == shown["longest"] == []
    assert '<img src="data:' not in page
