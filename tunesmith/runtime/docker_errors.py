"""Explanations of a Docker engine's refusals, each with a fix."""

import re

from tunesmith.core.errors import ContainerError
from tunesmith.runtime import image

FAILURES = (
    (
        "timed out",
        "the Docker engine answers too late",
        "see what keeps it busy; DOCKER_HOST names the engine that was asked",
    ),
    (
        "could not select device driver|nvidia-container-cli|no cdi devices|failed to inject cdi",
        "the Docker engine has no GPU driver, or not these GPUs",
        "make `nvidia-smi` and NVIDIA's container toolkit work, then restart the engine; or set runtime.gpus to null",
    ),
    (
        "range of cpus|minimum memory limit|invalid memory|invalid pids",
        "the Docker engine does not take a limit of `runtime`",
        "set runtime.memory, cpus and pids in params.yaml within the limits of this machine",
    ),
    ("no space left on device", "the disk of the Docker engine is full", "`docker system df` shows what fills it"),
    (
        "bind source path does not exist",
        "the Docker engine does not see this folder",
        "use an engine on this machine (DOCKER_HOST names the one that was asked), and check runtime.mounts",
    ),
    (
        r"(error mounting|invalid mount config).*permission denied|error while creating mount source path",
        "the Docker engine may not reach a folder of the project",
        "even root may not read some network disks and users' mounts (FUSE): use a folder that it can read",
    ),
    (
        "executable file not found",
        "the image has no Python where it should be",
        f"use an image that {image.HOW_TO_BUILD} built",
    ),
    (
        r"could not find a network|network \S+ not found",
        "the Docker engine does not have the network that the stage needs",
        "set runtime.network to one that `docker network ls` shows",
    ),
)
"""Patterns of an engine's answers, each with its meaning and the fix."""


def explain(error: Exception) -> ContainerError:
    """The error to raise for an engine's refusal."""
    message = str(getattr(error, "explanation", None) or error)
    for pattern, meaning, fix in FAILURES:
        if re.search(pattern, message.lower()):
            return ContainerError(f"{meaning}: {message}", fix=fix)
    return ContainerError(f"the Docker engine refused: {message}", fix="read its log")
