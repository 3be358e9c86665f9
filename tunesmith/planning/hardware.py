"""What there is to train on: the GPU here, a GPU that is asked about, or this machine's processor and memory."""

import os
from dataclasses import dataclass
from pathlib import Path

from tunesmith.planning.workload import GPU, Machine

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""A container's share of the memory, in bytes, or "max"."""


@dataclass(frozen=True)
class Hardware:
    """name: in words. budget: bytes."""

    name: str
    machine: Machine
    budget: int


def gpu(gigabytes: float) -> Hardware:
    """A GPU sold as one of so many GB; a GB is 10^9 bytes here, so that what such cards have beyond it is left over."""
    return Hardware(f"a GPU of {gigabytes:g} GB", GPU, int(gigabytes * 1e9))


def here() -> Hardware:
    """The GPU that torch sees; else this machine."""
    import torch

    from tunesmith.models import device

    profile = device.detect()
    machine = Machine(profile.device, profile.dtype.itemsize, profile.gradient_checkpointing)
    if profile.device == "cuda":
        return Hardware(profile.name, machine, torch.cuda.get_device_properties(0).total_memory)
    return Hardware("this machine without a GPU", machine, ram())


def ram(limit: Path = CGROUP_LIMIT) -> int:
    """Bytes of memory that this process may use."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    stated = limit.read_text().strip() if limit.is_file() else "max"
    return physical if stated == "max" else min(physical, int(stated))
