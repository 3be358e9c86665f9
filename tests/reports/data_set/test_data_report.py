from contextlib import ExitStack
from pathlib import Path
from typing import Any

import data_sets as data
import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.core import manifest
from tunesmith.data import prepare
from tunesmith.data.lengths import Lengths
from tunesmith.models.base import base_tokenizer
from tunesmith.reports.data_set import data_report
from tunesmith.reports.data_set.data_report import DataReport

ROWS: list[Any] = [
    *({"question": f"q{i}", "answer": "x" * i, "source": "school"} for i in range(1, 41)),
    {"question": "q1", "answer": "x", "source": "copy"},
    {"question": "q1", "answer": "x", "source": "copy"},
    {"question": " ", "answer": "<script>alert(1)</script>", "source": "bad"},
    {"question": "long", "answer": "y" * 300, "source": "long"},
]


@pytest.fixture
def report(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> DataReport:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + data.write(tmp_path / "plain.jsonl", ROWS).read_bytes())
    dataset = data.dataset(path, max_length=150)
    lengths = Lengths(base_tokenizer.Counter(tokenizer), 512, tools=True)
    with ExitStack() as stack:
        checked = data.check(stack, dataset, lengths)
        selected = prepare.select(checked, dataset)
        written = {name: prepare.write(tmp_path / name, checked, rows) for name, rows in selected.items()}
        report = data_report.report("mine", dataset, checked, written, lengths)
    assert {name: manifest.file_digest(tmp_path / name) for name in selected} == report["digests"]
    return report


def test_every_row_is_counted(report: DataReport) -> None:
    assert (report["rows"], report["good"], report["quarantined"], report["bad"]) == (44, 40, 4, 2)
    assert report["reasons"] == {"exact duplicate": 2, "empty prompt": 1, "completion cut": 1}
    assert sum(report["splits"].values()) + report["left_out_by_limit"] == 40
    assert report["examples"]["exact duplicate"][0] == {"place": "line 41", "reason": "exact duplicate: of line 1"}


def test_lengths_are_reported_with_the_rows_that_limits_would_cut(report: DataReport) -> None:
    assert report["tokens"] is not None
    whole = report["tokens"]["whole"]
    assert sum(whole["histogram"]["counts"]) == 40
    assert whole["min"] <= whole["median"] <= whole["p95"] <= whole["max"] <= 150
    assert report["tokens"]["max_length"] == 150
    over = list(report["tokens"]["longer_than"].values())
    assert over == sorted(over, reverse=True)


def test_parts_of_the_file_that_were_left_out_are_noted(report: DataReport) -> None:
    assert report["notes"] == [
        "Left out: the byte order mark at the beginning of a.jsonl.",
        "Not used, with the number of rows: column 'source' (42).",
    ]


def test_turns_are_counted_by_role(report: DataReport) -> None:
    assert report["speakers"] == {"user": {"rows": 40, "turns": 40}, "assistant": {"rows": 40, "turns": 40}}
    assert (report["turns"]["min"], report["turns"]["max"], report["turns"]["total"]) == (2, 2, 80)
    assert report["turns"]["histogram"] == {"edges": [2, 3], "counts": [40]}


def test_what_quotes_rows_is_cut(tmp_path: Path) -> None:
    rows = [*ROWS[:5], {"messages": [{"role": "r" * 10_000, "content": "x"}, {"role": "user", "content": "y"}]}]
    dataset = data.dataset(data.write(tmp_path / "a.jsonl", rows))
    with ExitStack() as stack:
        checked = data.check(stack, dataset)
        selected = prepare.select(checked, dataset)
        written = {name: prepare.write(tmp_path / name, checked, chosen) for name, chosen in selected.items()}
        report = data_report.report("mine", dataset, checked, written, None)
    [example] = report["examples"]["unknown role"]
    assert len(example["reason"]) == data_report.REASON + 1
