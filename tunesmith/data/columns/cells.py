"""Cells that are not what they look like: turns written as text, words for nothing, and remains of templates."""

import re

from tunesmith.core.ready_rows import PARTS, Row
from tunesmith.data.columns.names import ANSWERS, CHATS, CONTEXTS, HISTORIES, INPUTS, PROMPTS, REJECTED, SYSTEMS
from tunesmith.data.records import Fields, RowError
from tunesmith.data.turns import calls

CONVERSATIONS = {
    *(*CHATS, *PROMPTS, *ANSWERS, *REJECTED, *HISTORIES, "chosen", "preferred_output", "non_preferred_output", "text")
}
"""Columns that may hold turns, also as text: tables have no other way to hold them."""
TURNS = re.compile(r"\s*(?:array\()?\[?\s*\{")
SPEAKER = re.compile(r"""["'](?:role|from)["']\s*:\s*["']""")
SAID = re.compile(r"""["'](?:content|value|tool_calls)["']\s*:""")
LOOKED_AT = 4000
"""Characters of a cell in which a first turn is looked for."""
OPENING = ("[", "{", "a", " ", "\n")
BETWEEN_TURNS = re.compile(r"\}\s*\n\s*\{")
"""Where NumPy breaks the line between two objects, without a comma."""
NOTHING = frozenset({"nan", "NaN", "NAN", "-nan", "-NaN", "<NA>", "NaT", "<noinput>", "<no input>", "<noInput>"})
"""Texts that stand for no value wherever they are a whole cell."""
MAYBE_NOTHING = frozenset({"None", "none", "null", "NULL", "Null", "N/A", "n/a", "NA", "#N/A", "#NA", "N.A."})
"""Texts that stand for no value in a CSV, where pandas reads them so, and in a column that a prompt can do without."""
OPTIONAL = {*INPUTS, *CONTEXTS, *SYSTEMS}
ESCAPED_BREAK = re.compile(
    r"(?<!\\)\w*[\w.,;!?)\"'] ?\\n(?!(?:eq|e|u|abla|ot|i|mid|parallel|cong|less|geq|leq|earrow|warrow|ewline)\b)"
)
Remark = tuple[str, str]
"""What was read otherwise than written, or looks wrong, and the text in which."""
PLACEHOLDER = re.compile(r"\{\{ ?[A-Za-z_][\w. ]{0,40}\}\}")


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
            elif len(value) < 12 and _is_word_for_nothing(name, value.strip(), fields, table=table):
                changed[name] = None
                remarks.append((f"a word for nothing in {name!r}, read as no value", value))
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
    if text in NOTHING:
        return True
    if text not in MAYBE_NOTHING:
        return False
    return table or (name in OPTIONAL and any(fields.get(other) for other in PROMPTS if other != name))


def _turns(name: str, text: str) -> object:
    """Return the turns that a text holds; None for any other text."""
    start = text[:LOOKED_AT]
    if not TURNS.match(start) or not SPEAKER.search(start):
        return None
    plain = text.strip()
    if plain.startswith("array(") and plain.endswith(")"):
        plain = plain.removeprefix("array(").removesuffix(")").removesuffix("dtype=object").rstrip().rstrip(",")
    for candidate in (plain, BETWEEN_TURNS.sub("}, {", plain)):
        value = calls.json_value(candidate)
        if not isinstance(value, str):
            return value if _holds_turns(value) else None
    if not SAID.search(start):
        return None
    raise RowError(f"wrong type: {name!r} begins as a list of turns, and is neither JSON nor Python of one")


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
            text = message["content"]
            if "{{" in text and (placeholder := PLACEHOLDER.search(text)):
                found.append((f"a placeholder in the {part}", placeholder[0]))
            if "\\n" in text and "\n" not in text and (escaped := ESCAPED_BREAK.search(text)):
                found.append((f"\\n as two characters in the {part}, where a line break may be meant", escaped[0]))
    return found
