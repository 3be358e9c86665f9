"""The training journal: what happened, one JSON object a line, written as it happens.

It is the truth about a training; the tracking server is published to from it. Events, each with ``time`` in
milliseconds since the epoch:

start     {key, model, method, objective, weights, start, params, dataset, rows, device, predicted_memory_bytes}
          key: a name for this training, unique, in a container the host's; start: the model it starts from
signal    {mean, equal_groups}                            what a probe of a verifier's reward found
sample    {when: "before" | "after", prompt, completion}  a probe prompt answered
held_out  {when, pairs, accuracy, low, high, margin}      preference over held-out pairs
step      {step, loss, grad_norm, learning_rate, ...}     what the trainer logged; null for a value that is not finite
warning   {text}
end       {steps, seconds, peak_memory_bytes, trainable_parameters, total_parameters, tokens, costs}
          costs: seconds of this training and of every one that it builds on, by model
"""

import os
import time
import uuid
from pathlib import Path
from typing import Any

import orjson

NAME = "training.jsonl"
RUN = "TUNESMITH_RUN"
"""A variable that is set where no server can be reached, in a container: what the host, which publishes for it, calls
this run of a stage (a UUID).
"""

Event = dict[str, Any]


class Journal:
    """Appends events to a file, each line flushed so that a follower sees it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")

    def write(self, event: str, **fields: Any) -> None:
        if event == "start" and (run := os.environ.get(RUN)):
            fields["key"] = key(run, fields["model"])
        line = {"event": event, "time": time.time_ns() // 1_000_000, **fields}
        self._file.write(orjson.dumps(line) + b"\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def key(run: str, model: str) -> str:
    """The only key under which the host publishes the training of ``model`` in what it calls ``run``."""
    return uuid.uuid5(uuid.UUID(run), model).hex


def read(path: Path) -> list[Event]:
    """All whole events; a last line cut short by a kill is left out."""
    return parse(path.read_bytes())[0]


def parse(content: bytes) -> tuple[list[Event], bytes]:
    """Whole events in ``content``, and the bytes after the last newline."""
    *lines, rest = content.split(b"\n")
    return [orjson.loads(line) for line in lines if line], rest


def first(events: list[Event], kind: str) -> Event:
    """The first event of a kind; ``{}`` where there is none (a training cut short has no ``end``)."""
    return next((event for event in events if event["event"] == kind), {})
