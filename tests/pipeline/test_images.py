"""The stages that prepare and mix rows with images, on a tiny base with a processor."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import image_files as files
import pytest
import tiny_vision
from PIL import Image

from stages import mix, prepare_data
from tunesmith.core import layout, params, ready_rows
from tunesmith.core.errors import DataError
from tunesmith.data import parallel
from tunesmith.data.images import parts

TOKENS = 4 + 3
"""Those of an image that is one tile, with what stands around it."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    return tiny_vision.fetch("idefics3", folder / "published", folder / "base")


@pytest.fixture
def project(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two folders of rows with images, of which 3 are bad and 10 are in both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "FORKED_FEW", 99)  # the processor is open here already
    layout.MODELS.mkdir()
    layout.HELD_OUT.mkdir(parents=True)
    layout.BASE.symlink_to(base)
    for name, first in (("cars", 0), ("dogs", 50)):
        rows = []
        for number in range(first, first + 60):
            files.put(layout.RAW / name / "images" / f"{number}.jpg", files.jpeg(number))
            rows.append({"image": f"images/{number}.jpg", "question": f"What is {name} {number}?", "answer": "One."})
        rows[5]["image"] = "images/none.jpg"
        (layout.RAW / name / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def prepared(name: str, **changes: Any) -> dict[str, bytes]:
    """The files of a prepared data set, by their names."""
    path = params.resolved("prepare_data", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"path": f"data/raw/{name}", "files": "rows.jsonl", "max_bad_share": 0.05, **changes}
    ready_rows.write_json(path, {"data": {name: settings}})
    print(prepare_data.main(name))
    return contents(layout.READY / name)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def shown(name: str, split: str) -> set[str]:
    rows = ready_rows.read(layout.split(name, split), may_be_empty=True)
    return {part["image"] for row in rows for part in parts.images(row)}


def test_a_folder_of_rows_and_images_is_prepared_whole_and_the_same_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = prepared("cars")
    assert "; 59 images; 1 set aside in data/quarantine/cars.jsonl" in capsys.readouterr().out
    images = {Path(name).stem: content for name, content in written.items() if name.startswith("images/")}
    assert all(hashlib.sha256(content).hexdigest() == digest for digest, content in images.items())
    assert images.keys() == {digest for split in ("train", "validation", "test") for digest in shown("cars", split)}
    row = ready_rows.read(layout.split("cars", "train"))[0]
    assert layout.image(layout.READY / "cars", parts.images(row)[0]["image"]).suffix == ".jpg"
    assert prepared("cars") == written
    report = json.loads((layout.DATA_REPORTS / "cars.json").read_bytes())
    assert (report["good"], report["reasons"]) == (59, {"image missing": 1})
    assert report["notes"][-1] == "Images: 59 in 59 rows, 24 × 16 pixels."
    assert report["tokens"]["prompt"]["min"] > TOKENS
    page = (layout.DATA_REPORTS / "cars.html").read_text()
    assert len(page.encode()) < 1_000_000
    urls = re.findall(r'<img src="data:image/(?:png|jpeg);base64,([^"]+)" alt="image 1">', page)
    assert len(urls) == 15  # ten examples and the five longest rows
    assert all(max(Image.open(io.BytesIO(base64.b64decode(url))).size) <= 96 for url in urls)
    assert page.count("<b>[image]</b>") == 15


def test_a_limit_leaves_the_images_of_other_rows_out(project: Path) -> None:
    written = prepared("cars", limit={"train": 3, "validation": 0, "test": 0})
    assert sum(name.startswith("images/") for name in written) == 3


def test_a_base_of_text_alone_stops_with_the_reason(project: Path, tiny_base: Path) -> None:
    layout.BASE.unlink()
    layout.BASE.symlink_to(tiny_base)
    with pytest.raises(DataError, match=r"image: the base model takes none: its config.json has no vision_config"):
        prepared("cars")
    assert not (layout.READY / "cars").exists()


def test_a_mixture_has_the_images_of_its_rows_and_trains_on_none_that_it_tests_on(project: Path) -> None:
    prepared("cars")
    prepared("dogs")
    path = params.resolved("mix", "both")
    path.parent.mkdir(parents=True, exist_ok=True)
    ready_rows.write_json(path, {"mixtures": {"both": {"datasets": [{"name": "cars"}, {"name": "dogs"}]}}})
    mix.main("both")
    splits = {split: shown("both", split) for split in ("train", "validation", "test")}
    there = {path.stem for path in (layout.READY / "both" / "images").iterdir()}
    assert there == splits["train"] | splits["validation"] | splits["test"]
    assert splits["train"].isdisjoint(splits["validation"] | splits["test"])
