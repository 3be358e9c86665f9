from pathlib import Path

import data_sets as data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from tunesmith.reports.data_set import row_text
from tunesmith.reports.data_set.row_text import GAP, WINDOW, Masker, Span, joined

MASKER = Masker(data.dataset(Path("a.jsonl")))
TOKEN = "hf_" + "A" * 34


def size(spans: list[Span]) -> int:
    return sum(len(str(escape(span.text)).encode()) for span in spans if span is not GAP)


@given(st.lists(st.text().map(Span)), st.integers(0, 300))
def test_the_beginning_and_the_end_fit_and_are_of_the_text(spans: list[Span], most: int) -> None:
    begin, end = row_text.first(spans, most), row_text.last(spans, most)
    assert joined(spans).startswith(joined(begin))
    assert joined(spans).endswith(joined(end))
    assert size(begin) + row_text.TAG * len(begin) <= most + (row_text.TAG if not begin else 0)
    assert size(end) + row_text.TAG * len(end) <= most + (row_text.TAG if not end else 0)


@given(st.text())
def test_nothing_without_a_shape_is_left(text: str) -> None:
    shown = row_text.visible(text)
    assert row_text.visible(shown) == shown
    assert all(character.isprintable() or character in "\n\t\u200c\u200d" or character.isspace() for character in shown)


def test_directions_and_controls_are_numbers_and_joined_emoji_stay() -> None:
    assert row_text.visible("a\u202eb\x00\x1b[31m\r\nc") == "a⟨U+202E⟩b⟨U+0000⟩⟨U+001B⟩[31m\nc"
    assert row_text.visible("👩\u200d👧\n") == "👩\u200d👧\n"


def test_a_short_text_is_whole_and_a_long_one_ends_in_a_gap() -> None:
    assert MASKER.head("short", 100) == [Span("short")]
    begin, gap = MASKER.head("x" * 1_000_000, 100)
    assert gap is GAP
    assert set(begin.text) == {"x"}
    assert len(begin.text) <= 100


@pytest.mark.parametrize("treatment", ["count", "mask", "set_aside", "ignore"])
def test_secrets_are_masked_and_personal_data_unless_it_is_ignored(treatment: str) -> None:
    masker = Masker(data.dataset(Path("a.jsonl"), personal_data=treatment))
    shown = joined(masker.head(f"key {TOKEN}, write to jane.doe@example.com", 500))
    assert TOKEN not in shown
    assert ("jane.doe" in shown) == (treatment == "ignore")


@given(st.integers(0, 600))
def test_a_secret_is_never_shown_in_part(before: int) -> None:
    text = "x" * before + f" {TOKEN} " + "y" * 10_000
    end = "y" * 10_000 + f" {TOKEN} " + "x" * before
    for spans in (MASKER.head(text, 300), MASKER.ends([Span(text)], 200, 100), MASKER.ends([Span(end)], 9, 300)):
        assert "A" * 8 not in joined(spans)


def test_a_private_key_that_is_longer_than_all_that_is_searched_is_hidden() -> None:
    text = "see -----BEGIN RSA PRIVATE KEY-----\n" + "QUJD" * 10_000
    assert "QUJD" not in joined(MASKER.head(text, 500))


def test_a_long_text_of_spans_keeps_its_beginning_its_end_and_their_marks() -> None:
    spans = [Span("<|im_start|>", special=True), Span("p" * 5000), Span("a" * 5000, marked=True)]
    begin, prompt, gap, answer = MASKER.ends(spans, 200, 100)
    assert (begin, gap) == (spans[0], GAP)
    assert set(prompt.text) == {"p"}
    assert answer.marked
    assert set(answer.text) == {"a"}
    assert MASKER.ends(spans, 20_000, 10_000) == spans


def test_any_number_of_spans_takes_bounded_bytes() -> None:
    spans = [Span("<", marked=number % 2 == 0) for number in range(100_000)]
    shown = MASKER.ends(spans, 2000, 1000)
    assert size(shown) + row_text.TAG * len(shown) <= 3000 + row_text.TAG


def test_a_copy_is_shown_around_its_first_difference() -> None:
    original = "same " * 200 + "fox and hen"
    copy = "same " * 200 + "fox and dog"
    spans = MASKER.changed(original, copy, 300)
    assert spans[0] is GAP
    assert [span.text for span in spans if span.marked] == ["dog"]
    assert MASKER.changed("one two", "one two", 300) == [Span("one two")]
    assert MASKER.changed("a", "z" * WINDOW * 400, 300)[-1] is GAP
