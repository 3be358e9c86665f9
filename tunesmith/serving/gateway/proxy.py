"""The current engine behind a name of the public address, and what /health says of it."""

import math
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol, TypedDict

from tunesmith.core.params import TemplateKwargs
from tunesmith.core.ready_rows import Message, Tool
from tunesmith.serving.gateway.requests import Chat, Completion


class ServedVersion(TypedDict):
    """The served version, as /health shows it."""

    version: str
    """The number of the version."""
    trained: str
    """The name of the model, such as sft-lora."""
    digest: str
    """The digest of the model folder's manifest."""
    engine: str
    """The kind of the engine."""
    dtype: str
    """The dtype of the weights, such as "bfloat16"."""


class FailedVersion(TypedDict):
    """A champion that could not take over."""

    version: str
    """The number of the version."""
    reason: str
    """The error."""


class HealthReport(TypedDict):
    """The content of /health, whether or not a version is served."""

    model: str
    """The name of the registered model."""
    alias: str | None
    """The alias that is followed; null for a fixed version."""
    failed: FailedVersion | None
    """The champion that could not take over, if any."""
    retrying: list[str]
    """Messages of transient errors whose step will be retried."""


class AvailableReport(ServedVersion, HealthReport):
    """The content of /health while a version is served."""

    status: Literal["serving"]
    since: str
    """The time at which the version took over, UTC, in ISO 8601."""
    in_flight: int
    """The number of requests in flight."""


class UnavailableReport(HealthReport):
    """The content of /health while no version is served."""

    status: Literal["unavailable"]
    reason: str
    """The reason for refusing requests."""


class Reader(Protocol):
    """Counts the tokens of prompts (`tunesmith.serving.gateway.prompts`)."""

    context: int

    @property
    def reads_images(self) -> bool:
        """Whether the model reads images."""

    def count(self, request: Chat | Completion) -> int: ...

    def encode(
        self, prompt: list[Message], tools: list[Tool] | None, template_kwargs: TemplateKwargs | None
    ) -> list[int]: ...

    def decode(self, tokens: list[int]) -> str: ...


@dataclass(eq=False)
class Upstream:
    """A running engine that requests are passed on to."""

    socket: Path
    """The Unix socket of the engine."""
    name: str
    """The model name that the engine serves under."""
    served: ServedVersion
    reader: Reader
    """Counts the tokens of a prompt."""
    template_kwargs: list[TemplateKwargs] = field(default_factory=list)
    """The values of the chat template's variables that the version was evaluated with, its defaults first; requests may
    set these variables to no others."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    """The time at which the engine took over."""
    in_flight: int = 0
    """The number of requests that are not answered to the end."""
    generated: float = field(default_factory=time.monotonic)
    """The time of the last sign that the engine generates, in the time of `time.monotonic`."""
    lost: bool = False
    """Whether a request found no engine there, and none was answered since."""
    missed_checks: int = 0
    """Health checks that the engine missed in a row."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self) -> "Upstream":
        """Count one request more in flight."""
        with self._lock:
            self.in_flight += 1
        return self

    def release(self) -> None:
        """Count one request less in flight."""
        with self._lock:
            self.in_flight -= 1

    def progressed(self) -> None:
        """Note that a part of an answer has arrived."""
        self.generated, self.lost = time.monotonic(), False

    def silence(self) -> float:
        """Return the seconds since the last part of an answer. An idle engine is asked for one now and then."""
        return time.monotonic() - self.generated


class Proxy:
    """The current engine, and the content of /health. Its methods may be called from any thread."""

    def __init__(self, name: str, alias: str | None, stall_seconds: float = math.inf) -> None:
        """name, alias: the registered model and the alias that is followed, if any; requests may name either.

        stall_seconds: the silence of an engine (`Upstream.silence`) after which it does not count as serving.
        """
        self.name, self.alias, self.stall_seconds = name, alias, stall_seconds
        self.current: Upstream | None = None
        self.unavailable_reason = "no model is up yet"
        """The reason for refusing requests while there is no current engine."""
        self.failed: FailedVersion | None = None
        """The champion that could not take over, if any."""
        self.retrying: list[str] = []
        """Messages of transient errors whose step will be retried."""
        self._lock = threading.Lock()

    def switch(self, upstream: Upstream | None, reason: str = "") -> Upstream | None:
        """Send new requests to another engine, or refuse them for a reason. Returns the previous engine, to drain."""
        with self._lock:
            previous, self.current, self.unavailable_reason = self.current, upstream, reason
        return previous

    @property
    def label(self) -> str:
        """The name that tells it from other aliases: <registered model>@<alias>, or the registered model's."""
        return f"{self.name}@{self.alias}" if self.alias else self.name

    def names(self) -> list[str]:
        """Return what requests may call the version that is served here, beside the name of the registered model."""
        names = [self.current.name] if self.current else []
        return [*names, self.alias, self.label] if self.alias else names

    def acquire(self, model: str) -> Upstream | None:
        """Return the current engine, with one more request in flight, if ``model`` names what it serves."""
        with self._lock:
            return self.current.hold() if self.current and model in (self.name, *self.names()) else None

    def health(self) -> AvailableReport | UnavailableReport:
        current = self.current
        if current is None or current.lost or current.silence() > self.stall_seconds:
            return {
                "status": "unavailable",
                "model": self.name,
                "alias": self.alias,
                "reason": _fault(current) if current else self.unavailable_reason,
                "failed": self.failed,
                "retrying": self.retrying,
            }
        return {
            "status": "serving",
            "model": self.name,
            "alias": self.alias,
            **current.served,
            "since": current.since.isoformat(timespec="seconds"),
            "in_flight": current.in_flight,
            "failed": self.failed,
            "retrying": self.retrying,
        }


def _fault(upstream: Upstream) -> str:
    return f"{upstream.name} {'cannot be reached' if upstream.lost else 'generates nothing'}"
