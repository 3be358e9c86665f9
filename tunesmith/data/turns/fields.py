"""The fields of a turn: those that are read, those that describe it, and the marks that it is not to be learnt.

A field outside of these lists that holds a value refuses the row: it may change what the turn says.
"""

from collections.abc import Mapping

from tunesmith.data.records import RowError

Raw = Mapping[str, object]
"""A turn, or a part of one, as a file holds it."""

REASONING = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts")
"""Names of the field with an assistant's thoughts, in the order in which they are looked for."""
FLAGS = {
    **dict.fromkeys(("weight", "loss_weight", "loss", "loss_mask", "compute_loss", "has_loss"), False),
    **dict.fromkeys(("train", "trainable", "is_trainable", "training", "train_on_turn", "do_train", "learn"), False),
    **dict.fromkeys(("train_mask", "supervised", "is_target", "to_train"), False),
    **dict.fromkeys(("masked", "is_masked", "no_loss", "ignore", "ignore_loss", "skip", "exclude", "frozen"), True),
}
"""Marks of whether a turn is trained; True for those that say that it is not."""
READ = {
    *("role", "from", "content", "value", "parts", "name", "tool_name", "tool_calls", "function_call"),
    *("tool_call_id", "reasoning_details", *REASONING, *FLAGS),
}
DESCRIBING = {
    *("id", "uuid", "message_id", "msg_id", "turn_id", "conversation_id", "parent_id", "parent", "children", "user_id"),
    *("index", "idx", "turn", "turn_index", "turn_identifier", "position", "number", "step", "rank"),
    *("timestamp", "time", "date", "created", "created_at", "create_time", "update_time", "updated_at", "datetime"),
    *("model", "model_name", "model_slug", "lang", "language", "tokens", "num_tokens", "token_count", "length"),
    *("finish_reason", "stop_reason", "end_turn", "usage", "source", "hash", "type", "object", "status", "state"),
}
"""Fields that say when, where and by whom a turn was written, and are not trained."""
UNSUPPORTED = "audio and video are not supported; write what they say, or show frames as images"
NOTHING: tuple[object, ...] = (None, "", [], {})


def is_nothing(value: object) -> bool:
    """Tell whether a value says nothing: null, NaN, and empty text, lists and objects."""
    return value in NOTHING or value != value


def check(turn: Raw, position: int) -> list[str]:
    """Return the describing fields that hold a value. Raises RowError for a field outside of all lists that does."""
    unread = [name for name in turn if name not in READ and not is_nothing(turn[name])]
    lost = next((name for name in unread if name not in DESCRIBING), None)
    if lost is not None:
        raise RowError(
            f"field lost: {lost!r} of turn {position} would not reach the model; if it says nothing, name it in "
            "data.<dataset>.ignore"
        )
    return unread


def reasoning(turn: Raw, position: int) -> str:
    """Return an assistant's thoughts, "" where the turn has none. Raises RowError for two that differ."""
    found = [turn[name] for name in REASONING if name in turn and not is_nothing(turn[name])]
    if not found and not is_nothing(turn.get("reasoning_details")):
        details = turn["reasoning_details"]
        texts = [detail.get("text", detail.get("summary")) for detail in details if isinstance(detail, dict)] if (
            isinstance(details, list)
        ) else []  # fmt: skip
        found = ["".join(text for text in texts if isinstance(text, str))]
    if not all(isinstance(text, str) for text in found):
        raise RowError(f"wrong type: the reasoning of turn {position} is not text")
    thoughts = list(dict.fromkeys(str(text).strip() for text in found))
    if len(thoughts) > 1:
        raise RowError(f"field lost: turn {position} has reasoning in several fields, and they differ")
    return thoughts[0] if thoughts else ""


def train(turn: Raw, position: int) -> bool | None:
    """Return whether a turn is marked as trained; None without a mark. Raises RowError for marks of another kind."""
    marks = set()
    for name, value in turn.items():
        if name not in FLAGS or is_nothing(value):
            continue
        mark = _truth(value)
        if mark is None:
            raise RowError(
                f"wrong type: {name!r} of turn {position} is {value!r}, and a turn is either trained (1) or not (0)"
            )
        marks.add(mark is not FLAGS[name])
    if len(marks) > 1:
        raise RowError(f"wrong type: the marks of turn {position} say both that it is trained and that it is not")
    return marks.pop() if marks else None


def _truth(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}.get(value.lower())
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    return None
