"""What home and the nodes send each other, as plain data: a job, and the events of its course."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tunesmith.core.dvc_store import Address, Tree


@dataclass(frozen=True)
class Job:
    """A stage to run on a cluster.

    Its code and params travel beside it (`plan.parcel_files`), and everything else by digest.
    """

    target: str
    """The name of the stage for `dvc repro`."""
    module: str
    """The stage's module, such as stages.train_sft."""
    arguments: tuple[str, ...]
    run: str
    """A UUID of this run, which names its folders on the nodes and in the store."""
    store: Address
    inputs: Tree
    """The files that the stage reads, and its earlier outputs that it updates in place."""
    outs: tuple[str, ...]
    """Files and folders that the stage writes."""
    model: str | None
    """The model that the stage trains; None for any other stage."""
    code: tuple[str, ...]
    """The files of the parcel that go into the stage's workspace."""
    variables: Mapping[str, str]
    """Environment variables of the stage's process, in every attempt."""
    cpus: int
    """CPUs of a worker."""
    gpus: float
    """GPUs of a worker."""
    workers: int
    restarts: int
    """How often a group of workers may start again after one was lost."""
    terminal: tuple[int, int] | None
    """Lines and columns of home's terminal; None where it has none."""
    grace: float
    """Seconds that an interrupted stage has to end by itself."""
    checkpoints: "Saved"

    def part(self, arguments: tuple[str, ...], inputs: Tree) -> "Job":
        """The same stage on other arguments and inputs."""
        return replace(self, arguments=arguments, inputs=inputs)


@dataclass(frozen=True)
class Saved:
    """The newest checkpoint that the store has. part: the folder of the store. step: of the training; 0 for none."""

    part: str
    step: int = 0
    files: Tree = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """A group of workers starts. run: a UUID of this attempt, from which the journal's key follows.

    nodes: the addresses of its machines. step: of the checkpoint that it goes on from; 0 for none.
    """

    run: str
    nodes: tuple[str, ...] = ()
    step: int = 0


@dataclass(frozen=True)
class Output:
    """Bytes that the stage printed. stream: 1 or 2."""

    stream: int
    data: bytes


@dataclass(frozen=True)
class Lines:
    """Bytes that the training added to its journal, in this attempt."""

    run: str
    data: bytes


@dataclass(frozen=True)
class Fetched:
    """Bytes of inputs that a node took from the store, since its cache lacked them."""

    size: int


@dataclass(frozen=True)
class Note:
    """A line about the course of the job, for the user."""

    text: str


@dataclass(frozen=True)
class Done:
    """A stage has ended. status: its exit status. outs: its outputs, all of which are in the store.

    sent: the bytes of them that the store lacked. last_words: the end of what a rank wrote whose output is not shown.
    """

    status: int
    outs: Tree
    sent: int = 0
    rank: int = 0
    last_words: str = ""


Event = Attempt | Output | Lines | Fetched | Note | Saved | Done


class Desk:
    """A mailbox on the cluster: workers leave events, home takes them, and asks the workers through it to stop.

    An actor; it ends with home's connection, and with it all that runs for the job.
    """

    def __init__(self, saved: Saved) -> None:
        self._events: list[Event] = []
        self._saved, self._stop = saved, False

    def tell(self, events: list[Event]) -> bool:
        """Leave events; return whether the stage is to be interrupted."""
        self._events += events
        for event in events:
            if isinstance(event, Saved):
                self._saved = event
        return self._stop

    def take(self) -> list[Event]:
        """Take the events since the last call."""
        taken, self._events = self._events, []
        return taken

    def newest(self) -> Saved:
        """The newest checkpoint that the store has."""
        return self._saved

    def stop(self) -> None:
        """Ask for the stage to be interrupted, as by Ctrl-C."""
        self._stop = True
