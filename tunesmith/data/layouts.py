"""The common layouts of training data, recognised by their columns and turned into ready rows.

Rows of four kinds can train. Answers: a prompt and the answer to learn. Preferences: a prompt with a better and a
worse answer. Marks: a prompt and an answer that is good or bad, which is any layout of answers beside a column that
says so (`tunesmith/data/marks.py`). Scored: a prompt and the fields with which a verifier scores any answer. A layout
that cannot train is recognised too, so that the reason can be given. `LAYOUTS`, at the end, is the table of all.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from tunesmith.core.ready_rows import Row, RowKind
from tunesmith.data import marks
from tunesmith.data import row_builders as builders
from tunesmith.data.columns import names, prompts
from tunesmith.data.columns.names import ANSWERS, CHATS, PROMPTS, REJECTED
from tunesmith.data.records import Fields, RowError
from tunesmith.data.turns import markup
from tunesmith.data.turns.fields import REASONING, is_nothing


@dataclass(frozen=True)
class Layout:
    """Columns by which a row is recognised, and the ready row that it becomes."""

    kind: RowKind | None
    """Kind of the ready row; None for a layout that cannot train."""
    description: str
    """A row of the layout in one line; of a layout that cannot train, also the reason."""
    columns: tuple[str, ...]
    """Names of the columns that a row must have."""
    build: Callable[..., Row] | None = None
    """Builds the ready row from the record's fields and the names in ``columns``; None where ``kind`` is None."""
    only: Callable[[Fields], bool] | None = None
    """Condition that tells the layout from others with the same columns."""
    unmarked: "Layout | None" = None
    """The layout of the answers that this one marks."""

    def to_row(self, fields: Fields) -> Row:
        """Build the ready row without its id. Raises RowError where the record is bad or its layout cannot train."""
        if self.build is None:
            raise RowError(f"not trainable: {self.description}")
        return self.build(fields, *self.columns)

    @functools.cached_property
    def has_prompt(self) -> bool:
        """Whether its prompt is put together from all columns that a prompt may have."""
        return bool({*self.columns} & {*PROMPTS}) and self.build not in (builders.program, builders.instructions)

    @functools.cached_property
    def used(self) -> set[str]:
        """The columns that a row of this layout is made of, those beside its own included, except for options."""
        if self.unmarked is not None:
            return {*self.unmarked.used, *self.columns}
        thoughts = REASONING if self.build in (builders.answer, builders.correction) else ()
        compared = marks.COMPARED if self.kind == "preferences" else ()
        return {*self.columns, *(BESIDE_PROMPTS if self.has_prompt else BESIDE_CHATS), *thoughts, *compared}

    def uses(self, fields: Fields) -> set[str]:
        """Return the columns that a row of this layout is made of."""
        return {*self.used, *prompts.option_columns(fields)} if self.has_prompt and len(fields) > 3 else self.used


def recognise(fields: Fields, kind: RowKind | None = None) -> Layout | None:
    """Return the layout that can give rows of ``kind`` and uses the most of the columns that hold something.

    Of those that use the same, it is the first of `LAYOUTS`. A null counts as a missing column.
    """
    if None in fields.values():
        fields = {name: value for name, value in fields.items() if value is not None}
    filled = tuple(fields)
    if not all(fields.values()):
        filled = tuple(name for name, value in fields.items() if not is_nothing(value))
    for layout in _ranked(tuple(fields), filled, kind):
        if layout.only is None or layout.only(fields):
            mark = marks.find(fields) if layout.kind == "answers" else None
            if mark is None:
                return None if kind == "marks" else layout
            return _marked(layout, mark.columns, isinstance(mark.value, bool))
    return None


@functools.lru_cache(maxsize=1024)
def _marked(layout: Layout, columns: tuple[str, ...], decided: bool) -> Layout:
    """``layout`` whose answer is marked in ``columns``. Its rows have the mark or the rating itself as their label."""

    def build(fields: Fields, *_: str) -> Row:
        row, mark = layout.to_row(fields), marks.find(fields)
        assert mark is not None
        return cast("Row", row | {"label": mark.value})

    return Layout("marks", MARKED if decided else RATED, (*layout.columns, *columns), build, unmarked=layout)


@functools.lru_cache(maxsize=4096)
def _ranked(columns: tuple[str, ...], filled: tuple[str, ...], kind: RowKind | None) -> tuple[Layout, ...]:
    """Return the layouts whose columns are there, those first that leave out the least of ``filled``."""
    there = [layout for layout in _of_kind(kind) if set(layout.columns) <= set(columns)]
    return tuple(sorted(there, key=lambda layout: (layout.kind is None, len(_left_out(layout, filled)))))


def _left_out(layout: Layout, filled: tuple[str, ...]) -> list[str]:
    options = {form.format(label) for form in names.OPTION_COLUMNS for label in names.OPTION_LABELS}
    return [name for name in filled if name not in layout.used | options and not names.describes(name)]


@functools.cache
def _of_kind(kind: RowKind | None) -> tuple[Layout, ...]:
    """Return layouts that can give rows of ``kind`` (None: all). Answers can be marked, or have a verifier."""
    kinds = (kind, "answers") if kind in ("marks", "scored") else (kind,)
    return LAYOUTS if kind is None else tuple(layout for layout in LAYOUTS if layout.kind in kinds)


def unrecognised(fields: Fields, kind: RowKind) -> RowError:
    """Make the error for a row that no layout of ``kind`` fits: it names what the row lacks."""
    names = [name for name, value in fields.items() if value is not None]
    columns = f"the row has {', '.join(map(repr, names)) or 'nothing'}"
    other = recognise(fields)
    if other is not None and other.kind is not None:
        return RowError(f"wrong kind: {other.description}, among rows of kind {kind}")
    if other is not None and other.description == PLAIN_TEXT:
        return RowError(f"no turns: {PLAIN_TEXT}")
    nearest = _nearest(tuple(names), kind)
    missing = [name for name in nearest.columns if name not in names]
    if len(missing) == len(nearest.columns) or not missing:
        return RowError(f"unknown layout: {columns}")
    return RowError(f"missing field: no {' and no '.join(map(repr, missing))}; {columns}")


@functools.lru_cache(maxsize=1024)
def _nearest(columns: tuple[str, ...], kind: RowKind) -> Layout:
    """Return the layout of ``kind`` that lacks least of its columns."""
    return min(_of_kind(kind), key=lambda layout: (-len({*layout.columns} & {*columns}), len(layout.columns)))


def _each(
    kind: RowKind | None,
    description: str,
    columns: tuple[str | tuple[str, ...], ...],
    build: Callable[..., Row] | None,
    only: Callable[[str, Fields], bool] | None = None,
) -> Iterator[Layout]:
    """Yield a layout for each combination of names, where ``columns`` gives several names for a column.

    only: a condition on the last of the columns, or on the only one.
    """
    for chosen in itertools.product(*((name,) if isinstance(name, str) else name for name in columns)):
        yield Layout(kind, description, chosen, build, only and functools.partial(only, chosen[-1]))


BESIDE_CHATS = {*names.SYSTEMS, *names.TOOLS}
BESIDE_PROMPTS = {*BESIDE_CHATS, *names.HISTORIES, *names.CHOICES, *itertools.chain(*names.PROMPT_RANKS)}
"""Columns that rows of turns, and rows with a prompt column, use beside those of their layout."""
REFERENCES = ("reference", "ground_truth", *ANSWERS)
RIGHT = ("ground_truth", "reference", "reference_answer", "expected_answer", "correct_answer", "answer", "solution")
"""Columns with the right answer to a conversation that ends with a question."""
CHAT = "a chat that ends with the assistant's answer"
ONE_ANSWER = "a prompt with one right answer"
PAIR = "a prompt with a better and a worse answer"
RANKED = "a prompt with answers ordered from the best, of which the first and the last make a pair"
PROMPT_ALONE = "a prompt alone: nothing says what a good answer is"
PLAIN_TEXT = "a text that does not mark its speakers; no method here trains on plain text"
MARKED = "a prompt with one answer marked good or bad"
RATED = "a prompt with one rated answer"
RATED_LIST = "a prompt with several rated answers, of which the best and the worst make a pair"
CORRECTED = "a prompt with an answer and its correction"
CRITICISED = "a prompt with an answer, what is wrong with it, and the correction to learn"
DRAFTS = ("draft", "original", "original_response", "rejected_draft", *ANSWERS)
CRITIQUES = ("reflection", "critique", "criticism")
CORRECTIONS = (
    *("correction", "corrected", "corrected_response", "corrected_answer", "edited", "edited_response"),
    *("revision", "revised", "revised_response", "revision_response", "improved_response", "final", "final_response"),
)
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "scored",
        "the start of a program and the tests that it must pass",
        ("prompt", "canonical_solution", "test", "entry_point"),
        builders.program,
    ),
    Layout(
        "scored",
        "a prompt and the rules that an answer must keep",
        ("prompt", "instruction_id_list", "kwargs"),
        builders.instructions,
    ),
    # {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"} becomes
    # {"prompt": [user: 2 + 2?], "chosen": [assistant: 4], "rejected": [assistant: 5]}.
    *_each("preferences", PAIR, (PROMPTS, "chosen", "rejected"), builders.pair),
    Layout("preferences", PAIR, ("chosen", "rejected"), builders.pair_of_conversations),
    *_each(
        "preferences", RATED_LIST, (PROMPTS, (*marks.LISTS, *marks.ORDERED)), builders.best_and_worst, builders.is_rated
    ),
    # OpenAI's {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}, `input` unwrapped.
    Layout("preferences", PAIR, ("input", "preferred_output", "non_preferred_output"), builders.pair),
    # {"conversations": […], "chosen": {"from": …}, "rejected": {"from": …}}: LLaMA-Factory's ShareGPT.
    *_each("preferences", PAIR, (CHATS, "chosen", "rejected"), builders.pair),
    *_each(
        "preferences", "a chat and a worse answer to its last question", (CHATS, REJECTED), builders.chat_and_rejected
    ),
    *_each(
        "preferences",
        RANKED,
        (PROMPTS, ("output",)),
        builders.ranked_answers,
        builders.is_ranking,
    ),
    # {"question": "2 + 2?", "verifier": "number", "answer": "4"} becomes
    # {"prompt": [user: 2 + 2?], "verifier": "number", "reference": "4"}.
    *_each(
        "scored",
        "a prompt, its right answer, and the verifier to use",
        (PROMPTS, "verifier", REFERENCES),
        builders.scored,
    ),
    *_each("scored", "a prompt, and the verifier to use", (PROMPTS, "verifier"), builders.scored),
    # {"instruction": "2 + 2?", "output": "5", "reflection": "Wrong.", "corrected": "4"} trains 4 after all of them.
    *_each(
        "answers",
        CRITICISED,
        (PROMPTS, DRAFTS, CRITIQUES, CORRECTIONS),
        builders.criticised,
    ),
    # {"prompt": "2 + 2?", "draft": "5", "correction": "4"} teaches the correction, or as a pair that over the draft.
    *_each("answers", CORRECTED, (PROMPTS, CORRECTIONS, DRAFTS), builders.correction),
    *_each("preferences", CORRECTED, (PROMPTS, CORRECTIONS, DRAFTS), builders.pair),
    *(
        Layout(
            "scored",
            "a chat that ends with a question, and its right answer",
            (chat, right),
            builders.chat_to_score,
            functools.partial(builders.ends_with_question, chat),
        )
        for chat, right in itertools.product(CHATS, RIGHT)
    ),
    *_each("answers", CHAT, (CHATS,), builders.chat),
    # {"problem": "2 + 2?", "solution": "It is 4.", "answer": "4"} becomes
    # {"prompt": [user: 2 + 2?], "completion": [assistant: It is 4.], "reference": "4"}.
    *_each("answers", ONE_ANSWER, (PROMPTS, "solution", "answer"), builders.answer),
    # {"query": "2 + 2?", "response": "4"} becomes {"prompt": [user: 2 + 2?], "completion": [assistant: 4]}.
    Layout("answers", ONE_ANSWER, ("question", "answer"), builders.answer),
    Layout("answers", ONE_ANSWER, ("instruction", "output"), builders.answer),
    Layout("answers", ONE_ANSWER, ("query", "response"), builders.answer),
    Layout("answers", ONE_ANSWER, ("problem", "solution"), builders.answer),
    Layout("answers", ONE_ANSWER, ("input", "output"), builders.answer),
    *_each("answers", ONE_ANSWER, (PROMPTS, ANSWERS), builders.answer),
    Layout(
        "scored",
        "a prompt marked safe or unsafe to answer",
        ("prompt", "label"),
        builders.refusal,
        only=lambda fields: fields["label"] in ("safe", "unsafe"),
    ),
    Layout("answers", CHAT, ("text",), builders.chat, only=lambda fields: isinstance(fields["text"], list)),
    Layout(
        "answers",
        "a chat written as one text with markup",
        ("text",),
        builders.chat_as_text,
        only=lambda fields: isinstance(fields["text"], str) and markup.has_markup(fields["text"]),
    ),
    Layout(None, PLAIN_TEXT, ("text",)),
    *_each(None, PROMPT_ALONE, ((*PROMPTS, "chosen"),), None),
)
"""Every layout that is recognised without configuration; the first that fits is taken. `PROMPTS`, `ANSWERS` and
`REFERENCES` stand for each of their names; the usual pairs of a prompt and an answer precede all their combinations."""
