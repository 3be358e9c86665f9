"""`tunesmith engine`: install vLLM in an environment of its own, and show which one would be used."""

from rich.console import Console

from tunesmith.cli.doctor import engine as check
from tunesmith.cli.doctor import finding
from tunesmith.cli.doctor.finding import Finding
from tunesmith.core import formatting
from tunesmith.core.errors import EngineError
from tunesmith.models.engines import environment
from tunesmith.models.engines import install as installation
from tunesmith.models.engines.locks import Build


def show() -> bool:
    """Print the finding of `tunesmith doctor` on the vLLM that would be used, and the environments that are not used.

    Returns whether the first would work.
    """
    try:
        result = check.vllm()
    except EngineError as error:
        result = Finding("engine", "bad", error.reason, error.fix)
    finding.show(result, Console(highlight=False))
    used = environment.installed()
    for folder in environment.folders():
        if used is None or used.python is None or folder not in used.python.parents:
            print(f"  not used: {folder}, {formatting.size(installation.size(folder))}; `rm -r` removes it")
    return result.level != "bad"


def install(build: Build | None, cpu_index: str | None) -> None:
    """Install vLLM for a GPU or a CPU, by default for what this machine has, and print what is installed."""
    chosen: Build = build or ("cuda" if environment.sees_gpu() else "cpu")
    done = installation.install(chosen, cpu_index=cpu_index)
    state = done.state
    took = "was installed before" if done.seconds is None else f"installed in {formatting.seconds(done.seconds)}"
    hardware = "CUDA" if chosen == "cuda" else "a CPU"
    print(f"vLLM {state['version']} for {hardware}, with torch {state['torch']}: {took}")
    size = formatting.size(installation.size(done.folder))
    print(f"{done.folder}: {size}, from the lock sha256:{state['lock_digest'][:12]}")
    if done.seconds is not None:
        print("`dvc repro --force --single-item evaluate` evaluates with it what was evaluated before")
