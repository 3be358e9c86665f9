from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core import ready_rows
from tunesmith.core.errors import DataError


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.none())))
def test_written_rows_are_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    ready_rows.write_jsonl(path, rows)
    if rows:
        assert ready_rows.read(path) == rows


def test_a_split_without_rows_is_an_error_that_names_the_param_of_the_shares_unless_it_may_be_empty(
    tmp_path: Path,
) -> None:
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(DataError, match="splits"):
        ready_rows.read(tmp_path / "test.jsonl")
    assert ready_rows.read(tmp_path / "test.jsonl", may_be_empty=True) == []
