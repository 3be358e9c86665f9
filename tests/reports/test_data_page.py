from contextlib import ExitStack
from pathlib import Path
from typing import Any

import data_sets as data
import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.core import manifest
from tunesmith.data import prepare
from tunesmith.data.row_checks import Lengths
from tunesmith.models import base_tokenizer
from tunesmith.reports import data_page

ROWS: list[Any] = [
    *({"question": f"q{i}", "answer": "x" * i, "source": "school"} for i in range(1, 41)),
    {"question": "q1", "answer": "x", "source": "copy"},
    {"question": "q1", "answer": "x", "source": "copy"},
    {"question": " ", "answer": "<script>alert(1)</script>", "source": "bad"},
    {"question": "long", "answer": "y" * 300, "source": "long"},
]


@pytest.fixture
def report(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + data.write(tmp_path / "plain.jsonl", ROWS).read_bytes())
    dataset = data.dataset(path, max_length=150)
    lengths = Lengths(base_tokenizer.Counter(tokenizer), 512, tools=True)
    with ExitStack() as stack:
        found = data.check(stack, dataset, lengths)
        selected = prepare.select(found, dataset)
        written = {name: prepare.write(tmp_path / name, found, rows) for name, rows in selected.items()}
        made = data_page.report("mine", dataset, found, written, lengths)
    assert {name: manifest.file_digest(tmp_path / name) for name in selected} == made["digests"]
    return made


def test_it_counts_what_became_of_every_row(report: dict[str, Any]) -> None:
    assert (report["rows"], report["good"], report["quarantined"], report["bad"]) == (44, 40, 4, 2)
    assert report["reasons"] == {"exact duplicate": 2, "empty prompt": 1, "completion cut": 1}
    assert sum(report["splits"].values()) + report["left_out_by_limit"] == 40
    assert report["examples"]["exact duplicate"][0] == {"line": 41, "reason": "exact duplicate: of line 1"}


def test_it_tells_lengths_and_what_would_be_cut(report: dict[str, Any]) -> None:
    whole = report["tokens"]["whole"]
    assert sum(whole["histogram"]["counts"]) == 40
    assert whole["min"] <= whole["median"] <= whole["p95"] <= whole["max"] <= 150
    assert report["tokens"]["max_length"] == 150
    over = list(report["tokens"]["longer_than"].values())
    assert over == sorted(over, reverse=True)


def test_it_notes_what_was_left_out(report: dict[str, Any]) -> None:
    assert report["notes"] == [
        "The file begins with a byte order mark, which was left out.",
        "Columns not used: source.",
    ]


def test_the_page_shows_it_all_and_runs_nothing_of_the_rows(report: dict[str, Any]) -> None:
    page = data_page.page(report)
    for part in ("40 of 44 rows are good", "exact duplicate", "Tokens of the prompt", "What would be cut", "<rect"):
        assert part in page
    assert "<script>" not in page
    assert "http" not in page
