"""Rows of JSON: one object a line, a list of objects, or objects one after the other."""

import codecs
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import jiter

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import dumps
from tunesmith.data.records import BLOCK_BYTES, Block, Lines, Problem, Record, in_blocks

LONGEST_LINE = 2**24
"""Longest line that is read, in bytes. No training context holds more; a longer line is a file without line breaks."""
LARGEST_LIST = 2**30
"""Largest list of a .json file, in decompressed bytes; parsing it takes some times as much memory."""
KEPT = 1000
"""Bytes quoted of a line that is too long."""
NOT_AN_OBJECT = "not a JSON object: a row is written { … }"
ONE_A_LINE = "correct that place, or write one object a line"
TURNS = {"messages", "conversations", "conversation", "prompt", "chosen", "rejected", "completion", "input", "turns"}
"""Columns whose value is a list of turns."""
DECODER = json.JSONDecoder()
SPACE = " \t\r\n,\x1e"
"""Characters between objects: white space, a comma, and the separator of RFC 7464."""


def read(path: Path, file: io.BufferedReader) -> Iterator[Block]:
    """Yield the rows of a file, in the form that its beginning has: lines, block by block, or in memory as a whole.

    Raises DataError where the end of a row cannot be found, and for one object that is no row.
    """
    if file.peek(3)[:3] == codecs.BOM_UTF8:
        file.read(3)
    start = file.read(BLOCK_BYTES)
    text = start.lstrip()
    first, _, rest = text.partition(b"\n")
    whole = _value(first)
    alone = not rest.strip() and not file.peek(1)
    if text.startswith(b"[") and (whole is None or alone):
        yield from in_blocks(_list(path, _whole(path, file, start)))
    elif text.startswith(b"{") and (alone if whole is not None else _goes_on(start)):
        yield from in_blocks(_objects(path, _whole(path, file, start)))
    elif b"\n" not in start and b"\r" in start.strip():  # a line break of old, which no string of JSON may hold
        yield from _lines(path, io.BytesIO(_whole(path, file, b"").replace(b"\r", b"\n")), start.replace(b"\r", b"\n"))
    else:
        yield from _lines(path, file, start)


def _whole(path: Path, file: io.BufferedReader, start: bytes) -> bytes:
    """Read the rest of a file that is held in memory as a whole. Raises DataError where it is too long for that."""
    data = start + file.read(LARGEST_LIST)
    if file.peek(1) or len(data) > LARGEST_LIST:
        raise DataError(
            f"{path}: a list of more than {LARGEST_LIST:,} bytes, which would be held in memory as a whole",
            fix="write each row into a line of its own, in a file .jsonl",
        )
    return data


def _value(text: bytes) -> object:
    try:
        return jiter.from_json(text)
    except ValueError:
        return None


def _goes_on(start: bytes) -> bool:
    """Tell whether the first object ends on a later line, or others follow it on the only line there is."""
    text = start.decode(errors="replace").lstrip()
    try:
        _, end = DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return len(start) == BLOCK_BYTES and (text.startswith(("{\n", "{\r")) or "\n" not in text)
    return "\n" in text[:end] or ("\n" not in text.strip() and text[end:].strip(SPACE).startswith("{"))


def _lines(path: Path, file: io.BufferedIOBase, rest: bytes) -> Iterator[Block]:
    """Read JSON lines; ``rest`` is what was read of them already."""
    line = 1
    while True:
        cut = rest.rfind(b"\n") + 1
        if cut:
            yield Lines(path, line, rest[:cut])
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
        elif len(rest) > LONGEST_LINE:
            yield [_too_long(path, line, rest)]
            rest, line = _skip_line(file), line + 1
        chunk = file.read(BLOCK_BYTES)
        if not chunk:
            break
        rest += chunk
    if rest:
        yield Lines(path, line, rest)


def _skip_line(file: io.BufferedIOBase) -> bytes:
    """Read to the end of the line, and return the bytes already read of the next line."""
    while chunk := file.read(BLOCK_BYTES):
        end = chunk.find(b"\n")
        if end >= 0:
            return chunk[end + 1 :]
    return b""


def parse(block: Lines) -> list[Record | Problem]:
    """Parse each line of a block. A comma after an object, and the separator of RFC 7464 before it, are left out."""
    rows: list[Record | Problem] = []
    file, from_json, long = block.file, jiter.from_json, len(block.data) > LONGEST_LINE
    for number, line in enumerate(block.data.split(b"\n"), start=block.first):
        try:
            fields = from_json(line, catch_duplicate_keys=True, allow_inf_nan=False)
        except ValueError as error:
            fields = _value(line.strip(b" \t\r,\x1e")) if line.endswith((b",", b",\r")) or line[:1] == b"\x1e" else None
            if not isinstance(fields, dict):
                if line.strip():
                    rows.append(_diagnose(file, number, line, str(error)))
                continue
        if long and len(line) > LONGEST_LINE:
            rows.append(_too_long(file, number, line))
        elif isinstance(fields, dict):
            rows.append(Record(file, number, fields, line))
        else:
            rows.append(Problem(file, number, NOT_AN_OBJECT, line.decode().strip()))
    return rows


def _too_long(file: Path, number: int, line: bytes) -> Problem:
    hint = "name its images as files" if b";base64," in line else "does the file have line breaks?"
    reason = f"line too long: over {LONGEST_LINE:,} bytes; {hint}"
    return Problem(file, number, reason, line[:KEPT].decode(errors="replace") + "…")


def _diagnose(file: Path, number: int, line: bytes, error: str) -> Problem:
    """Return the most precise reason why a line is not JSON."""
    raw = line.decode(errors="replace").strip()
    if len(line) > LONGEST_LINE:
        return _too_long(file, number, line)
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return Problem(file, number, f"not UTF-8: byte 0x{line[wrong.start]:02x} at column {wrong.start + 1}", raw)
    if line.startswith(codecs.BOM_UTF8):
        return Problem(file, number, "byte order mark: within the file; were files joined?", raw)
    if b"\0" in line:
        return Problem(file, number, f"NUL byte: at column {line.index(0) + 1}", raw)
    message = error.replace(" at line 1 column ", " at column ")
    if message.startswith("Detected duplicate key "):
        return Problem(file, number, "duplicate key: " + message.removeprefix("Detected duplicate key "), raw)
    return Problem(file, number, f"not JSON: {message}", raw)


def _list(path: Path, data: bytes) -> Iterator[Record | Problem]:
    """Read one list of rows."""
    try:
        values = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        return _elements(path, data, str(error))
    assert isinstance(values, list)
    return (_element(path, position, value) for position, value in enumerate(values, start=1))


def _elements(path: Path, data: bytes, error: str) -> Iterator[Record | Problem]:
    """Parse each row of a malformed list by itself, so that a bad row does not take the others with it."""
    try:
        text = data.decode()
        start = text.index("[") + 1
        for position in itertools.count(1):
            while text[start] in " \t\r\n,":
                start += 1
            if text[start] == "]":
                return
            _, end = DECODER.raw_decode(text, start)
            yield from parse(Lines(path, position, text[start:end].replace("\n", " ").encode()))
            start = end
    except (ValueError, IndexError, RecursionError):
        fix = "correct that place; a file with one object a line is named .jsonl"
        raise DataError(f"{path}: not JSON: {error}", fix=fix) from None


def _element(path: Path, position: int, value: object) -> Record | Problem:
    if isinstance(value, dict):
        return Record(path, position, value)
    return Problem(path, position, NOT_AN_OBJECT, dumps(value).decode())


def _objects(path: Path, data: bytes) -> Iterator[Record | Problem]:
    """Read objects one after the other: over several lines, or without a line break between them.

    Their lines are the rows' numbers or, where several share one, their places.
    """
    spans = []
    start = line = 0
    try:
        text = data.decode()
        while start < len(text):
            if text[start] in f"\n{SPACE}":
                start += 1
                continue
            _, end = DECODER.raw_decode(text, start)
            spans.append((start, end))
            start = end
    except (ValueError, RecursionError) as error:
        line = data.count(b"\n", 0, len(text[:start].encode()) if not isinstance(error, UnicodeDecodeError) else 0) + 1
        raise DataError(f"{path}:{line}: not JSON: the object that begins here: {error}", fix=ONE_A_LINE) from None
    if len(spans) == 1:
        yield from _only(path, text)
        return
    lines = [1 + text.count("\n", 0, begin) for begin, _ in spans[:2]]
    line = place = 0
    for place, (begin, end) in enumerate(spans, start=1):
        line += text.count("\n", spans[place - 2][0] if place > 1 else 0, begin)
        number = line + 1 if lines[0] < lines[1] else place
        yield from parse(Lines(path, number, text[begin:end].replace("\n", " ").encode()))


def _only(path: Path, text: str) -> Iterator[Record | Problem]:
    """Read the only object of a file: a row, or the one that holds the list of rows."""
    value = _value(text.encode())
    lists = [part for part in value.values() if isinstance(part, list) and part and isinstance(part[0], dict)] if (
        isinstance(value, dict)
    ) else []  # fmt: skip
    columns = [part for part in value.values() if isinstance(part, dict | list)] if isinstance(value, dict) else []
    if isinstance(value, dict) and not value.keys() & TURNS and len(lists) == 1 == len(columns):
        yield from (_element(path, position, row) for position, row in enumerate(lists[0], start=1))
    elif isinstance(value, dict) and path.name.split(".")[1:2] == ["json"]:
        fix = "wrap the rows in [ ], or use .jsonl; pandas writes rows with to_json(path, orient='records', lines=True)"
        raise DataError(f"{path}: not a list of rows", fix=fix)
    else:
        yield from parse(Lines(path, 1, text.strip().replace("\n", " ").encode()))
