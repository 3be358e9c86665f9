"""Read a journal while it grows, within bounds, and believe none of it: in a container a stage writes its own."""

import posixpath
from typing import Annotated, Any, BinaryIO

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from tunesmith.core.errors import EngineError
from tunesmith.core.journal import Event

CHUNK = 2**20
"""Bytes that are read at once."""
START, LINE, SIZE = 2**16, 2**22, 2**30
"""Bytes of the first line, of any line, and of a journal, at most: millions of steps."""
NAMES = 256
"""Different quantities that steps and the end may have together."""


def _one_place(name: str) -> str:
    if posixpath.normpath(name) != name or name.startswith((".", "/")):
        raise ValueError("the tracker would take it for another name, or for a path that leads out")
    return name


Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]
Name = Annotated[str, StringConstraints(pattern=r"^[\w ./:-]+$", max_length=200), AfterValidator(_one_place)]
"""Of a quantity, as the tracker takes it, also with what publishing puts before it."""
Time = Annotated[int, Field(ge=0, lt=10**14)]
"""Milliseconds, until the year 5138."""


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


PUBLISHED: dict[str, type[_Event]] = {"start": _Start, "step": _Step, "end": _End}
"""What publishing takes of each event that it reads; of any other, nothing."""


class Tail:
    """Follows ``file``, a journal. It must be of this model under this key, where they are given.

    start: its first event. time: of the last one. ended: it came to its end. caught_up: nothing more is there for now.
    """

    def __init__(self, file: BinaryIO, model: str | None = None, key: str | None = None) -> None:
        self.start: Event = {}
        self.time, self.ended, self.caught_up = 0, False, False
        self._file, self._whose = file, {"model": model, "key": key}
        self._rest, self._size, self._line, self._names = b"", 0, 1, set[str]()

    def more(self) -> list[Event]:
        """What was added since the last call, of CHUNK bytes at most: those events that are published.

        Raises EngineError for what no training writes; nothing that comes after it can be read.
        """
        read = self._file.read(CHUNK)
        self.caught_up = len(read) < CHUNK
        self._size += len(read)
        if self._size > SIZE:
            raise self._refused(f"the journal has more than {SIZE} bytes")
        *lines, self._rest = (self._rest + read).split(b"\n")
        events = [self._event(line) for line in lines]
        if len(self._rest) > LINE:
            raise self._refused(f"has more than {LINE} bytes")
        return [event for event in events if event["event"] in PUBLISHED]

    def _event(self, line: bytes) -> Event:
        limit = LINE if self.start else START
        if len(line) > limit:
            raise self._refused(f"has more than {limit} bytes")
        try:
            found = orjson.loads(line)
            kind = found.get("event") if isinstance(found, dict) else None
            event = PUBLISHED.get(str(kind), _Event).model_validate(found).model_dump()
        except ValidationError as error:
            raise self._refused(_explained(error)) from None
        except orjson.JSONDecodeError as error:
            raise self._refused(f"is no JSON: {error}") from None
        self._check(event)
        self._line += 1
        return event

    def _check(self, event: Event) -> None:
        """Whether it may come where it comes, and is whose it must be."""
        kind = event["event"]
        if self.ended or (kind == "start") == bool(self.start):
            raise self._refused("a journal begins with `start`, has no other, and closes with `end`")
        if kind == "start":
            for name, expected in self._whose.items():
                if expected is not None and event[name] != expected:
                    raise self._refused(f"its {name} is {event[name][:100]!r}, and must be {expected!r}")
            self.start = event
        if kind != "start":
            self._names |= event.keys()
        if len(self._names) > NAMES:
            raise self._refused(f"steps and end have more than {NAMES} quantities")
        self.time, self.ended = event["time"], kind == "end"

    def check_whole(self) -> None:
        """Raises EngineError where what was read, all there is, is not a training from its start to its end."""
        if not self.ended:
            raise self._refused("the journal stops before its `end`")

    def _refused(self, reason: str) -> EngineError:
        of = f" of {self._whose['model']}" if self._whose["model"] else ""
        return EngineError(
            f"the journal{of} is refused: line {self._line}: {reason}",
            fix="no training writes that: look at what else the stage runs",
        )


def _explained(error: ValidationError) -> str:
    """The first thing that is wrong; what is hostile may be long."""
    problem: Any = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, problem["loc"]))[:100]
    return f"{place!r}: {problem['msg']}"
