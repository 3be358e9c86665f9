"""Data sets with images as a whole: what is set aside, compared, split and stored."""

import base64
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import data_sets as data
import image_files as files
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.core.ready_rows import Conversation
from tunesmith.data import parallel, prepare
from tunesmith.data.images import store
from tunesmith.data.lengths import Lengths
from tunesmith.data.prepare import CheckedRows


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def row(question: str, *images: str, answer: str = "Red.") -> dict[str, Any]:
    turns = [{"role": "user", "content": "<image>" * len(images) + question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "images": list(images)}


def check(stack: ExitStack, path: Path, rows: list[Any], lengths: Lengths | None = None, **changes: Any) -> CheckedRows:
    path.mkdir(exist_ok=True)
    (path / "none").mkdir(exist_ok=True)
    data.write(path / "rows.jsonl", rows)
    settings = {"files": "rows.jsonl", "held_out": {"path": path / "none", "overlap": 0.7}} | changes
    return data.check(stack, data.dataset(path, **settings), lengths)


def reasons(checked: CheckedRows) -> dict[int, str]:
    return {problem.line: problem.reason for problem in checked.problems}


HOSTILE: list[tuple[str, bytes]] = [
    ("image damaged", files.png(1)[:60]),
    ("image damaged", files.jpeg(1)[:-200]),
    ("image damaged", files.encoded(files.picture(1), "WEBP")[:50]),
    ("image damaged", files.bomb(3000, 3000)),
    ("image damaged", b"\x89PNG\r\n\x1a\n"),
    ("image too large", files.bomb()),
    ("image too large", files.webp_bomb()),
    ("image too large", files.png(1) + bytes(10**6)),
    ("image too large", files.with_segments(files.jpeg(1), *[(0xFE, b"")] * 110_000)),
    ("image of another kind", files.animated("WEBP")),
    ("image of another kind", files.animated("PNG")),
    ("image of another kind", files.encoded(files.picture(1, mode="P"), "GIF")),
    ("image of another kind", files.encoded(files.picture(1), "TIFF")),
    ("image of another kind", files.encoded(files.picture(1), "PDF")),
    ("image of another kind", b"<!DOCTYPE html>"),
    ("image of another kind", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    ("image of another kind", b""),
]
NAMED: list[tuple[str, Any]] = [
    ("image outside the data", "../secret.png"),
    ("image outside the data", "/etc/passwd"),
    ("image outside the data", "file:///dev/zero"),
    ("image outside the data", "link.png"),
    ("image outside the data", "%2e%2e/secret.png"),
    ("image missing", "no.png"),
    ("image missing", "pipe.png"),
    ("image missing", "a\0.png"),
    ("image missing", "IMAGES/1.PNG"),
    ("image missing", ""),
    ("image too large", "endless.png"),
    ("image damaged", "data:image/png;base64,@@@"),
    ("image damaged", files.url(files.png(1)[:60])),
    ("remote image", "https://[bad/1.png"),
    ("wrong type", 7),
]
GOOD = [
    files.encoded(files.picture(1, mode="CMYK"), "JPEG"),
    files.encoded(files.picture(2, mode="RGBA").quantize(8)),
    files.encoded(files.picture(3, mode="LA")),
    files.jpeg(4, turned=6, icc_profile=bytes(3000)),
    files.png(5) + b"PK",
    files.encoded(files.picture(6, mode="1")),
]


def test_of_1000_rows_200_bad_images_are_set_aside_and_800_stay(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "data"
    files.put(tmp_path / "secret.png", files.png(9))
    path.mkdir()
    (path / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(path / "pipe.png")
    with (path / "endless.png").open("wb") as file:
        file.truncate(10**12)
    rows, expected = [], {}
    for i in range(1000):
        name: Any = f"images/ä {i}.jpg"
        if i % 5:
            content = files.jpeg(i) if i % 2 else files.png(i)
            files.put(path / name, GOOD[i % len(GOOD)] if i < 20 else content)
        elif i % 10 == 0:
            expected[i + 1], name = NAMED[i // 10 % len(NAMED)]
        else:
            expected[i + 1], content = HOSTILE[i // 10 % len(HOSTILE)]
            files.put(path / name, content)
        rows.append(row(f"What is in {i}?", f"file:{quote(name)}" if i % 3 == 1 and i % 5 else name))
    started = time.process_time()
    checked = check(stack, path, rows, images={"max_bytes": 500_000})
    assert {problem.line: problem.check for problem in checked.problems} == expected
    assert len(expected) == 200
    assert len(checked.index) == checked.images.rows == 800
    assert time.process_time() - started < 20


def test_the_same_bytes_come_of_one_process_and_of_many(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for i in range(60):
        files.put(tmp_path / "data" / f"{i % 30}.png", files.encoded(files.picture(i % 30, mode="RGBA"), "WEBP"))
        rows.append(row(f"{i} {'long ' * 3000}", f"{i % 30}.png", f"{(i + 1) % 30}.png"))
    digests = []
    for workers in (1, 3):
        monkeypatch.setattr(parallel.cpus, "usable_cpus", lambda workers=workers: workers)
        monkeypatch.setattr(parallel, "FORKED_FEW", 1)
        folder = tmp_path / f"ready{workers}"
        folder.mkdir()
        data.write(tmp_path / "data" / "rows.jsonl", rows)
        dataset = data.dataset(
            tmp_path / "data", files="rows.jsonl", held_out={"path": tmp_path / "data" / "rows.jsonl"}
        )
        found = prepare.readers.find(dataset.path, dataset.files)
        with prepare.check_files(
            dataset, found, special_tokens=[], lengths=None, store=store.new(folder), fork=True
        ) as checked:
            for name, positions in prepare.select(checked, dataset).items():
                prepare.write(folder / f"{name}.jsonl", checked, positions)
        assert store.keep(folder) == 30
        there = sorted(path for path in folder.rglob("*") if path.is_file())
        digests.append({str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in there})
    assert digests[0] == digests[1]
    assert all(digest in name for name, digest in digests[0].items() if name.startswith("images"))


def test_rows_are_compared_with_their_images(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "data"
    for seed in (1, 2, 3):
        files.put(path / f"{seed}.png", files.png(seed))
    files.put(path / "copy.png", files.png(1))
    question = "Which of the many colours in this picture is the one that you see the most of?"
    rows = [row(question, "1.png"), row(question, "2.png", answer="Blue."), row(question, "copy.png"),
            row("Which?", "3.png"), row("Which?", "3.png", answer="Blue."), row(question + "!", "1.png"),
            row(question + "?", "3.png")]  # fmt: skip
    checked = check(stack, path, rows, near_duplicates=0.8, near_copies=None)
    assert reasons(checked) == {
        3: "exact duplicate: of line 1",
        4: "conflicting answers: line 5 has the same prompt and disagrees",
        5: "conflicting answers: line 4 has the same prompt and disagrees",
        6: "near duplicate: 84% as line 1",
    }


def test_all_questions_about_an_image_are_in_one_split(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "data"
    for seed in range(40):
        files.put(path / f"{seed}.png", files.png(seed))
    rows = [row(f"Question {ask} about {seed}?", f"{seed}.png") for ask in range(5) for seed in range(40)]
    checked = check(stack, path, rows)
    selected = prepare.select(checked, data.dataset(path))
    of_split = {
        name: {
            part["image"] for position in positions for part in checked.row(int(position))["prompt"][0]["content"][:1]
        }  # type: ignore[typeddict-item]
        for name, positions in selected.items()
    }
    assert sum(map(len, of_split.values())) == 40
    assert all(of_split.values())


def test_a_training_row_that_shows_an_image_of_a_test_row_is_set_aside(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "data"
    for seed in range(60):
        files.put(path / f"{seed}.png", files.png(seed))
    files.put(path / "logo.png", files.png(100))
    rows = [row(f"What is {i}?", f"{i}.png", "logo.png") for i in range(60)]
    held_out = check(stack, path, rows, near_copies=None)
    selected = prepare.select(held_out, data.dataset(path))
    test, train = (int(held_out.index["line"][selected[name][0]]) for name in ("test", "train"))
    later = [{"role": "assistant", "content": "Red."}, {"role": "user", "content": "And <image>?"}]
    leaking = rows[train - 1]["messages"]
    rows[train - 1] = {"messages": [leaking[0], *later, leaking[1]],
                       "images": [*rows[train - 1]["images"], f"{test - 1}.png"]}  # fmt: skip
    assert reasons(check(stack, path, rows)) == {
        train: f"near copy of a held-out row: it shows an image of line {test}"
    }
    assert reasons(check(stack, path, rows, near_copies=None)) == {}


def test_an_image_of_an_evaluation_set_is_not_trained_on(tmp_path: Path, stack: ExitStack) -> None:
    path, held_out = tmp_path / "data", tmp_path / "held_out"
    for seed in range(4):
        files.put(path / f"{seed}.png", files.png(seed))
    files.put(held_out / "x.webp", files.encoded(files.picture(1), "WEBP", lossless=True))
    files.put(held_out / "y.png", files.png(2))
    long = "What can be seen in the upper left corner of this picture, and what colour does it have?"
    data.write(held_out / "test.jsonl", [row("Other?", "y.png"), row(long, "y.png")])
    rows = [row("What?", "0.png"), row("What?", "2.png"), row(long, "1.png"), row("Other?", "2.png")]
    checked = check(stack, path, rows, held_out={"path": held_out, "overlap": 0.7})
    assert reasons(checked) == {
        2: f"in an evaluation set: an image of {held_out}/test.jsonl:1",
        4: f"in an evaluation set: the prompt of {held_out}/test.jsonl:1",
    }


def test_tokens_of_images_count_and_a_base_without_them_refuses(tmp_path: Path, stack: ExitStack) -> None:
    files.put(tmp_path / "data" / "1.png", files.png(1))
    rows = [row("What colour?", "1.png", "1.png"), row("What colour?"), *[row(f"Is it {i}?") for i in range(8)]]
    lengths = Lengths(
        words, 1000, tools=True, image_tokens=lambda sizes: [width * height for width, height in sizes], no_images="no"
    )
    checked = check(stack, tmp_path / "data", rows, lengths)
    first = list(checked.index["line"]).index(1)
    assert (checked.index["prompt_tokens"][first], checked.index["tokens"][first]) == (2 * 24 * 16 + 2, 2 * 24 * 16 + 3)
    assert checked.index["tokens"].tolist().count(3) == 1
    text_alone = Lengths(words, 1000, tools=True, no_images="its config.json has no vision_config")
    assert reasons(check(stack, tmp_path / "data", rows, text_alone)) == {
        1: "image: the base model takes none: its config.json has no vision_config; choose one that does, or "
        "name the column of images in data.<dataset>.ignore"
    }
    short = Lengths(words, 500, tools=True, image_tokens=lengths.image_tokens)
    assert reasons(check(stack, tmp_path / "data", rows, short)) == {
        1: "prompt fills the context: 770 tokens, and the model takes 500"
    }


def words(conversations: Any) -> tuple[list[int], list[int]]:
    """Counts the words of texts, which alone it takes."""

    def count(turns: Any) -> int:
        return sum(len(turn["content"].split()) for turn in turns)

    each: list[Conversation] = list(conversations)
    return [count(one.prompt) for one in each], [count(one.completion) for one in each]


def test_personal_data_is_sought_in_texts_and_not_in_digests(tmp_path: Path, stack: ExitStack) -> None:
    for seed in range(200):
        files.put(tmp_path / "data" / f"{seed}.png", files.png(seed))
    rows = [row(f"Question {seed}?", f"{seed}.png") for seed in range(200)]
    rows.append(row("Is it of jane.doe@bigcorp.com?", "7.png"))
    checked = check(stack, tmp_path / "data", rows, personal_data="mask")
    assert checked.personal == Counter({"an e-mail address": 1})
    masked = next(checked.row(at) for at in range(201) if checked.index["line"][at] == 201)
    assert masked["prompt"][0]["content"][1] == {"type": "text", "text": "Is it of <EMAIL_ADDRESS>?"}  # type: ignore[index]


@pytest.mark.parametrize("kind", ["image/png", "image/png;charset=utf-8", ""])
def test_a_row_that_is_set_aside_is_quoted_without_its_image(tmp_path: Path, stack: ExitStack, kind: str) -> None:
    content = files.png(1) + bytes(30_000)
    url = files.url(content, kind)
    within = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": ""}]
    turns = [{"role": "user", "content": within}, {"role": "assistant", "content": ""}]
    good = row("What?")
    checked = check(stack, tmp_path / "data", [good, {"messages": turns}])
    [problem] = checked.problems
    assert len(problem.raw) < 400
    assert json.loads(problem.raw)["messages"][0]["content"][0]["image_url"]["url"].startswith(
        f"data:{kind};base64,iVBORw"
    )
    table = pa.Table.from_pylist(
        [{"messages": turns[:0], "image": content, "text": base64.b64encode(content).decode()}]
    )
    pq.write_table(table, tmp_path / "data" / "rows.parquet")
    with data.prepare.check_files(
        data.dataset(tmp_path / "data", files="rows.*", max_bad_share=1),
        prepare.readers.find(tmp_path / "data", "rows.*"),
        special_tokens=[],
        lengths=None,
    ) as both:
        assert max(len(problem.raw) for problem in both.problems) < 400
