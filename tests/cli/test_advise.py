import gzip
import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import data_sets as data
import image_files as files
import pytest
import yaml
from click.testing import CliRunner

from tunesmith.cli import advise
from tunesmith.cli.main import main
from tunesmith.core.errors import ParamsError
from tunesmith.data.dataset import Dataset

ROOT = Path(__file__).parents[2]
SUMS = [{"question": f"what is {i} and one", "answer": f"add them\n#### {i + 1}"} for i in range(50)]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "data" / "held_out").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["advise", *arguments])
    return result.output + (str(result.exception) if result.exit_code else "")


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (SUMS, "50 × a prompt with one right answer: SFT, GRPO (verifier number)"),
        (
            [{"question": f"Which, {i}?", "answer": f"The answer is ({'ABC'[i % 3]})."} for i in range(9)],
            "9 × a prompt with one right answer: SFT, GRPO (verifier choice)",
        ),
        (
            [{"question": f"Factor x^2-{i * i}", "answer": rf"$\boxed{{(x-{i})(x+{i})}}$"} for i in range(2, 11)],
            "9 × a prompt with one right answer: SFT, GRPO (verifier math)",
        ),
        ([{"prompt": f"q{i}", "response": "because"} for i in range(9)], "9 × a prompt with one right answer: SFT\n"),
        (
            [{"prompt": f"q{i}", "chosen": "a", "rejected": "b"} for i in range(9)],
            "9 × a prompt with a better and a worse answer: DPO, RLHF (reward model, then RL)",
        ),
        (
            [{"prompt": f"q{i}", "completion": f"a{i}", "label": i < 3} for i in range(9)],
            "9 × a prompt with one answer marked good or bad: KTO (3 good, 6 bad)",
        ),
        (
            [{"prompt": f"q{i}", "response": f"a{i}", "rating": 1 + i % 5} for i in range(9)],
            "9 × a prompt with one rated answer: KTO\n",
        ),
        (
            [{"prompt": f"q{i}", "answer": "3", "verifier": "number"} for i in range(9)],
            "9 × a prompt, its right answer, and the verifier to use: GRPO (verifier number)",
        ),
    ],
)
def test_rows_are_described_in_one_line_with_examples_and_params(
    project: Path, rows: list[dict[str, Any]], line: str
) -> None:
    path = data.write(project / "rows.jsonl", rows)
    shown = run(str(path))
    assert line in shown
    assert len(re.findall(r"^  line \d+: ", shown, re.MULTILINE)) == 3
    block = yaml.safe_load(shown.split("\n\n")[-1])
    assert Dataset.model_validate(block["rows"]).kind in ("answers", "preferences", "marks", "scored")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"prompt": "q1"}, {"prompt": "q2"}], "not ready: a prompt alone: nothing says what a good answer is"),
        ([{"foo": 1}] * 3, "not ready: most of its rows have an unknown layout"),
        (
            [{"prompt": f"q{i}", "instruction_id_list": ["ja:punctuation:no_comma"], "kwargs": [{}]} for i in range(3)],
            "cannot be graded: no rule for the instruction 'ja:punctuation:no_comma'",
        ),
        (["{", "["], "not ready: none of its rows could be read"),
        ([{"text": "Once upon a time."}] * 3, "not ready: a text that does not mark its speakers"),
        ([{"prompt": "", "completion": "a"}] * 3, "not one of 3 rows is good"),
        ([*SUMS, *[{"question": "q", "answer": ""}] * 9], "not ready: 9 of 59 rows are bad, more than 1%"),
        ([*SUMS, *[{"prompt": "q", "chosen": "a", "rejected": "b"}] * 9], "not ready: 9 of 59 rows are bad"),
    ],
)
def test_rows_that_cannot_train_are_reported_with_the_reason(project: Path, rows: list[Any], reason: str) -> None:
    before = (project / "params.yaml").read_text()
    path = data.write(project / "rows.jsonl", rows)
    result = CliRunner().invoke(main, ["advise", str(path), "--write"])
    assert result.exit_code
    assert reason in str(result.exception)
    assert "  fix: " in str(result.exception)
    assert "    path: " not in result.output
    assert (project / "params.yaml").read_text() == before


def test_bad_rows_can_be_set_aside_on_purpose(project: Path) -> None:
    path = data.write(project / "rows.jsonl", [*SUMS, *[{"question": "q", "answer": ""}] * 9])
    entry = yaml.safe_load(run(str(path)).split("add by hand ")[-1].removeprefix("data: "))
    assert Dataset.model_validate(entry["rows"]).max_bad_share == 0.16


def test_rows_to_be_set_aside_are_counted_with_their_first_line(project: Path) -> None:
    path = data.write(project / "rows.jsonl", [*SUMS * 3, {"question": "x", "answer": ""}])
    shown = run(str(path))
    assert "100 × exact duplicate, first in line 51" in shown
    assert "1 × empty completion, first in line 151: 'answer' holds only space" in shown


def test_frequent_duplicates_and_several_answers_count_as_properties_of_the_data(project: Path) -> None:
    polite = " ".join(f"word{number}" for number in range(60))
    sums = [{"question": f"What is {i} + {i} {polite}", "answer": str(2 * i)} for i in range(90)]
    shown = run(str(data.write(project / "rows.jsonl", sums)))
    assert "near_duplicates: null" in shown
    several = [{"prompt": f"q{i % 20}", "completion": f"{i}{'x' * i}"} for i in range(90)]
    assert "one_answer: false" in run(str(data.write(project / "rows.jsonl", several)))


def test_ratings_become_marks_around_the_middle_of_their_scale(project: Path) -> None:
    rows = [{"prompt": f"q{i}", "response": f"a{i}", "rating": 1 + i % 5} for i in range(20)]
    shown = run(str(data.write(project / "rows.jsonl", rows)))
    assert "neutral_rating: 3.0" in shown
    assert "4 × neutral rating" in shown
    assert "answers are rated 1 to 5: above 3, half-way, they are marked good" in shown
    thumbs = [{"prompt": f"q{i}", "response": f"a{i}", "thumbs": "up"} for i in range(20)]
    assert "all answers are marked good, which SFT imitates" in run(str(data.write(project / "rows.jsonl", thumbs)))


def test_unused_columns_are_named(project: Path) -> None:
    rows = [{**row, "source": "school"} for row in SUMS]
    assert "note: not used, with the number of rows: column 'source' (50)" in run(
        str(data.write(project / "rows.jsonl", rows))
    )


@pytest.mark.parametrize("name", ["a.b", "my set", "../evil", "1", "a: b"])
def test_a_name_that_no_stage_can_have_is_refused(project: Path, name: str) -> None:
    shown = run(str(data.write(project / "rows.jsonl", SUMS)), "--write", "--name", name)
    assert "not a name that a stage can have" in shown


def test_an_empty_section_of_data_sets_is_an_error(project: Path) -> None:
    (project / "params.yaml").write_text("data:\n")
    shown = run(str(data.write(project / "rows.jsonl", SUMS)), "--write")
    assert "error: params.yaml: " in shown


def test_params_without_a_section_of_data_sets_get_one(project: Path) -> None:
    (project / "params.yaml").write_text("sft: {} # none yet")
    assert "data.rows added" in run(str(data.write(project / "rows.jsonl", SUMS)), "--write")
    after = (project / "params.yaml").read_text()
    assert after.startswith("sft: {} # none yet\n\ndata:\n  rows:\n")
    assert Dataset.model_validate(yaml.safe_load(after)["data"]["rows"]).verifier == "number"


def test_no_secret_is_shown(project: Path) -> None:
    rows = [{"question": "q", "answer": "AKIAABCDEFGHIJKLMNOP"}, *SUMS]
    shown = run(str(data.write(project / "rows.jsonl", rows)))
    assert "1 × secret, first in line 1: an AWS access key in the completion (AKIA…)" in shown
    assert "ABCDEFGHIJKLMNOP" not in shown


def test_writing_adds_the_block_and_changes_nothing_else(project: Path) -> None:
    before = (project / "params.yaml").read_text()
    (project / "my rows (2).jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in SUMS).encode())
    )
    shown = run(str(project / "my rows (2).jsonl.gz"), "--write")
    assert "data.my_rows_2 added" in shown
    after = (project / "params.yaml").read_text()
    added = yaml.safe_load(after)["data"].pop("my_rows_2")
    assert added["verifier"] == "number"
    assert after.replace(advise.block("my_rows_2", Dataset.model_validate(added)), "") == before


def test_a_name_that_is_taken_is_refused(project: Path) -> None:
    shown = run(str(data.write(project / "demo.jsonl", SUMS)), "--write")
    assert "data.demo is there already" in shown
    assert "data.other added" in run(str(project / "demo.jsonl"), "--write", "--name", "other")


def test_params_that_cannot_be_changed_safely_are_left_alone(project: Path) -> None:
    (project / "params.yaml").write_text("data: {demo: {path: x}}\n")
    with pytest.raises(ParamsError, match="could not be changed"):
        advise.with_entry("new", "  new: {path: y}\n")
    assert (project / "params.yaml").read_text() == "data: {demo: {path: x}}\n"


def test_a_file_is_described_outside_a_project_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "50 × a prompt with one right answer" in run(str(data.write(tmp_path / "rows.jsonl", SUMS)))


@pytest.mark.parametrize(
    "place",
    ["train.jsonl", "2024 data.csv", "a-b.c.parquet", "äöü.json", "*.jsonl", "hub:team/0-sums@main:a/b", "/", "."],
)
def test_any_place_gives_a_name_that_a_stage_can_have(place: str) -> None:
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", advise.dataset_name(place))


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("data/raw/chat-2024.jsonl.gz", "chat_2024"),
        ("data/raw/chat/", "chat"),
        ("data/raw/chat/*.jsonl", "chat"),
        ("data/raw/chat-*.jsonl", "chat"),
        ("hub:team/Sums-2.5@main:default/train", "Sums_2_5"),
    ],
)
def test_a_data_set_is_named_after_its_place(place: str, name: str) -> None:
    assert advise.dataset_name(place) == name


def test_a_folder_or_a_pattern_is_described_and_written_as_dvc_watches_it(project: Path) -> None:
    folder = project / "data/raw/chat"
    folder.mkdir(parents=True)
    data.write(folder / "b.jsonl", SUMS[:20])
    data.write(folder / "a.jsonl", [*SUMS[20:], SUMS[20]])
    (folder / "notes.txt").write_text("no rows")
    shown = run("data/raw/chat", "--write")
    assert "data/raw/chat: 51 rows in 2 files" in shown
    assert "line 1 of a.jsonl: what is 20 and one" in shown
    assert "1 × exact duplicate, first in line 31 of a.jsonl: of line 1 of a.jsonl" in shown
    assert "note: not read: notes.txt" in shown
    assert "data/raw/chat/b*: 20 rows" in run("data/raw/chat/b*", "--write", "--name", "b")
    written = yaml.safe_load((project / "params.yaml").read_text())["data"]
    assert (written["chat"]["path"], written["chat"].get("files")) == ("data/raw/chat", None)
    assert (written["b"]["path"], written["b"]["files"]) == ("data/raw/chat", "b*")


def test_rows_that_name_images_are_prepared_as_their_folder_which_dvc_watches(project: Path) -> None:
    rows = [
        {
            "messages": [*turns("user", f"<image>Colour of car {i}?"), *turns("assistant", "Red.")],
            "images": [f"{i}.jpg"],
        }
        for i in range(9)
    ]
    for i in range(8):
        files.put(project / "data" / "raw" / "cars" / f"{i}.jpg", files.jpeg(i, turned=6 if i == 3 else 1))
    path = data.write(project / "data" / "raw" / "cars" / "rows.jsonl", rows)
    refused = run(str(path))
    assert "line 1: <image>Colour of car 0? → Red." in refused
    assert "1 × image missing, first in line 9: no file '8.jpg' below" in refused
    shown = run(str(data.write(path, rows[:8])), "--write", "--name", "cars")
    assert "note: images: 8 in 8 rows, 24 × 16 pixels" in shown
    assert "note: 1 row: an image turned upright, as its EXIF data says, first in line 4: 3.jpg" in shown
    assert "not read" not in shown
    entry = yaml.safe_load((project / "params.yaml").read_text())["data"]["cars"]
    assert (entry["path"], entry["files"]) == (str(path.parent), "rows.jsonl")


def test_pairs_about_images_train_no_reward_model_and_are_no_reinforcement_file(project: Path) -> None:
    rows = [
        {
            "messages": turns("user", f"Colour of car {i}?"),
            "chosen": "Red.",
            "rejected": f"It may be blue, {i}.",
            "images": [files.url(files.png(i))],
        }
        for i in range(9)
    ]
    shown = run(str(data.write(project / "pairs.jsonl", rows)))
    assert "9 × a prompt with a better and a worse answer: DPO, no RLHF, since reward models read no images" in shown
    assert "note: images: 9 in 9 rows" in shown
    assert "images put before the first question, since no marker says where they are, first in line 1\n" in shown
    assert "this is OpenAI's" not in shown


def cars(folder: Path, *, named: str = "images/{}.jpg", count: int = 8) -> Path:
    """A file of rows beside the folder of their images."""
    for i in range(count):
        files.put(folder / "images" / f"{i}.jpg", files.jpeg(i))
    files.put(folder / "images" / "other.jpg", files.jpeg(99))
    rows = [
        {
            "messages": [*turns("user", f"<image>Colour of car {i}?"), *turns("assistant", "Red.")],
            "images": [named.format(i)],
        }
        for i in range(count)
    ]
    return data.write(folder / "rows.jsonl", rows)


@pytest.mark.parametrize("named", ["images/{}.jpg", "{folder}/images/{{}}.jpg", "file://{folder}/images/{{}}.jpg"])
def test_rows_and_images_where_stages_write_are_copied_to_where_dvc_can_watch_them(project: Path, named: str) -> None:
    path = cars(Path("data"), named=named.format(folder=project / "data") if "{folder}" in named else named)
    shown = run(str(path), "--write", "--name", "cars")
    assert "stages write into data, so --write copies the rows and their images to data/raw/cars" in shown
    assert "not read" not in shown
    entry = yaml.safe_load((project / "params.yaml").read_text())["data"]["cars"]
    dataset = Dataset.model_validate(entry)
    assert (dataset.path, dataset.files) == (Path("data/raw/cars"), None)
    assert sorted(file.name for file in Path("data/raw/cars/images").iterdir()) == [f"{i}.jpg" for i in range(8)]
    with ExitStack() as stack:
        assert len(data.check(stack, dataset).index) == 8


def test_absolute_paths_of_images_are_read_in_another_clone_too(project: Path) -> None:
    path = cars(project / "data" / "raw" / "cars", named=f"{project}/data/raw/cars/images/{{}}.jpg")
    run(str(path), "--write", "--name", "cars")
    entry = yaml.safe_load((project / "params.yaml").read_text())["data"]["cars"]
    assert entry["images"] == {"prefixes": [f"{project}/data/raw/cars/"]}


def test_images_that_were_downloaded_stand_for_their_addresses(project: Path) -> None:
    folder = project / "data" / "raw" / "cars"
    path = cars(folder, named="https://example.org/images/{}.jpg?size=large")
    assert "rows.jsonl:1: remote image: https://example.org/images/0.jpg?size=large: nothing is downloaded" in run(
        str(path)
    )
    for i in range(8):  # as wget --force-directories writes them
        files.put(folder / "example.org" / "images" / f"{i}.jpg?size=large", files.jpeg(i))
    assert "note: images: 8 in 8 rows" in run(str(path), "--write", "--name", "cars")
    entry = yaml.safe_load((project / "params.yaml").read_text())["data"]["cars"]
    assert entry["images"] == {"prefixes": ["https://", "http://"]}


def test_a_folder_that_stages_write_into_is_no_data_set(project: Path) -> None:
    cars(Path("data"))
    assert "data: stages write into this folder" in run("data")
    assert "fix: name the file of rows in it" in run("data")


def turns(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]
