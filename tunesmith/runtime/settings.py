"""The section `runtime` of params.yaml: whether stages run on this host, in a container or on a cluster, and how.

    python -m tunesmith.runtime train_sft sft-lora      in dvc.yaml; runs `python -m stages.train_sft sft-lora`

A stage imports no module of this package: an engine decides where bytes are made, never which bytes.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, StringConstraints

from tunesmith.core import layout
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import PATH, Section, Sharding, load
from tunesmith.core.processes import SHARDING_VARIABLE
from tunesmith.runtime import image

PROCESSES_VARIABLE = "TUNESMITH_PROCESSES"
"""The param `processes`, for the module that starts them."""
RANKS_MODULE = "tunesmith.runtime.ranks"
GPUS = Path("/dev")
"""The folder with the device files of GPUs."""

Size = Annotated[str, StringConstraints(pattern=r"^\d+[bkmg]$")]
"""A number of bytes with a unit: 512m, 16g."""


class Runtime(Section):
    """The section `runtime`. Stages depend on `image` alone: the rest changes no result."""

    engine: Literal["host", "docker", "ray"] = "host"
    image: str | None = None
    """Image by digest: ``sha256:...`` of one that the engine has, or ``name@sha256:...``; null with engine host.

    With engine ray, the image that the cluster's nodes run in, where they run in one.
    """
    processes: Literal["auto"] | PositiveInt = "auto"
    """Processes that train one model together, each on a GPU of its own; auto: as many as there are GPUs."""
    sharding: Sharding = "auto"
    """Whether the processes of a training divide its weights among them: none, full, or auto, which divides what does
    not fit otherwise."""
    gpus: Literal["all"] | PositiveInt | list[str] | None = None
    """GPUs that a stage may use: all, a number of them, or a list of IDs; null: none."""
    memory: Size | None = None
    """Limit on memory; null: the machine's."""
    cpus: PositiveFloat | None = None
    """Limit on CPUs, fractions included; null: all. With engine ray, the CPUs of each worker, rounded down; null: 1."""
    pids: PositiveInt = 4096
    """Limit on processes and threads."""
    shared_memory: Size = "1g"
    """Size of /dev/shm, through which data loaders pass batches."""
    scratch: Size = "2g"
    """Size of /tmp, which is memory and counts towards its limit."""
    network: str = "bridge"
    """Network of the stages that declare one in dvc.yaml (`meta: {network: true}`); others have no network."""
    mounts: tuple[str, ...] = ()
    """Further folders and files that stages may read, as absolute paths."""
    grace: PositiveFloat = 10
    """Seconds that an interrupted stage has to end by itself."""
    checkpoint_minutes: PositiveFloat | None = None
    """Minutes between the checkpoints of a training; null: as often as takes at most 2% of its time."""
    address: str | None = None
    """Engine ray: the cluster's address, ``host:6379`` from a node of it, or ``ray://host:10001`` from elsewhere."""
    workers: PositiveInt = 1
    """Engine ray: processes of a training, and of others that are spread, at most."""
    gpus_per_worker: NonNegativeFloat = 0
    """Engine ray: GPUs of each worker."""
    shared: str | None = None
    """Engine ray: a folder that this machine and all nodes see; null: DVC's default remote."""
    restarts: NonNegativeInt = 3
    """Engine ray: how often a training, or another task, starts again after a worker or a node was lost."""

    @property
    def worker_cpus(self) -> int:
        """The CPUs of a worker of a cluster."""
        return max(1, int(self.cpus or 1))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a stage gets from here; of the seconds between checkpoints, those that are set win."""
        seconds = os.environ.get(layout.CHECKPOINT_VARIABLE)
        if seconds is None and self.checkpoint_minutes is not None:
            seconds = str(60 * self.checkpoint_minutes)
        chosen = {} if seconds is None else {layout.CHECKPOINT_VARIABLE: seconds}
        return chosen | {PROCESSES_VARIABLE: str(self.processes), SHARDING_VARIABLE: self.sharding}

    def module(self, stage: str) -> list[str]:
        """The words after `python -m` that run a stage: those of several processes where it trains with several."""
        gpus = has_gpus() if self.engine == "host" else self.gpus is not None
        several = gpus or (self.processes != "auto" and self.processes > 1)  # on GPUs, to choose one of them too
        trains = stage.startswith("train_") or stage == "reference"
        return [*([RANKS_MODULE] if several and trains else []), f"stages.{stage}"]


def has_gpus() -> bool:
    """Whether this machine has GPUs, without asking torch, which takes seconds to import."""
    return any(GPUS.glob("nvidia[0-9]*"))


def read(path: Path = PATH) -> Runtime:
    """Load the section `runtime`. Raises ParamsError where its image does not go with its engine."""
    runtime = load(Runtime, "runtime", path=path)
    check(runtime, path)
    return runtime


def engine(path: Path = PATH) -> str:
    """Load the engine alone, even where the image does not go with it."""
    return load(Runtime, "runtime", path=path).engine


def check(runtime: Runtime, path: Path) -> None:
    """Raise ParamsError where the image does not go with the engine.

    Stages depend on the image: with engine host it must be null, or DVC would take the host's outputs for the image's.
    """
    if runtime.engine == "host" and runtime.image is not None:
        raise ParamsError(
            f"{path}: runtime.image: engine host runs stages in no image",
            fix="set runtime.image to null, or runtime.engine to docker",
        )
    if runtime.engine == "docker" and runtime.image is None:
        raise ParamsError(f"{path}: runtime.image: engine docker needs one", fix=image.HOW_TO_SET)
    if runtime.engine == "ray":
        _check_cluster(runtime, path)


def _check_cluster(runtime: Runtime, path: Path) -> None:
    """Raise ParamsError where the settings of a cluster are not complete."""
    if runtime.address is None:
        raise ParamsError(
            f"{path}: runtime.address: engine ray needs the address of a cluster",
            fix="host:6379 on a node of it, ray://host:10001 elsewhere; docs/cluster.md shows how to start one",
        )
    if runtime.shared is not None and not Path(runtime.shared).is_absolute():
        raise ParamsError(
            f"{path}: runtime.shared: {runtime.shared} is not an absolute path",
            fix="give the folder by the path that it has on this machine and on every node",
        )
