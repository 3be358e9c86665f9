"""The account of what no part of a ready row uses: columns, and fields of turns.

What describes a row is counted. Anything else that holds text may be a part of the question or of the answer, so its
row is set aside, unless the row says the same already.
"""

from collections.abc import Collection, Iterator

from tunesmith.core.ready_rows import PARTS, Row, texts
from tunesmith.data.columns import names
from tunesmith.data.columns.cells import Remark
from tunesmith.data.records import Fields, RowError
from tunesmith.data.turns.fields import DESCRIBING, READ, UNSUPPORTED, is_nothing


def check_media(fields: Fields) -> None:
    """Raise RowError for audio and video, without which a prompt would ask about nothing."""
    name = next((name for name in names.MEDIA if name in fields and not is_nothing(fields[name])), None)
    if name is not None:
        raise RowError(
            f"column left out: {name!r} ({UNSUPPORTED}; where the text is whole without it, name {name} in "
            "data.<dataset>.ignore)"
        )


def unshown(fields: Fields, left: Collection[str]) -> list[Remark]:
    """Return a remark on each column that names an image, audio or video, where it is left out of a row."""
    remarks = []
    for name, value in fields.items():
        if f"column {name!r}" not in left:
            continue
        ending = value[-5:].lower() if type(value) is str else ""
        if name in names.IMAGES or ending.endswith(names.IMAGE_SUFFIXES):
            fix = "and the row shows none: name it as `images` in data.<dataset>.columns"
            remarks.append((f"column {name!r} names an image, {fix}", name))
        elif ending.endswith(names.MEDIA_SUFFIXES):
            remarks.append((f"column {name!r} names a file that the row does not show ({UNSUPPORTED})", name))
    return remarks


def account(fields: Fields, used: Collection[str], row: Row) -> list[str]:
    """Return what is not used of a record that became ``row``, each as it is counted.

    used: the columns that the row is made of. Raises RowError for a column that holds text, or a list or an object
    with text, which the row does not have.
    """
    unused = []
    said = ""
    for name, value in fields.items():
        if name in used or is_nothing(value):
            continue
        if not names.describes(name) and not isinstance(value, bool | int | float):
            said = said or _said(row)
            if not all(_is_said(text, said) for text in _strings(value)):
                raise RowError(
                    f"column left out: {name!r} holds what no part of the row uses; name the columns of the prompt and "
                    f"of the answer in data.<dataset>.columns, or {name} in data.<dataset>.ignore"
                )
        unused.append(f"column {name!r}")
    return unused + sorted({f"field {name!r} of turns" for value in fields.values() for name in _of_turns(value)})


def _of_turns(value: object) -> Iterator[str]:
    """Yield the fields of turns that hold something and describe the turn."""
    if isinstance(value, list):
        for turn in value:
            if isinstance(turn, dict) and len(turn) > 2 and turn.keys() & {"role", "from"}:
                yield from (
                    name for name in turn if name in DESCRIBING and name not in READ and not is_nothing(turn[name])
                )


def _said(row: Row) -> str:
    messages = [message for part in PARTS for message in row.get(part, ())]
    reference = row.get("reference")
    return "\n".join([*(text for message in messages for text in texts(message)), str(reference or "")])


def _is_said(text: str, said: str) -> bool:
    """Tell whether a text is a part of a row, or has all of the row's text in it, as a rendered prompt does."""
    return text.strip() in said or all(part in text for part in said.split("\n") if part.strip())


def _strings(value: object) -> Iterator[str]:
    """Yield the texts in a value; of turns, what they say and not who."""
    match value:
        case str():
            yield value
        case list():
            for part in value:
                yield from _strings(part)
        case dict():
            turn = value.keys() & {"content", "value"}
            for name, part in value.items():
                if not turn or name in turn:
                    yield from _strings(part)
        case None | bool() | int() | float():
            return
        case _:
            yield str(value)
