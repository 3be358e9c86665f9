"""Where a stage runs: here, or in a container.

    python -m tunesmith.runtime train_sft lora      what dvc.yaml says; runs `python -m stages.train_sft lora`

A stage knows nothing of it, and depends on no module here: an engine decides where bytes are made, never which.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import PositiveFloat, PositiveInt, StringConstraints

from tunesmith.core.errors import ParamsError
from tunesmith.core.params import PATH, Section, load
from tunesmith.runtime import image

Size = Annotated[str, StringConstraints(pattern=r"^\d+[bkmg]$")]
"""Bytes, with a unit: 512m, 16g."""


class Runtime(Section):
    """The section `runtime`. Stages depend on `image` alone: the rest changes no result."""

    engine: Literal["host", "docker"] = "host"
    image: str | None = None
    """By digest: ``sha256:...`` of an image that is here, or ``name@sha256:...``; null on the host alone."""
    gpus: Literal["all"] | PositiveInt | list[str] | None = None
    """All, so many, or those with these ids."""
    memory: Size | None = None
    cpus: PositiveFloat | None = None
    pids: PositiveInt = 4096
    """Processes and threads."""
    shared_memory: Size = "1g"
    """/dev/shm, through which data loaders hand batches over."""
    scratch: Size = "2g"
    """/tmp; it is memory, and counts as such."""
    network: str = "bridge"
    """Of the stages that declare one in dvc.yaml (`meta: {network: true}`); others have none."""
    mounts: tuple[str, ...] = ()
    """More folders and files, absolute, that stages may read."""
    grace: PositiveFloat = 10
    """Seconds that an interrupted stage has to end by itself."""


def read(path: Path = PATH) -> Runtime:
    """The section `runtime`. Raises ParamsError where its image does not go with its engine."""
    runtime = load(Runtime, "runtime", path=path)
    check(runtime, path)
    return runtime


def engine(path: Path = PATH) -> str:
    """The engine alone, whatever the image."""
    return load(Runtime, "runtime", path=path).engine


def check(runtime: Runtime, path: Path) -> None:
    """Raise ParamsError where the image does not go with the engine.

    Stages depend on the image: on the host it is null, or DVC would take what is made there for the image's work.
    """
    if runtime.engine == "host" and runtime.image is not None:
        raise ParamsError(
            f"{path}: runtime.image: engine host runs stages in no image",
            fix="set runtime.image to null, or runtime.engine to docker",
        )
    if runtime.engine == "docker" and runtime.image is None:
        raise ParamsError(f"{path}: runtime.image: engine docker needs one", fix=image.HOW)
