"""Hardware to plan for: this machine's GPUs, or its processor and memory, or GPUs of a given name or size."""

import os
from dataclasses import dataclass
from pathlib import Path

from tunesmith.planning.workload import GPU, Machine

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""The memory limit of this container: bytes, or "max"."""


@dataclass(frozen=True)
class Hardware:
    """A machine to train on. name: of one device, in words. budget: bytes of memory of one. count: of equal GPUs."""

    name: str
    machine: Machine
    budget: int
    count: int = 1

    @property
    def devices(self) -> str:
        """All devices, in words."""
        return self.name if self.count == 1 else f"{self.count} × {self.name.removeprefix('a ')}"


def gpu(gigabytes: float, name: str = "") -> Hardware:
    """A GPU sold with ``gigabytes`` of memory, counted as 10^9 bytes each: such cards have more, which stays spare."""
    return Hardware(name or f"a GPU of {gigabytes:g} GB", GPU, int(gigabytes * 1e9))


def detect() -> Hardware:
    """The GPUs that torch sees, each counted as the smallest, or else this machine's processor."""
    import torch

    from tunesmith.models import device

    profile = device.detect()
    machine = Machine(profile.device, profile.dtype.itemsize, profile.gradient_checkpointing)
    if profile.device == "cuda":
        count = torch.cuda.device_count()
        sizes = (torch.cuda.get_device_properties(index).total_memory for index in range(count))
        return Hardware(profile.name, machine, min(sizes), count)
    return Hardware("this machine without a GPU", machine, ram())


def ram(limit: Path = CGROUP_LIMIT) -> int:
    """Bytes of memory that this process may use: the machine's, or its container's if that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return physical if text == "max" else min(physical, int(text))
