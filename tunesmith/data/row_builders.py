"""The builders of ready rows, one for each form of layout (`tunesmith/data/layouts.py`).

Each takes the fields of a record and the names of its layout's columns. Raises RowError where the record is bad.
"""

from tunesmith.core.ready_rows import Message, Row
from tunesmith.data import marks
from tunesmith.data.columns import prompts
from tunesmith.data.columns.prompts import column_messages, column_text, prompt_messages
from tunesmith.data.conversations import answers_row, preferences_row, scored_row, strip_after_transcript
from tunesmith.data.records import Fields, RowError
from tunesmith.data.turns import markup, messages
from tunesmith.data.turns.fields import REASONING, is_nothing
from tunesmith.verifiers import catalog

VERIFIED = {"gsm8k": "number", "math": "math"}
"""Verifiers of public data sets, by a word in the name of the data set that a row is from."""
UNNAMED = "none named"
"""Verifier of a row that brings a right answer alone; `data.<dataset>.verifier` takes its place."""


def answer(fields: Fields, prompt: str, completion: str, reference: str | None = None) -> Row:
    """Build the row of a prompt and its answer, which may be an option's letter and have its reasoning in a column."""
    options = prompts.choices(fields) if prompts.has_others(fields) else []
    if options and isinstance(place := fields[completion], int):
        fields = fields | {completion: prompts.option(place, options)}
    reply = strip_after_transcript(fields, prompt, column_messages(fields, completion, "assistant"))
    name = next((name for name in REASONING if not is_nothing(fields.get(name))), None)
    if name is not None:
        reply = [*reply[:-1], {**reply[-1], "reasoning": column_text(fields, name).strip()}]
    row = answers_row(prompt_messages(fields, prompt), reply)
    if options:
        row["choices"] = list[object](options)
    return row if reference is None else row | {"reference": column_text(fields, reference)}


def chat(fields: Fields, column: str) -> Row:
    """Build the row of a list of turns."""
    return _split_last(column_messages(fields, column, "user"))


def chat_as_text(fields: Fields, column: str) -> Row:
    """Build the row of a text with chat markup."""
    return _split_last(markup.from_text(column_text(fields, column)))


def chat_and_rejected(fields: Fields, column: str, rejected: str) -> Row:
    """Build the pair of a chat and another answer to its last question, or another chat."""
    chosen, other = column_messages(fields, column, "user"), column_messages(fields, rejected, "assistant")
    return preferences_row([], chosen, other if len(other) > 1 else [*chosen[:-1], *other])


def ranked_answers(fields: Fields, prompt: str, answers: str) -> Row:
    """Build the pair of the first and the last of a list of answers, which is ordered from the best."""
    ranked = fields[answers]
    assert isinstance(ranked, list)  # `is_ranking`
    sides = [column_messages({answers: side}, answers, "assistant") for side in (ranked[0], ranked[-1])]
    return preferences_row(prompt_messages(fields, prompt), *sides)


def is_ranking(answers: str, fields: Fields) -> bool:
    """Tell whether a column holds a list of texts."""
    value = fields[answers]
    return isinstance(value, list) and len(value) > 1 and all(isinstance(text, str) for text in value)


def chat_to_score(fields: Fields, column: str, reference: str) -> Row:
    """Build the row of a chat that ends with a question, and its right answer."""
    named = str(fields.get("dataset") or fields.get("data_source") or "").lower()
    verifier = next((name for word, name in VERIFIED.items() if word in named), "")
    value = fields[reference]
    right = value if isinstance(value, list | dict) else column_text(fields, reference)
    return scored_row(column_messages(fields, column, "user"), verifier or UNNAMED, reference=right)


def ends_with_question(column: str, fields: Fields) -> bool:
    value = fields[column]
    last = value[-1] if isinstance(value, list) and value else None
    return isinstance(last, dict) and str(last.get("role", last.get("from"))).lower() in ("user", "human", "tool")


def _split_last(turns: list[Message]) -> Row:
    """Build a row of answers whose last turn is the completion and whose other turns are the prompt."""
    if turns[-1]["role"] != "assistant":
        raise RowError(f"no assistant at the end: the last turn is the {turns[-1]['role']}'s")
    return answers_row(turns[:-1], turns[-1:])


def pair(fields: Fields, prompt: str, chosen: str, rejected: str) -> Row:
    """Build the pair of two answers, or of two conversations, to a prompt."""
    marks.check_pair(fields)
    sides = [
        strip_after_transcript(fields, prompt, _side(fields, column, has_prompt=True)) for column in (chosen, rejected)
    ]
    return preferences_row(prompt_messages(fields, prompt), *sides)


def pair_of_conversations(fields: Fields, chosen: str, rejected: str) -> Row:
    marks.check_pair(fields)
    return preferences_row([], *(_side(fields, column, has_prompt=False) for column in (chosen, rejected)))


def best_and_worst(fields: Fields, prompt: str, answers: str) -> Row:
    """Build the pair of the best and the worst of a list of rated answers."""
    return preferences_row(prompt_messages(fields, prompt), *marks.best_and_worst(fields, answers))


def is_rated(answers: str, fields: Fields) -> bool:
    """Tell whether a column holds answers with a rating or a rank of each."""
    return marks.is_list_of_rated(fields, answers)


def correction(fields: Fields, prompt: str, correction: str, draft: str) -> Row:
    """Build the row of a correction, without the draft."""
    return answer(fields, prompt, correction)


def criticised(fields: Fields, prompt: str, draft: str, critique: str, correction: str) -> Row:
    """Build the row of a draft, what is wrong with it, and the correction, which alone is trained."""
    turns = prompt_messages(fields, prompt)
    turns.append({"role": "assistant", "content": column_text(fields, draft), "train": False})
    turns.append({"role": "user", "content": column_text(fields, critique)})
    return answers_row(turns, column_messages(fields, correction, "assistant"))


def _side(fields: Fields, column: str, *, has_prompt: bool) -> list[Message]:
    """Return one side of a pair: a conversation, a transcript, or beside a prompt column the text of an answer."""
    value = fields.get(column)
    if isinstance(value, list):
        return messages.from_list(value)
    text = column_text(fields, column)
    if markup.has_markup(text, at_start=True):
        return markup.from_text(text)
    if not has_prompt:
        raise RowError("missing field: no prompt, neither as a column nor as turns within chosen and rejected")
    return [{"role": "assistant", "content": text}]


def scored(fields: Fields, prompt: str, verifier: str, reference: str | None = None) -> Row:
    """Build the row of a prompt that names its verifier; other fields that the verifier reads are kept as they are."""
    name = fields[verifier]
    needs = catalog.columns_read(name, fields) if isinstance(name, str) and name in catalog.VERIFIERS else {}
    if reference is not None:
        value = fields[reference]
        # Several right answers, or a JSON object, are kept where there is a verifier for them.
        needs["reference"] = value if needs and isinstance(value, list | dict) else column_text(fields, reference)
    return scored_row(prompt_messages(fields, prompt), name, **needs)


def instructions(fields: Fields, prompt: str, instructions: str, settings: str) -> Row:
    ids, values = fields[instructions], fields[settings]
    if not isinstance(ids, list) or not isinstance(values, list) or len(ids) != len(values) or not ids:
        raise RowError(f"wrong type: {instructions!r} and {settings!r} are not lists of the same length")
    return scored_row(column_messages(fields, prompt, "user"), "instructions", instructions=ids, settings=values)


def program(fields: Fields, prompt: str, solution: str, test: str, entry_point: str) -> Row:
    needs = {"test": column_text(fields, test), "entry_point": column_text(fields, entry_point)}
    turns = column_messages(fields, prompt, "user")  # code is not a transcript: it is kept to the last space
    return scored_row(turns, "code", reference=column_text(fields, solution), **needs)


def refusal(fields: Fields, prompt: str, label: str) -> Row:
    return scored_row(prompt_messages(fields, prompt), "refusal", label=fields[label])
