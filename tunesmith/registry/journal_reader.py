"""Read and validate a training journal while it grows, within fixed limits.

In a container the stage writes its own journal, so nothing in it is trusted: an event that no training writes is
refused by its line.
"""

import posixpath
from typing import Annotated, BinaryIO, cast

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from tunesmith.core.errors import ContainerError
from tunesmith.core.journal import Event, StartEvent

CHUNK = 2**20
"""Bytes of one read."""
MAX_START_BYTES, MAX_LINE_BYTES = 2**16, 2**22
"""Size limits of the first line, and of every other one."""
MAX_JOURNAL_BYTES = 2**30
"""Size limit of a journal: enough for millions of steps."""
MAX_QUANTITIES = 256
"""Limit on the distinct quantities of all steps, validations and the end together."""


def _check_normalized(name: str) -> str:
    if posixpath.normpath(name) != name or name.startswith((".", "/")):
        raise ValueError("the tracker would take it for another name, or for a path that leads out")
    return name


Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]
Name = Annotated[str, StringConstraints(pattern=r"^[\w ./:-]+$", max_length=200), AfterValidator(_check_normalized)]
"""The name of a quantity: valid for the tracker, also with the prefix that publishing puts before it."""
Time = Annotated[int, Field(ge=0, lt=10**14)]
"""Milliseconds since 1970, up to the year 5138."""


class _Event(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    event: str
    time: Time


class _Start(_Event):
    key: Key
    model: Text
    method: Text
    device: Text
    params: dict[str, dict[str, JsonValue]]


class _Step(_Event, extra="allow"):
    __pydantic_extra__: dict[Name, float | None]
    step: Annotated[int, Field(ge=0, lt=2**53)]


class _End(_Event, extra="allow"):
    __pydantic_extra__: dict[Name, JsonValue]


PUBLISHED: dict[str, type[_Event]] = {"start": _Start, "step": _Step, "validation": _Step, "end": _End}
"""The schema of each event that is published. Every other event is checked for its name and time, and skipped."""


class JournalReader:
    """Reads the journal ``file`` as it grows. Where a model and a key are given, it must be the journal of those.

    start: the first event. time: the last event's, in milliseconds. ended: whether the `end` was read. caught_up:
    whether the last read reached the end of the file.
    """

    def __init__(self, file: BinaryIO, model: str | None = None, key: str | None = None) -> None:
        self.start: StartEvent = {}
        self.time, self.ended, self.caught_up = 0, False, False
        self._file, self._expected = file, {"model": model, "key": key}
        self._rest, self._size, self._line, self._names = b"", 0, 1, set[str]()

    def read(self) -> list[Event]:
        """Return the published events among the next CHUNK bytes at most.

        Raises ContainerError for an event that no training writes; nothing after it can be read.
        """
        chunk = self._file.read(CHUNK)
        self.caught_up = len(chunk) < CHUNK
        self._size += len(chunk)
        if self._size > MAX_JOURNAL_BYTES:
            raise self._refused(f"the journal has more than {MAX_JOURNAL_BYTES} bytes")
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = [self._parse(line) for line in lines]
        if len(self._rest) > MAX_LINE_BYTES:
            raise self._refused(f"has more than {MAX_LINE_BYTES} bytes")
        return [event for event in events if event["event"] in PUBLISHED]

    def _parse(self, line: bytes) -> Event:
        limit = MAX_LINE_BYTES if self.start else MAX_START_BYTES
        if len(line) > limit:
            raise self._refused(f"has more than {limit} bytes")
        try:
            value = orjson.loads(line)
            kind = value.get("event") if isinstance(value, dict) else None
            event = cast("Event", PUBLISHED.get(str(kind), _Event).model_validate(value).model_dump())
        except ValidationError as error:
            raise self._refused(_first_problem(error)) from None
        except orjson.JSONDecodeError as error:
            raise self._refused(f"is not JSON: {error}") from None
        self._check(event)
        self._line += 1
        return event

    def _check(self, event: Event) -> None:
        """Check the order of events, the model and key of the start, and the number of quantities."""
        kind = event["event"]
        if self.ended or (kind == "start") == bool(self.start):
            raise self._refused("a journal begins with `start`, has no other, and closes with `end`")
        if event["event"] == "start":
            for name, value in (("model", event["model"]), ("key", event["key"])):
                if (expected := self._expected[name]) is not None and value != expected:
                    raise self._refused(f"its {name} is {value[:100]!r}, and must be {expected!r}")
            self.start = event
        else:
            self._names |= {f"{kind}/{name}" for name in event}
        if len(self._names) > MAX_QUANTITIES:
            raise self._refused(f"steps, validations and end have more than {MAX_QUANTITIES} quantities")
        self.time, self.ended = event["time"], kind == "end"

    def check_ended(self) -> None:
        """Raise ContainerError where the journal, read as far as it goes, stops before its `end`."""
        if not self.ended:
            raise self._refused("the journal stops before its `end`")

    def _refused(self, reason: str) -> ContainerError:
        model = f" of {self._expected['model']}" if self._expected["model"] else ""
        return ContainerError(
            f"the journal{model} is refused: line {self._line}: {reason}",
            fix="no training writes that: look at what else the stage runs",
        )


def _first_problem(error: ValidationError) -> str:
    """The place and message of the first error; the place is cut short, since a hostile name may be long."""
    problem = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, problem["loc"]))[:100]
    return f"{place!r}: {problem['msg']}"
