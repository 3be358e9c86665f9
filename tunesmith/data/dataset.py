"""The params of a data set, and the conversion of one of its records to a ready row."""

import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeAlias

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from tunesmith.core.errors import ParamsError
from tunesmith.core.params import Section
from tunesmith.core.ready_rows import Row, RowKind
from tunesmith.data import conversations, layouts
from tunesmith.data.chat_formats import RowError
from tunesmith.data.contamination import HeldOut
from tunesmith.data.layouts import Layout
from tunesmith.data.records import Fields
from tunesmith.data.splits import Share, Splits
from tunesmith.verifiers.names import VerifierName

JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
Name: TypeAlias = Literal[
    "prompt", "completion", "chosen", "rejected", "messages", "text", "reference", "verifier", "system"
]


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
    """What a row teaches: answers, preferences or scored. Left out of params.yaml, it is the kind that
    the trainings and suites that use the data set learn from; where nothing asks for one, each row's own."""
    columns: dict[Name, Annotated[str, AfterValidator(_compiles)]] | None = None
    """For each name, a column of the file or a Jinja template over its columns; null recognises common layouts
    (`tunesmith/data/layouts.py`)."""
    system: str | None = None
    """System message for every prompt without one; null leaves it to the chat template."""
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
    splits: Splits = Splits()
    group: Annotated[str, AfterValidator(_compiles)] | None = None
    """A column, or a Jinja template over columns, whose value decides the split, such as customer_id: no value is in
    two splits. null: the conversation's first turn decides."""
    near_copies: Annotated[float, Field(gt=0, le=1)] | None = 0.7
    """Share of the text of a validation or test prompt from which a training row that has it counts as its near copy,
    and is set aside; null: never. Text that more than five groups have is an instruction, and does not count."""
    limit: Limit = Limit()
    max_bad_share: Share = 0.01
    """Stop when more than this share of the rows is bad. Duplicates and rows of an evaluation set are not bad."""

    def to_row(self, fields: Fields) -> tuple[Layout, Row]:
        """Return the layout of a record and its ready row, without its id. Raises RowError for an unusable record."""
        if self.columns is not None:
            fields = self._map(fields)
        layout = layouts.recognise(fields, self.kind)
        if layout is None:
            raise layouts.unrecognised(fields, self.kind or "answers")
        if layout.kind is not None and fields.get("tools"):
            raise RowError("field lost: the row defines tools, which would not reach the chat template")
        row = layout.to_row(fields)
        row["prompt"] = conversations.with_system(row["prompt"], fields)
        if self.verifier is not None and "verifier" not in row and layout.kind != "preferences":
            row["verifier"] = self.verifier
        if self.kind == "scored" and "completion" in row:
            row = self._to_scored(row)
        if self.system and row["prompt"][0]["role"] != "system":
            row["prompt"] = [{"role": "system", "content": self.system}, *row["prompt"]]
        return layout, row

    def group_of(self, fields: Fields) -> str | None:
        """Return the value that decides a record's split, None without `group`. Raises RowError where it is missing."""
        if self.group is None:
            return None
        if self._group_template is None:
            return conversations.column_text(fields, self.group)
        text = _render(self._group_template, fields, "group")
        return conversations.column_text({"group": text}, "group")

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
        reference = row["completion"][-1]["content"]
        return {"prompt": row["prompt"], "verifier": row["verifier"], "reference": reference}


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
