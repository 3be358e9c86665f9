"""Rows with images as people have them, each read as the ready row that it means."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import data_sets as data
import image_files as files
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import DataError
from tunesmith.data.images import parts
from tunesmith.data.images.normal import normal
from tunesmith.data.images.settings import Images
from tunesmith.data.prepare import CheckedRows

ONE, TWO = (normal(files.png(seed), Images()).part for seed in (1, 2))
URL = files.url(files.png(1))
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=20)
ANSWER = [{"role": "assistant", "content": "Red."}]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def folder(tmp_path: Path, rows: list[dict[str, Any]], *, name: str = "rows.jsonl") -> Path:
    """A folder with a file of rows, and the images a/1.png and a/2.png."""
    for seed in (1, 2):
        files.put(tmp_path / "data" / "a" / f"{seed}.png", files.png(seed))
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / name)
    else:
        text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "data" / name).write_text(text)
    return tmp_path / "data"


def check(stack: ExitStack, path: Path, **changes: Any) -> CheckedRows:
    nothing = {"path": path / "none", "overlap": 1}
    (path / "none").mkdir(exist_ok=True)
    return data.check(stack, data.dataset(path, files="rows.*", held_out=nothing, kind=None, **changes))


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def user(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def chat(content: Any, answer: Any = "Red.") -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]


def sharegpt(question: str) -> list[dict[str, Any]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": "Red."}]


ASKED = [user(ONE, text("What colour?"))]
PARTS = [{"type": "image"}, text("What colour?")]
FORMS: dict[str, dict[str, Any]] = {
    "LLaMA-Factory": {"messages": chat("<image>What colour?"), "images": ["a/1.png"]},
    "LLaMA-Factory, Alpaca": {"instruction": "<image>What colour?", "input": "", "output": "Red.",
                              "images": ["a/1.png"]},
    "LLaMA-Factory, ShareGPT": {"conversations": sharegpt("<image>What colour?"), "images": ["a/1.png"]},
    "LLaVA": {"id": "1", "image": "a/1.png", "conversations": sharegpt("<image>What colour?")},
    "OpenAI, data": {"messages": chat([{"type": "image_url", "image_url": {"url": URL, "detail": "low"}}, PARTS[1]])},
    "OpenAI, file": {"messages": chat([{"type": "image_url", "image_url": {"url": "file:a/1.png"}}, PARTS[1]])},
    "OpenAI's responses": {"messages": chat([{"type": "input_image", "image_url": URL},
                                             {"type": "input_text", "text": "What colour?"}])},
    "Anthropic": {"messages": chat([{"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                                                 "data": URL.partition(",")[2]}}, PARTS[1]])},
    "Gemini": {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png",
                                                                       "data": URL.partition(",")[2]}},
                                                       {"text": "What colour?"}]},
                            {"role": "model", "parts": [{"text": "Red."}]}]},
    "Hugging Face": {"messages": chat(PARTS), "images": ["a/1.png"]},
    "Hugging Face, by index": {"messages": chat([{"type": "image", "index": 0, "text": None},
                                                 {"type": "text", "index": None, "text": "What colour?"}]),
                               "images": ["a/1.png"]},
    "Hugging Face, path within": {"messages": chat([{"type": "image", "image": "a/1.png"}, PARTS[1]])},
    "Hugging Face, prompt": {"prompt": chat(PARTS)[:1], "completion": chat(PARTS)[1:], "images": ["a/1.png"]},
    "column alone": {"question": "What colour?", "answer": "Red.", "image": "a/1.png"},
    "base64 in a column": {"question": "What colour?", "answer": "Red.", "image": URL.partition(",")[2]},
    "OpenAI's example, images in a turn of their own": {"messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}]}, *chat("What colour?")]},
    "OpenAI's preferences": {"input": {"messages": [user({"type": "image_url", "image_url": {"url": URL}}, PARTS[1])]},
                             "preferred_output": ANSWER, "non_preferred_output": chat("", "Blue.")[1:]},
    "history": {"instruction": "What colour?", "output": "Red.", "history": [], "image_path": "a/1.png"},
    "JSON within text": {"messages": json.dumps(chat("<image>What colour?")), "images": '["a/1.png"]'},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_same_ready_row(tmp_path: Path, stack: ExitStack, form: str) -> None:
    checked = check(stack, folder(tmp_path, [FORMS[form]], name="rows.json"))
    [row] = data.good_rows(checked)
    assert (row["prompt"], row.get("completion", row.get("chosen"))) == (ASKED, ANSWER)
    assert checked.images.lines() == ["images: 1 in 1 rows, 24 × 16 pixels"]
    assert checked.files.ignored == ()


@pytest.mark.parametrize("form", [{"bytes": files.png(1), "path": None}, {"bytes": files.png(1), "path": "x.png"},
                                  {"bytes": None, "path": "a/1.png"}, files.png(1)])  # fmt: skip
@pytest.mark.parametrize("column", ["image", "images"])
def test_images_within_parquet_are_read(tmp_path: Path, stack: ExitStack, form: Any, column: str) -> None:
    row = {"messages": chat(PARTS, [text("Red.")]), column: [form] if column == "images" else form}
    [ready] = data.good_rows(check(stack, folder(tmp_path, [row], name="rows.parquet")))
    assert (ready["prompt"], ready["completion"]) == (ASKED, ANSWER)


def test_a_question_and_its_images_in_turns_of_their_own_are_one_turn(tmp_path: Path, stack: ExitStack) -> None:
    """OpenAI's guide to fine-tuning with images writes them so."""
    show = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]} for url in (URL, URL)]
    row = {"messages": [{"role": "system", "content": "Name it."}, {"role": "user", "content": "What is it?"}, *show,
                        *ANSWER, *show[:1], *chat("And that?")]}  # fmt: skip
    checked = check(stack, folder(tmp_path, [row]))
    [ready] = data.good_rows(checked)
    assert ready["prompt"][1:] == [user(text("What is it?"), ONE, ONE), *ANSWER, user(ONE, text("And that?"))]
    assert list(checked.remarks) == ["a turn of images alone, joined with the user's turn beside it"]
    twice = {"messages": [*chat("One.")[:1], *chat([*PARTS])], "images": ["a/1.png"]}
    [problem] = check(stack, folder(tmp_path, [FORMS["LLaVA"], twice])).problems
    assert problem.reason == "wrong role order: user after user (turn 2)"


def test_several_images_keep_their_places_over_several_turns(tmp_path: Path, stack: ExitStack) -> None:
    first, second = "Compare <image> and <image>.", "And this?\n<image>"
    turns = [*sharegpt(first), *sharegpt(second)]
    row = {"conversations": turns, "images": ["a/1.png", "a/2.png", "a/1.png"]}
    [ready] = data.good_rows(check(stack, folder(tmp_path, [row])))
    assert ready["prompt"] == [
        user(text("Compare "), ONE, text(" and "), TWO, text(".")), *ANSWER, user(text("And this?\n"), ONE),
    ]  # fmt: skip
    assert [part["image"] for part in parts.images(ready)] == [ONE["image"], TWO["image"], ONE["image"]]  # type: ignore[arg-type]


def test_preferences_marks_and_scored_prompts_have_images(tmp_path: Path, stack: ExitStack) -> None:
    rows: list[dict[str, Any]] = [
        {"conversations": sharegpt("<image>What colour?")[:1], "chosen": sharegpt("")[1],
         "rejected": {"from": "gpt", "value": "Blue."}, "images": ["a/1.png"]},
        {"prompt": chat(PARTS)[:1], "chosen": chat(PARTS)[1:], "rejected": chat("", "Blue.")[1:],
         "images": ["a/1.png"]},
        {"chosen": chat(PARTS), "rejected": chat(PARTS, "Blue."), "images": ["a/1.png"]},
        {"prompt": "<image>What colour?", "completion": "Red.", "label": True, "images": ["a/1.png"]},
        {"prompt": "<image>What colour?", "answer": "Red.", "verifier": "exact", "images": ["a/1.png"]},
    ]  # fmt: skip
    for row in rows:
        [ready] = data.good_rows(check(stack, folder(tmp_path, [row])))
        assert ready["prompt"] == ASKED
        assert ready.get("chosen", ready.get("completion", ANSWER)) == ANSWER
    assert (ready["verifier"], ready["reference"]) == ("exact", "Red.")


def test_a_template_of_columns_names_the_column_of_images(tmp_path: Path, stack: ExitStack) -> None:
    row = {"q": "What colour?", "a": "Red.", "photo": "a/1.png"}
    columns = {"prompt": "{{ q }}", "completion": "a", "images": "photo"}
    [ready] = data.good_rows(check(stack, folder(tmp_path, [row]), columns=columns))
    assert (ready["prompt"], ready["completion"]) == (ASKED, ANSWER)


def test_the_shapes_of_public_demos_keep_every_good_row(tmp_path: Path, stack: ExitStack) -> None:
    """LLaMA-Factory's mllm_demo.json with its pairs in ShareGPT, and LLaVA's instructions with rows of text among."""
    turns = [*sharegpt("<image>Who are they?"), *sharegpt("What are they doing?")]
    demo = [{"messages": [*chat(f"<image>Who are they in {i}?"), *chat("And then?")], "images": [f"b/{i}.jpg"]}
            for i in range(6)]  # fmt: skip
    llava = [
        {"id": str(i), "image": f"b/{i}.jpg", "conversations": [*sharegpt(f"Where is {i}?\n<image>"), *turns[2:]]}
        for i in range(6, 12)
    ]
    alone = [{"id": f"t{i}", "conversations": sharegpt(f"What is {i}?")} for i in range(6)]
    for name, rows in (("rows.json", demo), ("rows.json", [*llava, *alone])):
        path = folder(tmp_path, rows, name=name)
        for seed in range(12):
            files.put(path / "b" / f"{seed}.jpg", files.jpeg(seed))
        checked = check(stack, path, max_bad_share=0)
        assert checked.problems == []
        assert len(checked.index) == len(rows)
        assert checked.images.images == 6
        assert not any("<image>" in text for text in map(str, data.good_rows(checked)))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": chat("<image><image>What?"), "images": ["a/1.png"]},
         "images and markers differ: 2 in the text of the prompt, 1 in the row"),
        ({"messages": chat("<image>What?"), "images": ["a/1.png", "a/2.png"]},
         "images and markers differ: 1 in the text of the prompt, 2 in the row"),
        ({"messages": chat("<image>What?"), "images": []},
         "image missing: 1 × <image> in the text, and no image in 'images'"),
        ({"messages": chat(PARTS), "images": None}, "image missing: a turn shows image 1, and the row has 0"),
        ({"messages": chat("What?", [text("Red: "), {"type": "image", "image": "a/1.png"}])},
         "image of the assistant: only turns of users and of tools can show images"),
        ({"messages": [{"role": "system", "content": [{"type": "image", "image": "a/1.png"}]}, *chat("What?")]},
         "image of the system: only turns of users and of tools can show images"),
        ({"messages": chat("What?"), "audios": ["a.wav"]}, "column left out: 'audios' (audio and video are not supp"),
        ({"messages": chat("<video>What?"), "videos": ["a.mp4"]}, "column left out: 'videos' (audio and video are not"),
        ({"question": "What?", "answer": "A.", "video_path": "a.mp4"}, "column left out: 'video_path' (audio and vide"),
        ({"messages": chat([{"type": "input_audio", "input_audio": {}}, text("What?")])},
         "wrong type: turn 1 has a part of type 'input_audio' (audio and video are not supported; write"),
        ({"messages": chat([{"video": "a.mp4"}, text("What?")])},
         "wrong type: turn 1 has a part of the fields 'video' (audio and video are not supported; write"),
        ({"messages": chat([{"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}, text("What?")])},
         "wrong type: turn 1 has a part of the fields 'inlineData' (audio and video are not supported; write"),
        ({"messages": chat([{"type": "image_url", "image_url": {"url": "https://example.org/1.png"}}, text("What?")])},
         "remote image: https://example.org/1.png: nothing is downloaded"),
        ({"messages": chat("\ufdd00\ufdd1<image>What?"), "images": ["a/1.png"]}, "noncharacter: U+FDD0"),
        ({"messages": chat("<image>What?"), "images": ["http://[1"]}, "remote image: http://[1: nothing is downloaded"),
        ({"messages": chat("<image>What?"), "images": [""]}, "image missing: an empty value is in its place"),
        ({"messages": chat("<image>What?"), "images": [{"bytes": None}]}, "image missing: an empty value"),
        ({"messages": chat("<image>What?"), "images": [3]}, "wrong type: an image is int"),
        ({"messages": chat("<image>What?"), "images": [{"crop": [1, 2], "path": "a/1.png"}]}, "field lost: 'crop'"),
        ({"messages": chat("<image>" * 11 + "What?"), "images": ["a/1.png"] * 11}, "too many images: 11"),
    ],
)  # fmt: skip
def test_a_row_whose_images_are_unclear_is_set_aside(
    tmp_path: Path, stack: ExitStack, row: dict[str, Any], reason: str
) -> None:
    checked = check(stack, folder(tmp_path, [FORMS["LLaVA"], row]))
    [problem] = checked.problems
    assert problem.reason.startswith(reason)
    assert problem.line == 2


def test_a_marker_in_a_row_without_images_is_text_and_noted(tmp_path: Path, stack: ExitStack) -> None:
    checked = check(stack, folder(tmp_path, [{"messages": chat("Explain <image> in SVG.")}]))
    [row] = data.good_rows(checked)
    assert row["prompt"][0]["content"] == "Explain <image> in SVG."
    assert list(checked.remarks) == ["<image> as text in the prompt, and no image beside it"]


def test_a_column_that_names_an_image_which_nothing_shows_is_noted(tmp_path: Path, stack: ExitStack) -> None:
    """Such as the file_name of Hugging Face's folders of images, and a column that `columns` leaves out."""
    asked = {"question": "What colour?", "answer": "Red."}
    blind = {"prompt": "question", "completion": "answer"}
    for name, columns in (("file_name", None), ("image", blind), ("photo", blind)):
        path = folder(tmp_path, [asked | {name: "a/1.png"}])
        remark = (
            f"column {name!r} names an image, and the row shows none: name it as `images` in data.<dataset>.columns"
        )
        assert list(check(stack, path, columns=columns).remarks) == [remark]
        assert not check(stack, path, columns=columns, ignore=[name]).remarks
        [ready] = data.good_rows(check(stack, path, columns=blind | {"images": name}))
        assert ready["prompt"] == ASKED
    [remark] = check(stack, folder(tmp_path, [asked | {"file_name": "a.wav"}])).remarks
    assert remark.startswith("column 'file_name' names a file that the row does not show (audio and video are not")


def test_noncharacters_in_a_row_of_text_stay(tmp_path: Path, stack: ExitStack) -> None:
    [row] = data.good_rows(check(stack, folder(tmp_path, [{"messages": chat("\ufdd0x\ufdd1 and \ufdd00\ufdd1?")}])))
    assert row["prompt"][0]["content"] == "\ufdd0x\ufdd1 and \ufdd00\ufdd1?"


def test_images_without_a_marker_come_first_and_are_noted(tmp_path: Path, stack: ExitStack) -> None:
    checked = check(stack, folder(tmp_path, [{"question": "Same?", "answer": "No.", "images": ["a/1.png", "a/2.png"]}]))
    [row] = data.good_rows(checked)
    assert row["prompt"] == [user(ONE, TWO, text("Same?"))]
    assert list(checked.remarks) == ["images put before the first question, since no marker says where they are"]


def test_files_of_images_need_a_folder_that_is_watched(tmp_path: Path, stack: ExitStack) -> None:
    path = folder(tmp_path, [FORMS["LLaVA"]])
    with pytest.raises(DataError, match="image not watched: DVC sees no change of"):
        data.check(stack, data.dataset(path / "rows.jsonl"))
    within = folder(tmp_path, [FORMS["OpenAI, data"]])
    assert len(data.check(stack, data.dataset(within / "rows.jsonl")).index) == 1


SHOWN = 10_000
MANY: dict[str, list[dict[str, Any]]] = {
    "parts": [user(*[{"type": "image", "image": str(place)} for place in range(SHOWN)])],
    "turns": [user({"type": "image", "image": str(place)}) for place in range(SHOWN)],
    "turns of one image": [user(text("What?")), *[user({"type": "image", "image": "1"})] * SHOWN],
}


@pytest.mark.parametrize("name", MANY)
def test_a_row_of_very_many_images_takes_time_in_proportion(name: str) -> None:
    started = time.process_time()
    reading = data.dataset(Path("none"), kind=None).to_row({"messages": [*MANY[name], *ANSWER]})
    assert len(reading.images) == (1 if name == "turns of one image" else SHOWN)
    assert len(reading.row["prompt"]) == 1
    assert time.process_time() - started < 5


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=3))
def test_texts_around_images_stay_to_the_letter(questions: list[list[str]]) -> None:
    asked = ["<image>".join(f"{part}." for part in question) for question in questions]
    turns = [turn for question in asked for turn in chat(question)]
    count = sum(question.count("<image>") for question in asked)
    dataset = data.dataset(Path("none"), kind=None)
    reading = dataset.to_row({"messages": turns, "images": [f"{number}.png" for number in range(count)]})
    shown = [ONE | {"image": str(number)} for number in range(count)]
    row = parts.with_images(reading.row, shown) if count else reading.row  # type: ignore[arg-type]
    assert [part["image"] for part in parts.images(row)] == list(map(str, range(count)))
    contents = [turn["content"] for turn in row["prompt"] if turn["role"] == "user"]
    rejoined = [
        content if isinstance(content, str) else "".join(part.get("text", "<image>") for part in content)
        for content in contents
    ]
    assert rejoined == asked
