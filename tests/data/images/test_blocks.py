from pathlib import Path
from typing import Any

import data_sets as data
import pytest

from tunesmith.data import readers
from tunesmith.data.images.blocks import ROWS, spread
from tunesmith.data.records import Block


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
@pytest.mark.parametrize("column", ["image", "text"])
def test_rows_with_images_come_in_small_pieces_and_all_in_their_order(tmp_path: Path, name: str, column: str) -> None:
    rows: list[Any] = [{column: f"{number}.png", "question": "a\rb"} for number in range(100)]
    rows[50:50] = ["{broken", "", '{"image": "\\u00e9"}\r']
    if name.endswith(".json"):
        rows = [f"[{','.join('{}' if isinstance(row, str) else data.json.dumps(row) for row in rows)}]"]
    path = data.write(tmp_path / name, rows)
    whole, pieces = list(readers.blocks(path)), list(spread(readers.blocks(path)))
    assert parsed(pieces) == parsed(whole)
    assert len(pieces) == (len(whole) if column == "text" and name == "rows.json" else -(-103 // ROWS))


def parsed(blocks: list[Block]) -> list[Any]:
    return [row for block in blocks for row in readers.parse(block)]
