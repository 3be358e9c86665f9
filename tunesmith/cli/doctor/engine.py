"""The check of vLLM: which environment is used, and whether it fits this machine's GPU."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunesmith.cli.doctor.finding import Finding, answer
from tunesmith.core import formatting, params
from tunesmith.models.engines import environment, locks
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.settings import Engine

GPU_SECONDS = 30.0
"""Timeout for an answer of the GPU's driver, in seconds."""
QUERY = "name,driver_version,compute_cap,memory.free,memory.total"
DRIVER = 580
"""The oldest major version of the driver that runs CUDA 13, which the lock's vLLM is built with."""
OLDEST_GPU = 7.5
"""The lowest compute capability that CUDA 13 supports: Turing."""
BFLOAT16 = 8.0
"""The lowest compute capability with bfloat16: Ampere."""
INSTALL = "`tunesmith engine install`"


@dataclass(frozen=True)
class Card:
    """A GPU as its driver describes it.

    driver: its major version. capability: its compute capability. free, total: its memory, in bytes.
    """

    name: str
    driver: int
    capability: float
    free: int
    total: int


def settings(path: Path = params.PATH) -> Engine:
    """The section `engine`; its defaults outside of a project."""
    return params.load(Engine, "engine", path=path) if path.exists() else Engine()


def card() -> Card | None:
    """The first GPU, by nvidia-smi; None where there is none or it does not answer."""
    text = answer("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", seconds=GPU_SECONDS)
    try:
        name, driver, capability, free, total = (text or "").splitlines()[0].split(", ")
        return Card(name, int(driver.split(".")[0]), float(capability), int(free) << 20, int(total) << 20)
    except (IndexError, ValueError):
        return None


def vllm(
    read: Callable[[], Engine] = settings,
    find: Callable[[Engine], Environment | None] = environment.find,
    detect: Callable[[], Card | None] = card,
) -> Finding:
    """Check that the vLLM which `engine` selects fits this machine. Raises EngineError where it does not work."""
    section = read()
    vllm_env, gpu = find(section), detect()
    if vllm_env is None and gpu is None:
        return Finding("engine", "good", "vLLM is not installed; transformers generates")
    if vllm_env is None:
        says = "vLLM is not installed, so transformers generates, several times slower on a GPU"
        return Finding("engine", "warning", says, f"{INSTALL} makes an environment for it")
    says = describe(vllm_env)
    if vllm_env.origin == "address":
        return _of_version(says, vllm_env)
    if vllm_env.build == "cuda" and gpu is None:
        fix = f"{INSTALL} makes one for a CPU, where engine names none; on a GPU machine, see `nvidia-smi`"
        return Finding("engine", "bad", f"{says}; no GPU answers here", fix)
    if vllm_env.build == "cpu" and gpu is not None:
        return Finding("engine", "warning", f"{says}, beside {gpu.name}", f"{INSTALL} makes one for that GPU")
    if gpu is not None:
        return _on_card(says, vllm_env, gpu, section)
    return _of_version(says, vllm_env)


def describe(found: Environment) -> str:
    """A line about an environment, such as "vLLM 0.32.0 for CUDA, of `tunesmith engine install`, sha256:0123…"."""
    origin = INSTALL if found.origin == "installed" else f"engine.{found.origin}"
    version = f"vLLM {found.version}" if found.version else "vLLM"
    digest = f", sha256:{found.lock_digest[:12]}" if found.lock_digest else ""
    hardware = (" for CUDA" if found.build == "cuda" else " for a CPU") if found.python else ""
    return f"{version}{hardware}, of {origin}{digest}"


def _on_card(says: str, vllm_env: Environment, gpu: Card, section: Engine) -> Finding:
    """The finding for vLLM on a GPU."""
    if vllm_env.origin == "installed" and gpu.driver < DRIVER:
        needs = f"its CUDA 13 needs driver {DRIVER}, and {gpu.name} has {gpu.driver}"
        return Finding("engine", "bad", f"{says}; {needs}", "update the driver; or name another vLLM: engine.python")
    if vllm_env.origin == "installed" and gpu.capability < OLDEST_GPU:
        return Finding(
            "engine",
            "bad",
            f"{says}; its CUDA 13 has no code for {gpu.name}, of compute capability {gpu.capability:g}",
            "name a vLLM that has: engine.python; or set the engine of evaluate and serve to transformers",
        )
    if gpu.capability < BFLOAT16 and section.dtype in ("auto", "bfloat16"):
        reason = f"{gpu.name} does not compute in bfloat16, which most models are saved in"
        return Finding("engine", "warning", f"{says}; {reason}", "set engine.dtype to float16")
    takes = section.gpu_memory_share * gpu.total
    room = f"{formatting.size(gpu.free)} of {formatting.size(gpu.total)} free on {gpu.name}"
    if gpu.free < takes:
        share = int(100 * gpu.free / gpu.total) / 100
        return Finding(
            "engine",
            "warning",
            f"{says}; {room}, and engine.gpu_memory_share {section.gpu_memory_share:g} takes {formatting.size(takes)}",
            f"end what holds it (`nvidia-smi` lists it), or set engine.gpu_memory_share to {share:g} or less",
        )
    return _of_version(f"{says}; {room}", vllm_env)


def _of_version(says: str, vllm_env: Environment) -> Finding:
    """The finding where all else is good: a warning for another version than the lock's, which is untested."""
    tested = locks.version(vllm_env.build)
    if not vllm_env.version or vllm_env.version.partition("+")[0] == tested.partition("+")[0]:
        return Finding("engine", "good", says)
    return Finding("engine", "warning", f"{says}; tested with {tested}", f"{INSTALL} makes one of {tested}")
