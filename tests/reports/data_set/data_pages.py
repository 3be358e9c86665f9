"""Pages of data sets for tests."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import data_sets as data
from transformers import PreTrainedTokenizerFast

from tunesmith.data import prepare
from tunesmith.data.lengths import Lengths
from tunesmith.models.base import base_tokenizer
from tunesmith.reports.data_set import data_page, data_report, data_rows
from tunesmith.reports.data_set.data_rows import PageRows

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"
GOOD = [{"question": f"what is {number}?", "answer": f"it is {number}"} for number in range(1, 31)]


def make(rows: Iterable[Any], folder: Path, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> tuple[str, PageRows]:
    """The page of a data set of ``rows``, and the rows that it shows."""
    dataset = data.dataset(data.write(folder / "a.jsonl", rows), **{"max_bad_share": 1, **changes})
    counter = base_tokenizer.Counter(tokenizer)
    lengths = Lengths(counter, 100_000, tools=True)
    with ExitStack() as stack:
        checked = data.check(stack, dataset, lengths)
        selected = prepare.select(checked, dataset)
        written = {name: prepare.write(folder / name, checked, positions) for name, positions in selected.items()}
        report = data_report.report("mine", dataset, checked, written, lengths)
        shown = data_rows.page_rows(dataset, checked, selected, tokenizer, folder)
    return data_page.page(report, shown), shown
