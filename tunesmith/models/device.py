"""The device and precision that training and evaluation use on this machine: the one place that chooses.

CPU: bfloat16 where the CPU has instructions for it, which multiply four times as fast as float32, else float32
(docs/decisions/011). GPU: bfloat16.
"""

import ctypes
import logging
import platform
import random
import resource
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tunesmith.core import cpus, processes
from tunesmith.models import collectives

# On a CPU with AVX512-BF16 it warns that a kernel from the hub is missing, which is unused (weights.keep_quantized).
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""From glibc's malloc.h."""


GPU_DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Profile:
    """A device and how to compute on it.

    device: "cpu" or "cuda". name: the hardware in words. gradient_checkpointing: whether a training computes layers
    again in the backward pass, which `tunesmith.training.fit` decides. sharded: whether several processes divide the
    weights among them, which `tunesmith.training.sharding` decides.
    """

    device: str
    name: str
    dtype: torch.dtype
    gradient_checkpointing: bool = False
    sharded: bool = False

    @property
    def bf16(self) -> bool:
        return self.dtype is torch.bfloat16


def detect() -> Profile:
    """The profile of this machine: its GPU if torch sees one, else its CPU. Meets the other processes of a training."""
    collectives.join("cuda" if torch.cuda.is_available() else "cpu")
    if torch.cuda.is_available():
        return Profile("cuda", torch.cuda.get_device_name(), GPU_DTYPE)
    dtype = torch.bfloat16 if has_bfloat16_instructions() else torch.float32
    threads = torch.get_num_threads() if processes.count() == 1 else cpus.usable_cpus()  # which they divide
    name = f"{cpu_name()} x {threads}, {str(dtype).removeprefix('torch.')}"
    return Profile("cpu", name, dtype)


def has_bfloat16_instructions() -> bool:
    """Whether this CPU has AVX512-BF16 or AMX. Other CPUs are slower in bfloat16 than in float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(profile: Profile) -> torch.autocast:
    """The precision that trainings compute in, also for the measurements taken beside them."""
    return torch.autocast(profile.device, torch.bfloat16, enabled=profile.bf16)


def set_seed(seed: int) -> None:
    """Seed every generator that a training draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def keep_freed_memory() -> None:
    """Make glibc keep what training frees instead of returning it: every step allocates the same large tensors anew.

    By default the kernel hands out and zeroes hundreds of megabytes a step. On two cores, 11 steps of SmolLM2-135M took
    1.17 to 1.27 times as long without it (three pairs), system time 8 to 10 s against 1.3 to 2.6 s. No effect with
    another C library than glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * 2**20)):
            mallopt(option, value)


def cpu_name() -> str:
    """The processor's model name from /proc/cpuinfo, or its architecture where that gives no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def peak_memory_bytes(profile: Profile) -> int:
    """Peak memory so far, in bytes: allocated on the GPU, or resident in this process (framework included)."""
    if profile.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB
