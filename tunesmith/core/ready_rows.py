"""Ready rows, samples and other JSON on disk: their types, reading, and writing whole or not at all."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, Required, TypedDict, cast

import jiter
import orjson

from tunesmith.core import files
from tunesmith.core.errors import DataError

RowKind = Literal["answers", "preferences", "marks", "scored"]
REASONING_TAG = r"(?:\w+:)?(?:think|thinking|thought|reasoning)"
OPENED_REASONING = re.compile(rf"\s*<({REASONING_TAG})>")
CLOSED_REASONING = re.compile(rf"</({REASONING_TAG})>")


class Function(TypedDict):
    """The function that a tool call names."""

    name: str
    arguments: dict[str, object]
    """The arguments by name, as JSON values."""


class ToolCall(TypedDict):
    """A call of a tool, in the form of OpenAI's API but for its arguments, which are an object there as JSON text."""

    type: Literal["function"]
    id: NotRequired[str]
    """The id that the result of the call names."""
    function: Function


class Tool(TypedDict):
    """A tool that may be called."""

    type: Literal["function"]
    function: dict[str, object]
    """The tool's name, description and parameters, the latter as a JSON schema."""


class TextPart(TypedDict):
    """A text between images."""

    type: Literal["text"]
    text: str


class ImagePart(TypedDict):
    """An image of a user's or a tool's turn; width and height are in pixels."""

    type: Literal["image"]
    image: str
    """SHA-256, in hex, of its file in the folder `images` beside the rows (`layout.image`)."""
    width: int
    height: int


class Message(TypedDict):
    """A turn of a conversation."""

    role: str
    """The speaker: system, user, assistant or tool."""
    content: str | list[TextPart | ImagePart]
    """The text of the turn, empty where an assistant does nothing but call tools; parts where it has images."""
    reasoning: NotRequired[str]
    """The assistant's thoughts before the content, without the tags that a template puts around them."""
    tool_calls: NotRequired[list[ToolCall]]
    """Calls of an assistant's turn, after its content."""
    tool_call_id: NotRequired[str]
    """The id of the call that a tool's turn answers."""
    name: NotRequired[str]
    """The name of the tool whose turn this is."""
    train: NotRequired[bool]
    """Whether an assistant's turn of the prompt is trained; absent where the training decides (`turns`)."""


class Conversation(NamedTuple):
    """A prompt with its completion, and the tools that may be called in both."""

    prompt: list[Message]
    completion: list[Message]
    tools: list[Tool] | None = None


class Row(TypedDict, total=False):
    """A ready row: a prompt with a completion, which may be marked, with two, or with a verifier and its columns.

    The columns after ``verifier`` have the types that verifiers accept. Nothing has checked them: they are the JSON of
    the data set's author, and a verifier reads them as `Mapping[str, object]`.
    """

    id: str
    """64 bits, in hex, of the SHA-256 of the rest of the row; absent until the row is written."""
    prompt: Required[list[Message]]
    """The conversation to answer, with at most one system message, at its start."""
    tools: list[Tool]
    """The tools that an answer may call; absent where there are none."""
    completion: list[Message]
    """The answer to learn, or that is marked, one assistant's turn. Its calls before a tool's last result are in the
    prompt."""
    chosen: list[Message]
    """The better of two answers, one assistant's turn."""
    rejected: list[Message]
    """The worse of two answers, one assistant's turn."""
    verifier: str
    """The name of the verifier that scores an answer."""
    dataset: str
    """The data set that a row of a mixture is from."""

    reference: object
    """The right answer, most often text; a list of accepted answers or a JSON object for verifiers that take one."""
    choices: list[object]
    """Texts of the options of a multiple-choice question, in the order of their letters."""
    entry_point: str
    """The name of the function that a program must define."""
    test: str
    """HumanEval's test: the text of a function `check(candidate)` that asserts."""
    cases: list[object]
    """Calls of the function with their results, each {args, kwargs, expected}."""
    tolerance: float
    """The absolute difference up to which two floats of a case are equal."""
    instructions: list[str]
    """Ids of IFEval's instructions, such as punctuation:no_comma."""
    settings: list[dict[str, object] | None] | None
    """The arguments of each of the instructions, in their order; null for an instruction without any."""
    schema: dict[str, object] | bool
    """The JSON schema that an answer must be valid under."""
    label: bool | str
    """Of a marked answer, whether it is good; for the verifier `refusal`, whether a prompt is safe or unsafe."""
    task: str
    """The task of lm-eval that a prompt is from, in a suite that is a group of tasks."""
    pattern: str
    """The regular expression, in RE2's syntax, that an answer must match."""
    anywhere: bool
    """Whether the pattern may match a part of the answer instead of all of it."""
    min_words: int
    """The fewest words, separated by white space, of an answer."""
    max_words: int
    """The most words of an answer."""
    min_characters: int
    """The fewest Unicode code points of an answer, without the white space around it."""
    max_characters: int
    """The most Unicode code points of an answer, without the white space around it."""


Part = Literal["prompt", "completion", "chosen", "rejected"]
PARTS: tuple[Part, ...] = ("prompt", "completion", "chosen", "rejected")
"""Columns of a ready row that hold messages."""


class ReferenceRow(TypedDict):
    """Log-probabilities, in nats, that DPO's reference policy gives the completions of a pair."""

    id: str
    """The id of the pair's ready row."""
    chosen: float
    rejected: float


class Sample(TypedDict):
    """A model's answer to the prompt of a row, graded: a line of samples.jsonl."""

    suite: str
    """The name of the suite."""
    row: Row
    """The row's id, prompt and the columns that the verifier reads, with ``reference`` filled in where the right answer
    is the row's completion; null there where nothing is compared with."""
    rendered: str
    """SHA-256, in hex, of the prompt as the model got it."""
    completion: str
    """The model's answer; empty where nothing was generated."""
    tokens: int | None
    """Tokens of the answer, the end of turn included; null where nothing was generated."""
    stopped: bool | None
    """Whether the model ended its turn; null where nothing was generated."""
    well_formed: bool | None
    """Whether the answer is in the trained format; null where none is asked for or nothing was generated."""
    score: float
    """The verdict's score, 0 to 1; in a suite that is a task of lm-eval, the task's metric, more being better."""
    answer: str | None
    """The answer that the verifier found in the completion; null where it found none."""
    reason: str
    """The verdict's reason, in words."""
    status: Literal["scored", "no_answer", "not_gradable"]
    """Whether the answer was graded: without an answer it scores 0, and what is not gradable leaves the mean."""


class Repeat(Sample):
    """A further answer of the base to a prompt that it has answered: a line of repeats.jsonl."""

    time: int
    """0 for the first repetition, in batches of the same size; 1 for the second, in batches of another."""
    batch_size: int
    """The number of prompts answered at once."""


def read(path: Path, *, may_be_empty: bool = False) -> list[Row]:
    """The ready rows of a split, as `prepare_data` wrote them. Raises DataError where there are none but may not be."""
    try:
        rows: list[Row] = [jiter.from_json(line) for line in path.read_bytes().splitlines()]
    except ValueError as error:
        fix = "`dvc checkout` brings back what the stage wrote, `dvc repro --force` writes it again"
        raise DataError(f"{path}: not the JSON lines that a stage writes: {error}", fix=fix) from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", fix="`dvc repro` writes it") from None
    if not rows and not may_be_empty:
        raise DataError(
            f"{path}: this split has no rows",
            fix="give the split a share in params.yaml, data.<dataset>.splits and .limit, or name another dataset",
        )
    return rows


def read_reference(path: Path) -> list[ReferenceRow]:
    """Log-probabilities of pairs, as `reference` wrote them. Raises DataError where there are none."""
    return cast("list[ReferenceRow]", read(path))


def read_samples(path: Path) -> list[Sample]:
    """The samples of a model, as `evaluate` wrote them. Raises DataError where there are none."""
    return cast("list[Sample]", read(path))


def read_repeats(path: Path) -> list[Repeat]:
    """The base's further answers, as `evaluate` wrote them; empty where params ask for none."""
    return cast("list[Repeat]", read(path, may_be_empty=True))


def reference(row: Mapping[str, object]) -> str:
    """The text that a verifier compares an answer with: the row's `reference`, or else its own completion."""
    if "reference" in row:
        value = row["reference"]
        return dumps(value).decode() if isinstance(value, list | dict) else str(value)
    return answer_text(cast("list[Message]", row["completion"])[-1])


def asked(row: Mapping[str, Any]) -> Row:
    """What an answer is given to: the row's prompt, and the tools that it may call."""
    return {"prompt": row["prompt"], "tools": row["tools"]} if "tools" in row else {"prompt": row["prompt"]}


def answer_text(message: Message) -> str:
    """The answer of an assistant's turn without its reasoning: its calls as JSON, or else its content."""
    return calls_text(message["tool_calls"]) if "tool_calls" in message else content_text(message)


def content_text(message: Message) -> str:
    """The content of a turn without its images."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content if part["type"] == "text")


def calls_text(calls: list[ToolCall]) -> str:
    """Tool calls as a JSON list of {name, arguments}, without their ids and with sorted keys."""
    return json.dumps([call["function"] for call in calls], ensure_ascii=False, sort_keys=True)


def texts(message: Message) -> Iterator[str]:
    """All that a turn says: its reasoning, its content and its calls."""
    if len(message) > 2:
        if "reasoning" in message:
            yield message["reasoning"]
        if "tool_calls" in message:
            yield calls_text(message["tool_calls"])
    yield content_text(message)


def split_reasoning(text: str) -> tuple[str, str]:
    """The reasoning and the answer of an assistant's text; the reasoning is empty where no tag marks any. The opening
    tag may be missing, since a prompt may end with it; without a closing one there is no answer yet."""
    opened = OPENED_REASONING.match(text)
    closings = list(CLOSED_REASONING.finditer(text)) if "</" in text else []
    if closings and (opened is None or closings[-1][1] == opened[1]):
        closed = closings[-1]
        return text[opened.end() if opened else 0 : closed.start()].strip(), text[closed.end() :].lstrip()
    return (text[opened.end() :].strip(), "") if opened else ("", text)


def dumps(value: object) -> bytes:
    """JSON in UTF-8 on one line. Values that JSON cannot express become text; integers keep all their digits."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a file of one JSON object a line, UTF-8, whole or not at all."""
    files.write_bytes(path, b"".join(dumps(row) + b"\n" for row in rows))


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a file of indented JSON, UTF-8, whole or not at all."""
    files.write_bytes(path, orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
