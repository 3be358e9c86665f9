"""Images of a record, recognised before its layout is: their places in the text are marked, their sources listed.

Then a record with images is a record of texts, and every layout reads it.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeGuard

from tunesmith.core.ready_rows import Message, Row, content_text
from tunesmith.data.columns.cells import Remark
from tunesmith.data.columns.names import HISTORIES, IMAGES, PROMPT_RANKS, SYSTEMS
from tunesmith.data.images import parts, sources
from tunesmith.data.images.sources import Source
from tunesmith.data.records import Fields, RowError
from tunesmith.data.turns.fields import is_nothing
from tunesmith.data.turns.order import ROLES

MARKER = "<image>"
"""Stands for an image in the texts of LLaMA-Factory, LLaVA and Swift."""
TOGETHER = (*SYSTEMS, *HISTORIES, *(name for names in PROMPT_RANKS for name in names), "text")
"""Columns of text in the order in which a prompt has them: their markers are counted together."""
COLUMNS = frozenset(IMAGES)
SHOWING = ("user", "tool")
"""Roles of turns that may show images."""
JOINED = "a turn of images alone, joined with the user's turn beside it"
UNMARKED = "images put before the first question, since no marker says where they are"


class Taken(NamedTuple):
    """A record without its images."""

    fields: Fields
    """Its columns, with marks where images are, and without those that hold images."""
    sources: list[Source]
    """Where each image is, by its number."""
    unused: list[str]
    """Columns that name the same images again."""
    remarks: list[Remark]
    """What was read otherwise than written."""


def take(fields: Fields) -> Taken:
    """Take the images out of a record. Raises RowError for an image in a form that is not known."""
    there = [] if COLUMNS.isdisjoint(fields) else [name for name in IMAGES if name in fields]
    if not there:
        for value in fields.values():
            if type(value) is list and _has_part(value):
                break
        else:
            return Taken(fields, [], [], [])
    if any(parts.OPENING in text for value in fields.values() for text in _texts(value)):
        raise RowError("noncharacter: U+FDD0 in a row with images, whose places it marks here")
    filled = [name for name in there if not is_nothing(fields[name])]
    taker = _Taker(_column(fields, filled[0]) if filled else [], has_column=bool(there))
    kept = {name: value for name, value in fields.items() if name not in there}
    for name in sorted(kept, key=lambda name: TOGETHER.index(name) if name in TOGETHER else len(TOGETHER)):
        kept[name] = taker.marked(name, kept[name])
    if not taker.sources and taker.markers:
        raise RowError(f"image missing: {taker.markers} × {MARKER} in the text, and no image in {there[0]!r}")
    remarks = [(JOINED, MARKER)] if taker.joined else []
    return Taken(kept, taker.sources, [f"column {name!r}" for name in filled[1:]], remarks)


def place(row: Row, count: int) -> tuple[Row, bool]:
    """Return a row in which each of its ``count`` images has a place, and whether that was not said.

    Raises RowError where the marks are not of these images, or are not in a turn of a user or a tool of the prompt.
    """
    shown: list[int] = []
    for turn in row["prompt"]:
        numbers = parts.marks(turn)
        if numbers and turn["role"] not in SHOWING:
            raise RowError(f"image of the {turn['role']}: only turns of users and of tools can show images")
        shown += numbers
    if any(parts.marks(turn) for name in ("completion", "chosen", "rejected") for turn in row.get(name, ())):  # type: ignore[attr-defined]
        raise RowError("image of the assistant: only turns of users and of tools can show images")
    if not shown:
        return {**row, "prompt": _before(row["prompt"], count)}, True
    if {*shown} != {*range(count)}:
        raise RowError(f"images and markers differ: {len(shown)} in the text of the prompt, {count} in the row")
    return row, False


def _before(prompt: list[Message], count: int) -> list[Message]:
    """Put all images before the first question."""
    first = next(at for at, turn in enumerate(prompt) if turn["role"] == "user")
    content = "".join(map(parts.mark, range(count))) + content_text(prompt[first])
    return [*prompt[:first], {**prompt[first], "content": content}, *prompt[first + 1 :]]


def _column(fields: Fields, name: str) -> list[Source]:
    value = fields[name]
    return [sources.source(one) for one in (value if isinstance(value, list) else [value])]


def _has_part(values: list[object]) -> bool:
    """Tell whether a list of turns has a part that is an image."""
    for turn in values:
        if type(turn) is dict:
            content = turn.get("content", turn.get("value", turn.get("parts")))
            if type(content) in (list, dict):
                listed = content if isinstance(content, list) else [content]
                if any(isinstance(part, dict) and _is_image(part) for part in listed):
                    return True
    return False


def _is_image(part: Fields) -> bool:
    kind = part.get("type")
    if kind is not None:
        return kind in sources.KINDS
    inline = part.get("inlineData", part.get("inline_data"))
    if isinstance(inline, dict):  # Gemini's, which may hold audio or video
        return str(inline.get("mimeType", inline.get("mime_type", "image"))).startswith("image")
    return not is_nothing(part.get("image", part.get("image_url")) if inline is None else inline)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


class _Taker:
    """Marks the images of a record, column by column, and collects their sources."""

    def __init__(self, column: list[Source], *, has_column: bool) -> None:
        self.sources = column.copy()
        self.markers = 0
        """Markers within texts, where the column holds no image."""
        self.joined = False
        """Whether turns of images alone were joined with others."""
        self._places: dict[Source, int] = {}
        self._in_column = len(column)
        self._has_column = has_column
        self._together = 0
        self._marked: dict[str, str] = {}

    def marked(self, name: str, value: object) -> object:
        """Return the value of a column with marks. A column outside of `TOGETHER` is a conversation of its own."""
        if name not in TOGETHER:
            return self._turns(value, 0)[0] if isinstance(value, list) else value
        if isinstance(value, str):
            if value not in self._marked:  # which two columns may hold
                self._marked[value], self._together = self._text(value, self._together)
            return self._marked[value]
        if isinstance(value, list):
            value, self._together = self._turns(value, self._together)
        return value

    def _turns(self, values: list[object], number: int) -> tuple[list[object], int]:
        changed: list[object] = []
        for turn in values:
            if isinstance(turn, dict):
                turn, number = self._turn(turn, number)
            elif isinstance(turn, list) and turn and isinstance(turn[0], str):  # a question and its answer
                text, number = self._text(turn[0], number)
                turn = [text, *turn[1:]]
            changed.append(turn)
        return self._joined(changed), number

    def _joined(self, turns: list[object]) -> list[object]:
        """Join turns of images alone with those of the same user beside them, as OpenAI's own examples have them."""
        joined: list[object] = []
        parts_of_last: list[object] = []
        last_alone = False
        for turn in turns:
            alone = _shows_alone(turn)
            if (alone or last_alone) and joined and _is_users(turn) and _is_users(joined[-1]):
                parts_of_last += _parts(turn)
                joined[-1] = {**turn, "content": parts_of_last}
                last_alone, self.joined = alone and last_alone, True
            else:
                joined.append(turn)
                last_alone, parts_of_last = alone, list(_parts(turn)) if _is_users(turn) else []
        return joined

    def _place_of(self, own: Source) -> int:
        """Return the number of an image that a part holds, which several parts may."""
        if not self._places:
            self._places = {source: number for number, source in reversed([*enumerate(self.sources)])}
        if own not in self._places:
            self._places[own] = len(self.sources)
            self.sources.append(own)
        return self._places[own]

    def _turn(self, turn: Fields, number: int) -> tuple[Fields, int]:
        name = next((name for name in ("content", "value", "parts") if not is_nothing(turn.get(name))), None)
        if name is None:
            return turn, number
        speaker = str(turn.get("role", turn.get("from"))).lower()
        within: Callable[[str, int], tuple[str, int]] = self._text
        if ROLES.get(speaker) == "assistant":  # in whose turns a marker is text
            within = _unchanged
        content = turn[name]
        if isinstance(content, str):
            content, number = within(content, number)
        elif isinstance(content, list | dict):
            listed = content if isinstance(content, list) else [content]
            changed = []
            for part in listed:
                if isinstance(part, dict):
                    part, number = self._part(part, number, within)
                changed.append(part)
            content = changed if any(new is not old for new, old in zip(changed, listed, strict=True)) else content
        return {**turn, name: content}, number

    def _part(self, part: Fields, number: int, within: Callable[[str, int], tuple[str, int]]) -> tuple[Fields, int]:
        if not _is_image(part):
            text = part.get("text")
            if not isinstance(text, str) or MARKER not in text:
                return part, number
            text, number = within(text, number)
            return {**part, "text": text}, number
        own = sources.own(part)
        index = part.get("index")
        if own is not None:
            place = self._place_of(own)
        elif isinstance(index, int) and not isinstance(index, bool):
            place = index
        else:
            place, number = number, number + 1
        if own is None and not 0 <= place < self._in_column:
            raise RowError(f"image missing: a turn shows image {place + 1}, and the row has {self._in_column}")
        return {"type": "text", "text": parts.mark(place)}, number

    def _text(self, text: str, number: int) -> tuple[str, int]:
        """Mark the images of a text, which are those of the column from ``number`` on."""
        if not self._has_column or MARKER not in text:
            return text, number
        before, *after = text.split(MARKER)
        if not self._in_column:
            self.markers += len(after)
            return text, number
        marked = [parts.mark(number + place) + rest for place, rest in enumerate(after)]
        return before + "".join(marked), number + len(after)


def _is_users(turn: object) -> TypeGuard[Fields]:
    return isinstance(turn, dict) and turn.keys() == {"role", "content"} and turn["role"] == "user"


def _shows_alone(turn: object) -> bool:
    """Tell whether a turn of a user has nothing but images."""
    texts = [part.get("text") if isinstance(part, dict) else None for part in _parts(turn)] if _is_users(turn) else []
    return bool(texts) and all(isinstance(text, str) and parts.MARK.fullmatch(text) for text in texts)


def _parts(turn: Fields) -> list[Any]:
    content = turn["content"]
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _unchanged(text: str, number: int) -> tuple[str, int]:
    return text, number
