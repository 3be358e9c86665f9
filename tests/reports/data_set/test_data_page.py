import json
import re
from pathlib import Path
from typing import Any

import pytest
from reports.data_set.data_pages import ATTACK, GOOD, make
from reports.specs import drawn
from transformers import PreTrainedTokenizerFast

from tunesmith.reports import vendored
from tunesmith.reports.data_set import data_page
from tunesmith.reports.data_set.row_text import joined

LIMIT = 1_000_000
"""Most bytes of a page."""


def body(page: str) -> str:
    """A page without the script that draws."""
    return page.replace(str(vendored.script(*vendored.CHARTS)), "")


def test_the_page_shows_the_report_and_runs_no_text_of_rows(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [*GOOD, GOOD[0], {"question": ATTACK, "answer": ATTACK}, {"question": " ", "answer": ATTACK}]
    page, _ = make(rows, tmp_path, tokenizer)
    for part in ("31 of 33 rows are good", "exact duplicate", "tokens of the prompt", "What would be cut", "Examples"):
        assert part in page
    assert "<script>alert" not in page
    assert "<img" not in body(page)
    assert "\u202e" not in page
    assert "⟨U+202E⟩" in page
    assert not re.search(r"https?://(?!vega\.github\.io/schema)", body(page))


def test_examples_are_rendered_with_special_tokens_and_what_trains(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    page, shown = make(GOOD, tmp_path, tokenizer)
    assert len(shown["examples"]) == 10
    for row in shown["examples"]:
        number = row["place"].removeprefix("line ")
        [part] = row["parts"]
        assert joined(part.spans) == (
            f"<|im_start|>user\nwhat is {number}?<|im_end|>\n<|im_start|>assistant\nit is {number}<|im_end|>"
        )
        assert joined([span for span in part.spans if span.marked]) == f"it is {number}<|im_end|>"
        assert {span.text for span in part.spans if span.special} == {"<|im_start|>", "<|im_end|>"}
        assert part.trained == len(tokenizer.encode(f"it is {number}<|im_end|>"))
    number = shown["examples"][0]["place"].removeprefix("line ")
    assert f'<mark>it is {number}</mark><b class="trained">&lt;|im_end|&gt;</b>' in page


def test_turns_of_the_prompt_that_train_are_marked(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "two", "weight": 1},
        {"role": "user", "content": "three?"},
        {"role": "assistant", "content": "four", "weight": 1},
    ]
    _, shown = make([{"messages": turns}], tmp_path, tokenizer)
    [part] = shown["examples"][0]["parts"]
    assert joined([span for span in part.spans if span.marked]) == "two<|im_end|>four<|im_end|>"


@pytest.mark.parametrize(
    ("row", "kind", "titles"),
    [
        ({"prompt": "a?", "chosen": "b", "rejected": "c"}, "preferences", ["chosen answer", "rejected answer"]),
        ({"prompt": "a?", "completion": "b", "label": False}, "marks", ["bad answer"]),
        ({"prompt": "a?", "verifier": "exact", "reference": "<b>"}, "scored", ["prompt"]),
    ],
)
def test_rows_of_every_kind_are_shown(
    row: dict[str, Any], kind: str, titles: list[str], tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    page, shown = make([row], tmp_path, tokenizer, kind=kind)
    [example] = shown["examples"]
    assert [part.title for part in example["parts"]] == titles
    assert example["facts"] == ({"verifier": "exact", "right answer": "<b>"} if kind == "scored" else {})
    assert all(title in page for title in titles)


def test_the_longest_rows_come_first(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [*GOOD, *({"question": f"long {number}", "answer": "z" * 50 * number} for number in range(1, 8))]
    _, shown = make(rows, tmp_path, tokenizer)
    assert [row["place"] for row in shown["longest"]] == [f"line {line}" for line in (37, 36, 35, 34, 33)]
    assert [row["tokens"] for row in shown["longest"]] == sorted(row["tokens"] for row in shown["longest"])[::-1]


def test_rows_set_aside_show_their_text_unless_it_is_private(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    mail, key = "jane.doe@example.com", "hf_" + "A" * 34
    rows = [*GOOD, {"question": "", "answer": f"to {key}"}, {"question": "key?", "answer": key}]
    rows += [{"question": "who?", "answer": mail}]
    page, shown = make(rows, tmp_path, tokenizer, personal_data="set_aside")
    [empty], [secret], [personal] = (shown["aside"][check] for check in ("empty prompt", "secret", "personal data"))
    assert empty["spans"] is not None
    assert "to hf_A…" in joined(empty["spans"])
    assert secret["spans"] is personal["spans"] is None
    assert mail not in page
    assert key[:12] not in page


def test_personal_data_of_rows_that_train_is_masked_on_the_page(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = [{"question": "who?", "answer": "jane.doe@example.com"}, {"question": "who else?", "answer": "nobody"}]
    page, shown = make(rows, tmp_path, tokenizer)
    assert len(shown["examples"]) == 2
    assert "jane" not in page
    assert "&lt;EMAIL_ADDRESS&gt;" in page


def test_rows_that_repeat_another_are_shown_beside_it(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    story = {"question": "Tell me of a fox, a hen and the long way to Bremen, in the winter", "answer": "Once. " * 9}
    near = {**story, "question": story["question"] + "time"}
    _, shown = make([*GOOD, GOOD[3], GOOD[3], story, near], tmp_path, tokenizer, near_duplicates=0.6)
    exact, similar = shown["clusters"]
    assert (exact["place"], exact["rows"], [copy["place"] for copy in exact["copies"]]) == (
        "line 4",
        2,
        ["line 31", "line 32"],
    )
    assert exact["copies"][0]["spans"] is None  # the same text
    [copy] = similar["copies"]
    assert copy["reason"].endswith("as line 33")
    assert "wintertime" in joined([span for span in copy["spans"] or [] if span.marked])


def test_a_page_says_whether_personal_data_is_masked(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    assert "Personal data and secrets are masked here" in make(GOOD, tmp_path, tokenizer)[0]
    assert "Secrets are masked here" in make(GOOD, tmp_path, tokenizer, personal_data="ignore")[0]


def test_a_page_without_rows_has_no_text_of_any(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [*GOOD, GOOD[0], {"question": "", "answer": "it is bad"}]
    page, shown = make(rows, tmp_path, tokenizer, page_rows=0)
    assert "it is" not in body(page)
    assert "what is" not in body(page)
    assert "page_rows is 0" in page
    assert shown["aside"]["empty prompt"][0]["spans"] is None


@pytest.mark.parametrize("text", ["<&\"'>" * 2000, "\U000e0001" * 3000, "語" * 3000, "a\n" * 4000])
def test_a_page_of_any_rows_is_bounded(text: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    long = [{"question": f"{text}{number}", "answer": text, f"extra{number}": 1} for number in range(12)]
    bad = [{"question": text, text[:50] + str(number): text} for number in range(12)]
    chat = {"messages": [{"role": role, "content": "hi"} for _ in range(500) for role in ("user", "assistant")]}
    rows = [*long, *bad, chat, *(json.dumps(row)[:-1] for row in long), *(GOOD[:2] * 100)]
    page, _ = make(rows, tmp_path, tokenizer, page_rows=30, near_duplicates=0.5)
    assert len(page.encode()) < LIMIT


def test_the_same_rows_make_the_same_page(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [*GOOD, *GOOD[:3], {"question": " ", "answer": "x"}]
    assert make(rows, tmp_path, tokenizer)[0] == make(rows, tmp_path, tokenizer)[0]


def test_a_histogram_names_its_units_and_has_a_bar_for_each_count() -> None:
    lengths: Any = {"histogram": {"edges": [2, 3, 4], "counts": [7, 1]}}
    chart = data_page.histogram(lengths, "turns")
    assert chart.table == [["2", "7"], ["3", "1"]]
    svg = drawn(chart.spec)
    assert "turns" in svg
    assert "rows" in svg
