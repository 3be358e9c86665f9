"""Cells that are not what they look like: turns written as text, words for nothing, and remains of templates."""

import re

from tunesmith.core.ready_rows import PARTS, Row, content_text
from tunesmith.data import marks
from tunesmith.data.columns.names import (
    ANSWERS,
    CHATS,
    CHOICES,
    CONTEXTS,
    HISTORIES,
    IMAGES,
    INPUTS,
    MEDIA,
    PROMPTS,
    REJECTED,
    SYSTEMS,
)
from tunesmith.data.records import Fields, RowError
from tunesmith.data.turns import calls

CONVERSATIONS = {
    *(*CHATS, *PROMPTS, *ANSWERS, *REJECTED, *HISTORIES, "chosen", "preferred_output", "non_preferred_output", "text")
}
"""Columns that may hold turns, also as text: tables have no other way to hold them."""
LISTS = {
    **dict.fromkeys((*HISTORIES, *CHOICES, *IMAGES, *MEDIA, *marks.LISTS, *marks.ORDERED, *marks.COMPARED), ("[", "{")),
    **dict.fromkeys(SYSTEMS, ("[",)),  # an object may be meant as text
}
"""Columns that may hold a list, also as text, with the beginnings of such a text."""
TURNS = re.compile(r"\s*(?:array\()?\[?\s*\{")
SPEAKER = re.compile(r"""["'](?:role|from)["']\s*:\s*["']""")
SAID = re.compile(r"""["'](?:content|value|tool_calls)["']\s*:""")
LOOKED_AT = 4000
"""Characters of a cell in which a first turn is looked for."""
PARTS_OF_TEXT = re.compile(r"""["']type["']\s*:\s*["'](?:input_|output_)?text["']""")
OPENING = ("[", "{", "a", " ", "\n", '"')
BETWEEN_TURNS = re.compile(r"\}\s*\n\s*\{")
"""Where NumPy breaks the line between two objects, without a comma."""
NOTHING = frozenset(
    {"nan", "NaN", "NAN", "-nan", "-NaN", "<NA>", "NaT", "<noinput>", "<no input>", "<no_input>", "<none>", "<null>"}
)
"""Texts that stand for no value wherever they are a whole cell."""
MAYBE_NOTHING = frozenset({"None", "none", "null", "NULL", "Null", "N/A", "n/a", "NA", "#N/A", "#NA", "N.A.",
                           "noinput", "no input", "No input", "No Input", "[no input]", "undefined"})  # fmt: skip
"""Texts that stand for no value in a CSV, where pandas reads them so, and in a column that a prompt can do without."""
OPTIONAL = {*INPUTS, *CONTEXTS, *SYSTEMS}
ESCAPED_BREAK = re.compile(
    r"(?<!\\)\w*(?:[\w.,;!?)\"'] ?(?:\\r)?|:(?=\\n[\s\d*\\-]))\\n"
    r"(?!(?:eq|e|u|abla|ot|i|mid|parallel|cong|less|geq|leq|earrow|warrow|ewline)\b)"
)
Remark = tuple[str, str]
"""What was read otherwise than written, or looks wrong, and the text in which."""
NULL_ARGUMENT = "a null as an argument of a call, as tables write it where only other rows have a value"
NAMES = ("name", "author", "user", "username", "user_name", "company", "date", "city", "assistant", "bot_name")
PLACEHOLDER = re.compile(
    r"\{\{ ?[A-Za-z_][\w. ]{0,40}\}\}|\$\{[A-Za-z_]\w{0,40}\}|\[\[[A-Za-z_][\w ]{0,40}\]\]|"
    rf"\[(?:[Yy]our|[Ii]nsert) [^\]\n]{{1,40}}\]|\{{(?:{'|'.join(NAMES)})\}}|\[(?:{'|'.join(NAMES).upper()})\]"
)
BEGINNINGS = ("{{", "${", "[[", "[Your ", "[your ", "[Insert ", "[insert ", *(f"{{{name}}}" for name in NAMES),
              *(f"[{name.upper()}]" for name in NAMES))  # fmt: skip
"""One of these is in every text with a placeholder: a cheap test that most texts fail."""


def read(fields: Fields, *, table: bool = False) -> tuple[Fields, list[Remark]]:
    """Return the fields with turns in place of text that holds them and nulls in place of words for nothing.

    Also returns what was read otherwise than written. table: whether the row is from a CSV, where no cell is a null.
    Raises RowError for text that begins as turns and is none.
    """
    changed: Fields = {}
    remarks: list[Remark] = []
    for name, value in fields.items():
        if type(value) is str:
            if name in CONVERSATIONS and value[:1] in OPENING and (turns := _turns(name, value)) is not None:
                changed[name] = turns
                remarks.append((f"turns written as text in {name!r}, read as turns", value))
            elif name in LISTS and value[:1] in LISTS[name] and not isinstance(listed := calls.json_value(value), str):
                changed[name] = listed
                remarks.append((f"a list written as text in {name!r}, read as a list", value))
            elif len(value) < 12 and _is_word_for_nothing(name, value.strip(), fields, table=table):
                changed[name] = None
                remarks.append((f"a word for nothing in {name!r}, read as no value", value))
            elif len(value) < 12 and name in ANSWERS and value.strip() in MAYBE_NOTHING:
                remarks.append((f"{value.strip()!r} in {name!r}, which may be a word for nothing", value))
        elif type(value) is dict and name in CONVERSATIONS:
            changed[name] = value
    if not changed:
        return fields, remarks
    fields = fields | changed
    for name, value in changed.items():
        fields |= _unwrapped(name, value, fields)
    return fields, remarks


def check_filled(fields: Fields, remarks: list[Remark]) -> None:
    """Raise RowError for a row that cannot be used, where a word for nothing stands for what it lacks."""
    for name, text in remarks:
        column = name.partition("'")[2].partition("'")[0]
        if fields.get(column) is None and column in CONVERSATIONS:
            raise RowError(f"missing field: {text.strip()!r} in {column!r} is a word for nothing")


def _is_word_for_nothing(name: str, text: str, fields: Fields, *, table: bool) -> bool:
    if text in NOTHING or (text[:1] == "<" and text.lower() in NOTHING):
        return True
    if text not in MAYBE_NOTHING:
        return False
    return table or (name in OPTIONAL and any(fields.get(other) for other in PROMPTS if other != name))


def _turns(name: str, text: str) -> object:
    """Return the turns that a text holds; None for any other text."""
    start = text[:LOOKED_AT]
    plain = text.strip()
    if start[:1] == '"':  # written as JSON twice
        inner = calls.json_text(plain)
        return None if inner is None else _turns(name, inner)
    if not TURNS.match(start):
        return None
    if not SPEAKER.search(start):
        return _text_of_parts(plain) if PARTS_OF_TEXT.search(start) else None
    if plain.startswith("array(") and plain.endswith(")"):
        plain = plain.removeprefix("array(").removesuffix(")").removesuffix("dtype=object").rstrip().rstrip(",")
    for candidate in (plain, BETWEEN_TURNS.sub("}, {", plain)):
        value = calls.json_value(candidate)
        if not isinstance(value, str):
            value = list(value) if isinstance(value, tuple) else value  # turns on lines of their own
            return value if _holds_turns(value) else None
    if not SAID.search(start):
        return None
    raise RowError(f"wrong type: {name!r} begins as a list of turns, and is neither JSON nor Python of one")


def _text_of_parts(text: str) -> str | None:
    """Return what a list of parts of text says, such as [{"type": "text", "text": …}]; None for any other text."""
    value = calls.json_value(text)
    parts = [part.get("text") if isinstance(part, dict) else None for part in calls.listed(value)]
    return "".join(map(str, parts)) if parts and all(isinstance(part, str) for part in parts) else None


def _holds_turns(value: object) -> bool:
    """Tell a turn, a list of turns, or an object with one, from any other value."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(turn, dict) and _is_turn(turn) for turn in value)
    return isinstance(value, dict) and (_is_turn(value) or any(_holds_turns(value.get(name)) for name in CHATS))


def _is_turn(value: Fields) -> bool:
    return ("role" in value and bool(value.keys() & {"content", "tool_calls"})) or {"from", "value"} <= value.keys()


def _unwrapped(name: str, value: object, fields: Fields) -> Fields:
    """Return the columns that an object in the place of turns stands for: a turn, or a conversation with its tools."""
    if not isinstance(value, dict):
        return {}
    inner = next((key for key in CHATS if isinstance(value.get(key), list)), None)
    if inner is None:
        return {name: [value]} if value.keys() & {"role", "from"} else {}
    others = {key: part for key, part in value.items() if key != inner and part is not None}
    clash = next((key for key in others if fields.get(key) not in (None, others[key])), None)
    if clash is not None:
        raise RowError(f"column left out: {clash!r} is a column and within {name!r}, and they differ")
    return {name: value[inner]} | others


def remarks(row: Row) -> list[Remark]:
    """Return what of a ready row looks like the remains of a template or of an export."""
    found: list[Remark] = []
    for part in PARTS:
        for message in row.get(part, ()):
            text = content_text(message)
            if absent := [
                name
                for call in message.get("tool_calls", ())
                for name, value in call["function"]["arguments"].items()
                if value is None
            ]:
                found.append(
                    ("a null as an argument of a call, as tables write where only other rows have it", absent[0])
                )
            if "<image>" in text and message["role"] != "assistant":
                found.append((f"<image> as text in the {part}, and no image beside it", "<image>"))
            begun = ("{" in text or "[" in text) and any(beginning in text for beginning in BEGINNINGS)
            if begun and (placeholder := PLACEHOLDER.search(text)):
                found.append((f"a placeholder in the {part}", placeholder[0]))
            if "\\n" in text and "\n" not in text and (escaped := ESCAPED_BREAK.search(text)):
                found.append((f"\\n as two characters in the {part}, where a line break may be meant", escaped[0]))
    return found
