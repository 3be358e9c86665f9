"""The whole pipeline for a base that reads images, on a tiny model: from files of images to a registered version."""

import json
import re
from pathlib import Path
from typing import Any

import image_files
import pytest
import tiny_vision
import warm_python
import yaml
from PIL import Image
from pipeline_project import ONE, Project

from tunesmith.core import layout, ready_rows

COLORS = ("red", "green", "blue", "yellow", "black", "white")
SHAPES = ONE["data"]["demo"] | {"path": "data/raw/shapes", "files": "rows.jsonl"}
ENTRY = ONE["sft"]["tuned"] | {"dataset": "shapes", "epochs": 8, "max_length": 160}
PARAMS: dict[str, Any] = ONE | {
    "data": {"demo": ONE["data"]["demo"], "shapes": SHAPES},
    "sft": {"tuned": ENTRY},
    "evaluate": {
        "suites": {
            "shapes": {"dataset": "shapes", "verifier": "exact", "max_new_tokens": 4},
            "likelihood": {"kind": "perplexity", "dataset": "shapes"},
            "arithmetic": ONE["evaluate"]["suites"]["arithmetic"],
        },
        "noise_batch_size": 5,
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("seeing")
    base = tiny_vision.write("idefics3", folder / "published")
    (folder / "project").mkdir()
    project = Project(folder / "project", base, PARAMS, warm_python.folder())
    raw, rows = project.folder / "data/raw/shapes", []
    for number in range(60):
        color = COLORS[number % len(COLORS)]
        image = Image.new("RGB", (32, 32), color)
        image.putpixel((number % 32, number // 32), (number, 0, 0))  # so that no two are the same
        image_files.put(raw / "images" / f"{number}.png", image_files.encoded(image))
        rows.append({"image": f"images/{number}.png", "question": f"Which color, {number}?", "answer": color})
    (raw / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project.run("dvc", "repro")
    return project


def test_it_ends_in_a_registered_model_with_its_processor(project: Project) -> None:
    record = project.read("reports/registered/tuned/registration.json")
    assert (record["version"], record["model"]) == ("1", "tuned")
    [loaded] = project.folder.glob("mlartifacts/**/components/processor/processor_config.json")
    assert loaded.parent.parent.parent.joinpath("model/processor_config.json").exists()
    card = (project.folder / "models/tuned/README.md").read_text()
    assert "A language model that reads images: sft" in card
    assert "AutoModelForImageTextToText" in card
    inputs = project.read("models/tuned/lineage.json")["inputs"]
    assert inputs["data/ready/shapes/train.jsonl"]["images"] == inputs["data/ready/shapes/train.jsonl"]["rows"]


def test_probes_of_the_version_show_images(project: Project) -> None:
    [path] = project.folder.glob("mlartifacts/**/probes.json")
    probes = json.loads(path.read_text())
    seen = [probe for probe in probes["probes"] if probe["suite"] == "shapes"]
    assert seen
    assert {
        part["image"] for probe in seen for part in probe["prompt"][0]["content"] if part["type"] == "image"
    } == set(probes["images"])


def test_pages_show_the_images(project: Project) -> None:
    data = (project.folder / "reports/data/shapes.html").read_text()
    assert data.count('<img src="data:image/') >= 10
    samples = (project.folder / "reports/evaluation/tuned/samples.jsonl").read_text()
    rows = ready_rows.read(project.folder / layout.split("shapes", "test"))
    assert samples.count('"type":"image"') == 2 * len(rows)  # in two suites


def test_stages_read_what_they_declare_and_the_images_of_rows_that_they_declare(project: Project) -> None:
    opened: dict[str, set[str]] = {}
    for line in project.audit.read_text().splitlines():
        stage, path = line.split("\t")
        if stage and re.match(r"data/ready/\w+/images/", path):  # DVC itself reads what it records
            opened.setdefault(stage, set()).add(str(Path(path).parent))
    deps = {
        stage: {part["path"] for part in entry.get("deps", [])}
        for stage, entry in yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"].items()
    }
    images = str(layout.images("shapes"))
    assert {stage for stage, folders in opened.items() if folders == {images}} == opened.keys()
    assert {"train_sft@tuned", "evaluate", "compare", "register"} <= opened.keys()
    for stage in opened.keys() - {"prepare_data@shapes"}:
        assert {"data/ready", "data/ready/shapes/train.jsonl"} & deps[stage], stage


def test_running_again_does_nothing_and_another_image_trains_again(project: Project) -> None:
    assert project.repro() == set()
    rows = [json.loads(line) for line in (project.folder / "data/ready/shapes/train.jsonl").read_text().splitlines()]
    number = re.findall(r"\d+", rows[0]["prompt"][0]["content"][-1]["text"])[0]
    image_files.put(
        project.folder / f"data/raw/shapes/images/{number}.png", image_files.encoded(image_files.picture(99))
    )
    assert {"prepare_data@shapes", "train_sft@tuned", "evaluate"} <= project.repro()
