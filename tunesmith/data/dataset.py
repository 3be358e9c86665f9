"""The params of a data set, and the conversion of one of its records to a ready row."""

import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, cast

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator, Field, FiniteFloat, NonNegativeInt, PositiveInt

from tunesmith.core.errors import ParamsError
from tunesmith.core.params import Section
from tunesmith.core.ready_rows import PARTS, Row, RowKind, answer_text, content_text
from tunesmith.data import layouts, marks, row_builders, row_kinds
from tunesmith.data.columns import cells, names, prompts, unused
from tunesmith.data.images import markers
from tunesmith.data.images.settings import Images
from tunesmith.data.images.sources import Source
from tunesmith.data.layouts import Layout
from tunesmith.data.records import Fields, RowError
from tunesmith.data.repeats.contamination import HeldOut
from tunesmith.data.splits import Share, Splits
from tunesmith.data.turns import calls, tags
from tunesmith.data.turns.fields import is_nothing
from tunesmith.verifiers.names import VerifierName

MOST_SHOWN = 30
"""Most rows that a page of a data set shows as they are rendered."""
JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
Name: TypeAlias = Literal["prompt", "completion", "chosen", "rejected", "messages", "text", "reference", "verifier",
                          "system", "label", "rating", "tools", "images"]  # fmt: skip


def _compiles(value: str) -> str:
    try:
        JINJA.from_string(value)
    except TemplateError as error:
        raise ValueError(f"not a Jinja template ({error})") from None
    return value


def _within_folder(pattern: str) -> str:
    parts = PurePosixPath(pattern).parts
    if not parts or ".." in parts or pattern.startswith("/"):
        raise ValueError("not a pattern of files below the folder `path`, such as chat-*.jsonl")
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("`**` stands for whole folders, as in **/*.jsonl")
    return pattern


class Reading(NamedTuple):
    """A record read as a ready row."""

    layout: Layout
    row: Row
    """The ready row, without its id."""
    remarks: list[cells.Remark]
    """What was read otherwise than written, and what looks like the remains of a template."""
    unused: list[str]
    """What of the record is not in the row: columns, and fields of turns, that describe it."""
    images: list[Source]
    """Where the images are whose marks the prompt has, by their numbers."""


class Limit(Section):
    """Greatest number of rows of each split, chosen by hash; null takes all."""

    train: NonNegativeInt | None = None
    validation: NonNegativeInt | None = None
    test: NonNegativeInt | None = None


class Dataset(Section):
    path: Path
    """A file of rows, or a folder whose files are read together, those in folders below it too."""
    files: Annotated[str, AfterValidator(_within_folder)] | None = None
    """Pattern of the files to read in the folder, such as chat-*.jsonl.gz or **/train-*.parquet; null reads every file
    of a known format that is not hidden."""
    source: str | None = None
    """Place that the files were downloaded from, hub:OWNER/NAME@COMMIT:PART, for the lineage; nothing reads it."""
    kind: RowKind | None = None
    """What a row teaches: answers, preferences, marks or scored. Left out of params.yaml, it is the kind that
    the trainings and suites that use the data set learn from; where nothing asks for one, each row's own."""
    columns: dict[Name, Annotated[str, AfterValidator(_compiles)]] | None = None
    """For each name, a column of the file or a Jinja template over its columns; null recognises common layouts
    (`tunesmith/data/layouts.py`)."""
    ignore: list[str] = Field(default_factory=list)
    """Columns, and fields of turns, that say nothing which should be learnt. Others with text that no part of a ready
    row uses set their row aside."""
    reasoning: Literal["train", "drop", "refuse"] = "train"
    """Thoughts of the assistant, in a field of their own or between tags: train renders them as the chat template does,
    with the mask on them where they are of a trained turn; drop leaves them out; refuse sets their rows aside."""
    system: str | None = None
    """System message for every prompt without one; null leaves it to the chat template."""
    neutral_rating: FiniteFloat | None = None
    """Rating that is neither good nor bad, such as 3 of 1 to 5: an answer rated higher is marked good, one rated lower
    bad, and one rated so is set aside. null: rows with ratings are refused; booleans, thumbs and the like need none."""
    verifier: VerifierName | None = None
    """Verifier that must give full marks to every row's own answer. Rows that name a verifier keep theirs."""
    one_answer: bool = True
    """Rows that answer the same prompt differently contradict each other, and are set aside."""
    near_duplicates: Annotated[float, Field(gt=0, le=1)] | None = None
    """Jaccard similarity (over runs of eight bytes) to an earlier row from which a row is set aside; null: never."""
    personal_data: Literal["count", "mask", "set_aside", "ignore"] = "count"
    """What becomes of e-mail addresses, telephone and payment card numbers, IBANs and secrets: count (rows stay, and
    the report says how many), mask (a placeholder stands for each), set_aside, or ignore (they are not sought)."""
    phone_regions: tuple[str, ...] = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR")
    """Regions whose national telephone numbers are found, by ISO 3166-1; international ones (+49 …) always are."""
    held_out: HeldOut = HeldOut()
    """Evaluation rows; a row of this data set that matches one is set aside."""
    max_length: PositiveInt | None = None
    """Longest row in tokens, prompt and completion; a longer one is set aside. null: the base model's context."""
    images: Images = Images()
    splits: Splits = Splits()
    group: Annotated[str, AfterValidator(_compiles)] | None = None
    """A column, or a Jinja template over columns, whose value decides the split, such as customer_id: no value is in
    two splits. null: the conversation's first turn decides."""
    near_copies: Annotated[float, Field(gt=0, le=1)] | None = 0.7
    """Share of the text of a validation or test prompt from which a training row that has it counts as its near copy,
    and is set aside; null: never. Text that more than five groups have is an instruction, and does not count."""
    limit: Limit = Limit()
    page_rows: Annotated[int, Field(ge=0, le=MOST_SHOWN)] = 10
    """Rows that the page of the data set shows as the chat template renders them; 0 leaves the text of rows out of it,
    of those set aside too."""
    max_bad_share: Share = 0.01
    """Stop when more than this share of the rows is bad. Duplicates and rows of an evaluation set are not bad."""

    def to_row(self, fields: Fields, *, table: bool = False) -> Reading:
        """Read a record as a ready row, without its id. Raises RowError for an unusable record.

        table: whether it is from a CSV.
        """
        left: list[str] = []
        given = fields
        if self.columns is not None:
            left = [f"column {name!r}" for name in fields if name not in self._taken and not is_nothing(fields[name])]
            fields = self._map(fields)
        fields, remarks = cells.read(self._without_ignored(fields), table=table)
        fields, sources, again, joined = markers.take(fields)
        remarks += joined
        layout = layouts.recognise(fields, self.kind)
        if layout is None or layout.kind is None:
            cells.check_filled(fields, remarks)
        if layout is None:
            raise layouts.unrecognised(fields, self.kind or "answers")
        unused.check_media(fields)
        row = layout.to_row(fields)
        row = _with_tools(self._judge(row) if layout.kind == "marks" else row, fields)
        row["prompt"] = prompts.with_system(row["prompt"], fields)
        grouped = [name for name in fields if name in self.group] if self.group else []
        left += unused.account(fields, {*layout.uses(fields), *grouped} if grouped else layout.uses(fields), row)
        row = self._with_verifier(row)
        if self.kind == "scored" and "completion" in row:
            row = self._to_scored(row)
        if self.system and row["prompt"][0]["role"] != "system":
            row["prompt"] = [{"role": "system", "content": self.system}, *row["prompt"]]
        if self.reasoning != "train":
            row = self._without_reasoning(row)
        if sources:
            row, unmarked = markers.place(row, len(sources))
            remarks += [(markers.UNMARKED, "")] if unmarked else []
        elif left:
            remarks += unused.unshown(self._without_ignored(given), left)
        return Reading(layout, row, [*remarks, *cells.remarks(row)], left + again, sources)

    def _without_ignored(self, fields: Fields) -> Fields:
        if not self.ignore:
            return fields
        return {
            name: [_without(turn, self.ignore) for turn in value] if isinstance(value, list) else value
            for name, value in fields.items()
            if name not in self.ignore
        }

    def _with_verifier(self, row: Row) -> Row:
        if row.get("verifier") == row_builders.UNNAMED:
            if self.verifier is None:
                raise RowError("no verifier: an answer could not be scored; name one in data.<dataset>.verifier")
            row["verifier"] = self.verifier
        elif self.verifier and "verifier" not in row and row_kinds.kind_of(row) not in ("preferences", "marks"):
            row["verifier"] = self.verifier
        return row

    def _without_reasoning(self, row: Row) -> Row:
        """Leave out the reasoning of all turns, or raise RowError for a row with reasoning."""
        changed = row.copy()
        for part in PARTS:
            messages = row.get(part, [])
            if any("reasoning" in message for message in messages):
                if self.reasoning == "refuse":
                    raise RowError("reasoning: the assistant's turn reasons, and data.<dataset>.reasoning refuses that")
                changed[part] = [_without(message, ["reasoning"]) for message in messages]
        return changed

    def _judge(self, row: Row) -> Row:
        """Return a marked row with its mark as a boolean or, where the data set teaches answers, a good one without."""
        good = marks.is_good(cast("bool | float", row["label"]), self.neutral_rating)
        if self.kind in (None, "marks"):
            return {"prompt": row["prompt"], "completion": row["completion"], "label": good}
        if not good:
            raise RowError("marked bad: the answer is not one to imitate")
        del row["label"]
        return row

    def group_of(self, fields: Fields) -> str | None:
        """Return the value that decides a record's split, None without `group`. Raises RowError where it is missing."""
        if self.group is None:
            return None
        template = self._group_template
        value = fields.get(self.group) if template is None else _render(template, fields, "group")
        text = "" if is_nothing(value) or isinstance(value, list | dict) else str(value).strip()
        if not text:
            raise RowError(f"missing field: no value in {self.group!r} (data.<dataset>.group)")
        return text

    def keeps_rows(self, split: str) -> bool:
        """Return whether a split has a share of the rows, and its limit is not 0."""
        shares = {"validation": self.splits.validation, "test": self.splits.test}
        share = shares.get(split, 1 - sum(shares.values()))
        return share > 0 and getattr(self.limit, split) != 0

    def named_columns(self) -> set[str]:
        """Return the columns of the file that `columns` and `group` name, apart from those within templates."""
        named = [*(self.columns or {}).values(), *([self.group] if self.group else [])]
        return {value for value in named if not _is_template(value)}

    @cached_property
    def _taken(self) -> str:
        """The text of `columns` and `group`, in which the columns of the file are named that they take."""
        return " ".join([*(self.columns or {}).values(), self.group or ""])

    @cached_property
    def _templates(self) -> dict[str, Template]:
        return {name: JINJA.from_string(value) for name, value in (self.columns or {}).items() if _is_template(value)}

    @cached_property
    def _group_template(self) -> Template | None:
        return JINJA.from_string(self.group) if self.group and _is_template(self.group) else None

    def _map(self, fields: Fields) -> Fields:
        mapped: Fields = {}
        for name, value in (self.columns or {}).items():
            if name in self._templates:
                mapped[name] = _render(self._templates[name], fields, f"columns.{name}")
            elif fields.get(value) is None:
                raise RowError(f"missing field: no value in {value!r}")
            else:
                mapped[name] = fields[value]
        return mapped

    def _to_scored(self, row: Row) -> Row:
        if self.verifier is None:
            raise RowError("no verifier: an answer could not be scored; name one in data.<dataset>.verifier")
        kept = {name: value for name, value in row.items() if name in ("prompt", "tools", "verifier", "choices")}
        return cast("Row", {**kept, "reference": row.get("reference", answer_text(row["completion"][-1]))})


def _without(value: Any, names: list[str]) -> Any:
    """Leave fields out of an object; anything else stays as it is."""
    return {name: part for name, part in value.items() if name not in names} if isinstance(value, dict) else value


def _with_tools(row: Row, fields: Fields) -> Row:
    """Add the tools that a row may call, from its column or from the words of Hermes' system message."""
    found = next((fields[name] for name in names.TOOLS if not is_nothing(fields.get(name))), None)
    tools = [] if found is None else calls.definitions(found)
    first, *turns = row["prompt"]
    if first["role"] == "system" and "<tools>" in (text := content_text(first)):
        system, within = tags.tools(text)
        tools = tools or within
        if within:
            row["prompt"] = [{"role": "system", "content": system}, *turns] if system else turns
    if tools:
        row["tools"] = tools
    return row


def check_name(name: str) -> str:
    """Return ``name`` if params.yaml and dvc.yaml can use it for a data set, else raise ParamsError."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ParamsError(
            f"data.{name}: not a name that a stage can have",
            fix="begin with a letter, go on with letters, digits, - and _",
        )
    return name


def _render(template: Template, fields: Fields, param: str) -> str:
    try:
        text = template.render(fields)
        text.encode()
    except Exception as error:  # a filter may raise anything
        raise RowError(f"template failed: data.<dataset>.{param}: {error}") from None
    return text


def _is_template(value: str) -> bool:
    return re.search(r"\{[{%]", value) is not None
