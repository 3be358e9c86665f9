"""Hardware to plan for: this machine's GPU, or its processor and memory, or a GPU of a given name or size."""

import os
from dataclasses import dataclass
from pathlib import Path

from tunesmith.planning.workload import GPU, Machine

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""The memory limit of this container: bytes, or "max"."""


@dataclass(frozen=True)
class Hardware:
    """A machine to train on. name: in words. budget: its memory in bytes."""

    name: str
    machine: Machine
    budget: int


def gpu(gigabytes: float, name: str = "") -> Hardware:
    """A GPU sold with ``gigabytes`` of memory, counted as 10^9 bytes each: such cards have more, which stays spare."""
    return Hardware(name or f"a GPU of {gigabytes:g} GB", GPU, int(gigabytes * 1e9))


def detect() -> Hardware:
    """The GPU that torch sees, or else this machine's processor."""
    import torch

    from tunesmith.models import device

    profile = device.detect()
    machine = Machine(profile.device, profile.dtype.itemsize, profile.gradient_checkpointing)
    if profile.device == "cuda":
        return Hardware(profile.name, machine, torch.cuda.get_device_properties(0).total_memory)
    return Hardware("this machine without a GPU", machine, ram())


def ram(limit: Path = CGROUP_LIMIT) -> int:
    """Bytes of memory that this process may use: the machine's, or its container's if that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return physical if text == "max" else min(physical, int(text))
