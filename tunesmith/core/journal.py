"""The training journal: the events of a training, one JSON object a line, written as they happen.

It is the truth about a training; the tracking server gets a copy. A journal begins with `start`; `signal`, `sample`,
`held_out`, `step`, `validation` and `warning` follow as they happen; `end` closes a training that is done. One that
goes on from a checkpoint has the events up to there, then `resume`, so that each step is there once.
"""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NotRequired, Required, TypedDict, cast, overload

import orjson

from tunesmith.core import layout
from tunesmith.core.params import Objective, WeightsKind
from tunesmith.core.ready_rows import Message, Tool

NAME = "training.jsonl"


class LargestStep(TypedDict):
    """The largest step of a training, from which `planning.workload` predicts its memory."""

    batch: int
    """Packed sequences (sft), pairs (dpo, reward) or completions (the others) that go through the model at once."""
    length: int
    """Tokens of a packed sequence, or of a prompt with its longest completion."""
    completion: int
    """Tokens of ``length`` that are the completion; 0 for packed sequences."""
    labelled: int
    """Trained tokens in a batch of packed sequences; 0 where the number is unknown and may be all."""
    rollouts: int
    """Completions generated at once (rlhf, grpo)."""
    group: int
    """Completions for each prompt (rlhf, grpo)."""
    reference: bool
    """Whether a reference policy stays in memory for a KL term (rlhf, grpo); DPO computes its reference beforehand."""
    rank: int
    """The rank of the adapter; 0 for full weights."""
    device: str
    """The kind of device: cpu or cuda."""
    dtype_bytes: int
    """Bytes of a number in frozen weights and activations."""
    checkpointing: bool
    """Whether layers are recomputed in the backward pass."""
    shapes: NotRequired[int]
    """Numbers of tokens that batches of the training have, at most; 0 or absent where that is unknown."""
    accumulation: NotRequired[int]
    """Batches a step, whose gradients are summed; 1 in journals of earlier releases, except rlhf and grpo."""
    optimizer: NotRequired[str]
    """The optimizer as params.yaml names it; adamw in journals of earlier releases."""
    targets: NotRequired[list[str]]
    """The names of the linear layers with an adapter; empty for all of them, as in journals of earlier releases."""
    dora: NotRequired[bool]
    """Whether adapters learn magnitudes too (DoRA)."""
    embeddings: NotRequired[bool]
    """Whether the embedding and the output head train in full beside the adapter."""
    processes: NotRequired[int]
    """Processes that train together, each with such a batch; 1 in journals of earlier releases."""
    sharding: NotRequired[Literal["none", "full"]]
    """Whether they divide the weights among them."""
    image_tokens: NotRequired[int]
    """Tokens of images in a packed sequence, or in a prompt, at most; 0 or absent where there are none."""
    vision: NotRequired[Literal["frozen", "projector", "all"]]
    """What trains of the part that sees; frozen where there is none."""


class Trained(TypedDict):
    """What a data set of a mixture gave to a training."""

    rows: int
    """The number of its rows, those taken again counted again."""
    tokens: int | None
    """The tokens of its rows that the training went over, in all epochs; null where the objective does not count."""


class StartEvent(TypedDict, total=False):
    """The training, its start and its rows: the first event of a journal."""

    event: Literal["start"]
    time: int
    """Milliseconds since the epoch."""
    key: str
    """The unique key of this training; in a container, the one that the host expects (`key`)."""
    model: str
    """The name of the model that the training makes."""
    method: str
    """The objective on the kind of weights, in words, such as "SFT LoRA"."""
    objective: Objective
    weights: WeightsKind
    start: str
    """The name of the model that the training starts from."""
    params: dict[str, dict[str, object]]
    """The effective params that shaped the training, by section."""
    dataset: str
    """The name of the data set in params.yaml."""
    datasets: dict[str, Trained]
    """What each data set of a mixture gives; empty where the rows are of one."""
    rows: int
    """The number of rows that train."""
    device: str
    """The device, as `models.device` names it."""
    largest_step: LargestStep
    merged: str
    """The name of the adapter, where this model is one that was merged."""
    engine: Mapping[str, object]
    """The vLLM that wrote the completions (`models.engines.record`); absent where transformers did."""


class SignalEvent(TypedDict, total=False):
    """The rewards of the starting policy's answers, from verifiers."""

    event: Literal["signal"]
    time: int
    """Milliseconds since the epoch."""
    mean: float
    """The mean reward of all answers."""
    equal_groups: float
    """The share of the prompts whose answers all got the same reward."""


class SampleEvent(TypedDict, total=False):
    """An answer to a probe prompt."""

    event: Literal["sample"]
    time: int
    """Milliseconds since the epoch."""
    when: Literal["before", "after"]
    """Whether the training had not begun or was over."""
    prompt: list[Message]
    """The probe prompt."""
    tools: list[Tool]
    """The tools that its answer may call; absent where there are none."""
    completion: str
    """The model's answer."""


class ResumeEvent(TypedDict, total=False):
    """A training going on from a checkpoint, after the process before was killed or failed."""

    event: Literal["resume"]
    time: int
    """Milliseconds since the epoch."""
    step: int
    """The step of the checkpoint."""
    exact: bool
    """Whether the weights will be those of a training that was never stopped, to the last bit. Not on a GPU, where two
    runs differ by noise."""


class Validation(TypedDict, total=False):
    """A measurement on the validation split; null for a value that is not finite."""

    step: Required[int]
    """The step; 0 before the training."""
    loss: float | None
    """The mean surprise, in nats: of a token of right answers (sft), or at a pair's label (dpo, kto, reward)."""
    accuracy: float | None
    """The share of the pairs whose chosen answer is preferred (dpo, kto, reward)."""
    margin: float | None
    """The mean difference of the rewards of chosen and rejected answer (dpo, kto, reward)."""
    score: float | None
    """The mean reward of greedy answers (grpo, rlhf)."""
    ungraded: int
    """The number of those that could not be graded; absent where all were."""


class ValidationEvent(Validation, total=False):
    """A measurement as it happened."""

    event: Literal["validation"]
    time: int
    """Milliseconds since the epoch."""


class HeldOutEvent(TypedDict, total=False):
    """The preference of a model over the pairs of the validation split."""

    event: Literal["held_out"]
    time: int
    """Milliseconds since the epoch."""
    when: Literal["before", "after"]
    """Whether the training had not begun or was over."""
    pairs: int
    """The number of pairs; of marked answers, each good one makes a pair with each bad one."""
    accuracy: float
    """The share of the pairs whose chosen answer is preferred; a tie counts half."""
    low: float
    """The lower end of the accuracy's 95% interval."""
    high: float
    """The upper end of the accuracy's 95% interval."""
    margin: float
    """The mean difference of the rewards of chosen and rejected answer."""
    loss: float
    """The mean surprise, in nats, at the label of a pair."""
    likelier: float | None
    """The share of the pairs whose chosen answer a policy finds likelier, its reference aside; null for a reward model,
    and for marks, whose pairs do not share a prompt."""
    surprise: float | None
    """The mean surprise of a token of the chosen answers, in nats; null for a reward model."""


class StepEvent(TypedDict, total=False):
    """The numbers that the trainer logged at a step, these and others by name; null for a value that is not finite."""

    event: Literal["step"]
    time: int
    """Milliseconds since the epoch."""
    step: int
    """The step, from 1."""
    loss: float | None
    """The loss of the objective, nats a token for SFT."""
    grad_norm: float | None
    """The norm of the gradient before it is clipped."""
    learning_rate: float | None
    """The learning rate of the step."""


class WarningEvent(TypedDict, total=False):
    """A finding of a check that did not stop the training."""

    event: Literal["warning"]
    time: int
    """Milliseconds since the epoch."""
    text: str
    """The finding, for people."""


class EndEvent(TypedDict, total=False):
    """The cost of a whole training: the last event of a journal."""

    event: Literal["end"]
    time: int
    """Milliseconds since the epoch."""
    steps: int
    """The number of optimizer steps."""
    kept: int
    """The step whose weights the model has."""
    seconds: float
    """The training's duration, in seconds."""
    checkpoint_seconds: float
    """The part of it that went into checkpoints."""
    tokens: int
    """The number of tokens trained on, padding not counted."""
    peak_memory_bytes: int
    """The peak of memory, in bytes."""
    trainable_parameters: int
    """The number of parameters that trained."""
    total_parameters: int
    """The number of all parameters."""
    costs: dict[str, float]
    """Seconds of this training and of every one that it builds on, by model."""


Event = (
    StartEvent
    | ResumeEvent
    | SignalEvent
    | SampleEvent
    | HeldOutEvent
    | StepEvent
    | ValidationEvent
    | WarningEvent
    | EndEvent
)
"""An event of a journal; its `event` names the kind. Journals of earlier releases may lack fields."""


class Journal:
    """Appends events to a file, each line flushed so that a follower sees it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")

    def write(self, event: str, **fields: object) -> None:
        """Write an event that happens now. The key of a `start` is that of this run of the stage, if it has one."""
        if event == "start":
            run = os.environ.get(layout.RUN_VARIABLE)
            fields["key"] = key(run, str(fields["model"])) if run else fields.get("key", uuid.uuid4().hex)
        line = {"event": event, "time": time.time_ns() // 1_000_000, **fields}
        self._file.write(orjson.dumps(line) + b"\n")
        self._file.flush()

    def repeat(self, events: Sequence[Event]) -> None:
        """Write the events of an earlier process, with their times; its `start` gets the key of this one."""
        for event in events:
            fields = {name: value for name, value in event.items() if name not in ("event", "key")}
            self.write(event["event"], **fields)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def key(run: str, model: str) -> str:
    """The key of the training of ``model`` in ``run``, a UUID that the host chose; it publishes no other key."""
    return uuid.uuid5(uuid.UUID(run), model).hex


def read(path: Path) -> list[Event]:
    """All whole events; a last line cut short by a kill is left out."""
    return parse(path.read_bytes())[0]


def parse(content: bytes) -> tuple[list[Event], bytes]:
    """Whole events in ``content``, and the bytes after the last newline."""
    *lines, rest = content.split(b"\n")
    return [orjson.loads(line) for line in lines if line], rest


def steps(events: Sequence[Event]) -> list[dict[str, float]]:
    """The numbers of each step, null left out, with the step itself."""
    return [
        {
            name: value
            for name, value in event.items()
            if name not in ("event", "time") and isinstance(value, int | float)
        }
        for event in events
        if event["event"] == "step"
    ]


def entry(start: StartEvent) -> dict[str, object]:
    """The effective params of a training's own entry; empty where the journal has none."""
    section = start.get("params", {}).get(start.get("objective", ""), {})
    return cast("dict[str, object]", section.get(start.get("model", ""), {}))


def validations(events: Sequence[Event]) -> list[Validation]:
    """The measurements on the validation split, in the order of their steps."""
    return [
        cast("Validation", {name: value for name, value in event.items() if name not in ("event", "time")})
        for event in events
        if event["event"] == "validation"
    ]


@overload
def first(events: Sequence[Event], kind: Literal["start"]) -> StartEvent: ...
@overload
def first(events: Sequence[Event], kind: Literal["end"]) -> EndEvent: ...
def first(events: Sequence[Event], kind: Literal["start", "end"]) -> StartEvent | EndEvent:
    """The first event of a kind; ``{}`` where there is none (a training cut short has no ``end``)."""
    for event in events:
        if event["event"] == "start" and kind == "start":
            return event
        if event["event"] == "end" and kind == "end":
            return event
    return {}
