"""What an engine that refuses means, and what to do."""

import re

from tunesmith.core.errors import EngineError

FAILURES = (
    ("timed out", "the Docker engine answers too late", "see what keeps it busy; DOCKER_HOST says which one was asked"),
    (
        "could not select device driver|nvidia-container-cli|no cdi devices|failed to inject cdi",
        "the Docker engine has no GPU driver, or not these GPUs",
        "`nvidia-smi` must work, and NVIDIA's container toolkit; restart the engine, or set runtime.gpus to null",
    ),
    (
        "range of cpus|minimum memory limit|invalid memory|invalid pids",
        "the Docker engine does not take a limit of `runtime`",
        "correct runtime.memory, cpus or pids in params.yaml to what this machine has",
    ),
    ("no space left on device", "the disk of the Docker engine is full", "`docker system df` shows what takes it"),
    (
        "bind source path does not exist",
        "the Docker engine does not see this folder",
        "use an engine on this machine (DOCKER_HOST says which one was asked), and check runtime.mounts",
    ),
    (
        r"(error mounting|invalid mount config).*permission denied|error while creating mount source path",
        "the Docker engine may not reach a folder of the project",
        "root itself may not read some network disks and mounts of users (FUSE): use a folder that it can read",
    ),
    (
        "executable file not found",
        "the image has no Python where it should be",
        "use an image that `make image` built",
    ),
    (
        r"could not find a network|network \S+ not found",
        "the Docker engine has not the network that the stage needs",
        "name one that `docker network ls` shows in runtime.network",
    ),
)
"""What an engine answers, as a pattern; what it means, and what to do."""


def explain(error: Exception) -> EngineError:
    """What an engine's refusal means."""
    said = str(getattr(error, "explanation", None) or error)
    for words, meaning, fix in FAILURES:
        if re.search(words, said.lower()):
            return EngineError(f"{meaning}: {said}", fix=fix)
    return EngineError(f"the Docker engine did not do what was asked: {said}", fix="its log says more")
