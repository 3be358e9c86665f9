"""A job of a small stage, as home would send it, and the desk at which it is heard."""

import threading
from dataclasses import replace
from pathlib import Path

from tunesmith.core.dvc_store import Address, Store, plain_tree
from tunesmith.runtime.cluster.job import Attempt, Done, Event, Job, Lines, Output, Saved

RUN = "123e4567-e89b-42d3-a456-426614174000"
ATTEMPT = Attempt(RUN, ("10.0.0.7",))


def job(folder: Path, stage: str, *, model: str | None = None, inputs: dict[str, str] | None = None) -> Job:
    """A job whose stage is the given Python, with its code in ``folder``/parcel and its inputs in the store there."""
    for name, text in {"stages/__init__.py": "", "stages/small.py": stage}.items():
        (folder / "parcel" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "parcel" / name).write_text(text)
    for name, text in (inputs or {}).items():
        (folder / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "home" / name).write_text(text)
    tree = plain_tree(folder / "home", map(Path, inputs or {}))
    address = Address(str(folder / "shared"))
    Store(address).put({digest: folder / "home" / name for name, digest in tree.items()})
    return Job(
        target="small",
        module="stages.small",
        arguments=("x",),
        run=RUN,
        store=address,
        inputs=tree,
        outs=("models/x", "reports/x.json"),
        model=model,
        code=("stages/__init__.py", "stages/small.py"),
        variables={"GIVEN": "by home"},
        cpus=3,
        gpus=0,
        workers=1,
        restarts=1,
        terminal=None,
        grace=5,
        checkpoints=Saved(f"checkpoints/{RUN}"),
    )


def in_a_terminal(job: Job) -> Job:
    """The job of somebody who sits before a terminal."""
    return replace(job, terminal=(24, 80))


class Heard:
    """A desk that keeps the messages it receives. stop: have the stage interrupted once it has printed something."""

    def __init__(self, *, stop: bool = False) -> None:
        self.events: list[Event] = []
        self.stop, self.spoke = stop, threading.Event()

    def __call__(self, events: list[Event]) -> bool:
        self.events += events
        if any(isinstance(event, Output) for event in events):
            self.spoke.set()
        return self.stop and self.spoke.is_set()

    def text(self, stream: int) -> str:
        """What the stage printed."""
        parts = [event.data for event in self.events if isinstance(event, Output) and event.stream == stream]
        return b"".join(parts).decode()

    @property
    def journal(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, Lines))

    @property
    def saved(self) -> list[Saved]:
        return [event for event in self.events if isinstance(event, Saved)]

    @property
    def done(self) -> list[Done]:
        return [event for event in self.events if isinstance(event, Done)]
