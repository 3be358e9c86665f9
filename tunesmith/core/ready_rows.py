"""Ready rows and other JSON on disk: read as they were written, written whole or not at all."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import jiter
import orjson

from tunesmith.core import files
from tunesmith.core.errors import DataError

Kind = Literal["answers", "preferences", "scored"]

Row = dict[str, Any]
"""A ready row: {id, prompt: [messages]} and {completion}, {chosen, rejected}, or {verifier, what it needs}."""


def read(path: Path) -> list[Row]:
    """The ready rows of a split, as `prepare_data` wrote them. Raises DataError where there are none."""
    try:
        rows = [jiter.from_json(line) for line in path.read_bytes().splitlines()]
    except ValueError as error:
        fix = "`dvc checkout` brings back what the stage wrote, `dvc repro --force` writes it again"
        raise DataError(f"{path}: not as a stage wrote it: {error}", fix=fix) from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", fix="`dvc repro` writes it") from None
    if not rows:
        raise DataError(
            f"{path}: this split has no rows",
            fix="give the split a share in params.yaml, data.<dataset>.splits and .limit, or name another dataset",
        )
    return rows


def reference(row: Row) -> str:
    """What a verifier compares an answer with: the row's `reference`, else its own completion."""
    return str(row["reference"] if "reference" in row else row["completion"][-1]["content"])


def dumps(value: Any) -> bytes:
    """JSON in UTF-8 on one line; what JSON has no form for, as text. Integers keep all their digits."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # over 64 bits
        return json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object a line, UTF-8, whole or not at all."""
    files.write_bytes(path, b"".join(dumps(row) + b"\n" for row in rows))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented JSON in UTF-8, whole or not at all."""
    files.write_bytes(path, orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


Sample = dict[str, Any]
"""{suite, id, prompt, rendered, reference, completion, tokens, stopped, well_formed, score, answer, reason, status},
and what else of the row its verifier read. tokens, stopped and well_formed are None where nothing was generated."""
