"""The outer edge of a stage: one closing line, and errors without a traceback."""

import errno
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from tunesmith.core import extras, fingerprint, processes
from tunesmith.core.errors import TunesmithError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
OUT_OF_MEMORY = r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|DefaultCPUAllocator: can't allocate memory"
"""Messages of errors that torch raises for lack of memory without a class of their own."""
SECTIONS = {
    "train_sft": "sft", "reference": "dpo", "train_dpo": "dpo", "train_kto": "kto", "train_reward": "reward",
    "train_rlhf": "rlhf", "train_grpo": "grpo",
}  # fmt: skip
"""The section of params.yaml that has the entries of a stage."""


def run(main: Callable[[], str]) -> NoReturn:
    """Run a stage's ``main``, print the line it returns, and exit.

    A stage whose code differs from its fingerprint is refused. Exit status 0 for success, 1 for an error that the user
    can correct (printed to stderr without a traceback), 130 for an interrupt. Any other error is a defect of ours and
    keeps its traceback.
    """
    warnings.simplefilter("ignore")
    try:
        if (stage := _stage()) is not None:
            fingerprint.check(stage)
        line = main()
    except TunesmithError as error:
        fail(f"error: {error}")
    except KeyboardInterrupt:
        if processes.is_first():
            print("interrupted: nothing half-written was kept", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (missing := extras.missing(error)) is None:
            raise
        fail(f"error: {missing}")
    except Exception as error:  # libraries wrap these two in errors of their own; every other error rises
        if (full := disk_full(error)) is not None:
            fail(f"error: {disk_full_message(full)}")
        if (exhausted := out_of_memory(error)) is not None:
            fail(f"error: {out_of_memory_message(exhausted, Path(sys.argv[0]).stem, sys.argv[1:])}")
        if processes.report(traceback.format_exc().rstrip(), ours=False):
            sys.exit(1)
        raise
    if processes.is_first():
        print(line, flush=True)
    sys.exit(0)


def fail(message: str) -> NoReturn:
    """Exit with status 1; ``message`` is printed, once where several processes train together."""
    sys.exit(1 if processes.report(message, ours=True) else message)


def _stage() -> str | None:
    """The stage that this process runs; None for `fingerprint`, which has no fingerprint, and outside of a stage."""
    program = Path(sys.argv[0])
    return program.stem if program.parent.name == "stages" and program.stem != "fingerprint" else None


def disk_full(error: BaseException | None) -> OSError | None:
    """The error of a full disk that caused ``error``, or None."""
    causes = (cause for cause in _causes(error) if isinstance(cause, OSError) and cause.errno in DISK_FULL)
    return next(causes, None)


def disk_full_message(error: OSError) -> str:
    """The message for a user whose disk is full. It names the file that did not fit, where the error has it."""
    where = f" while writing {error.filename}" if error.filename else ""
    return (
        f"the disk is full{where}; nothing half-written was kept, and the previous output is untouched\n"
        "  fix: free some space (`df -h .` shows it, `dvc gc --workspace` drops unused cached outputs), then run again"
    )


def out_of_memory(error: BaseException | None) -> BaseException | None:
    """The error of a device or machine without enough memory that caused ``error``, or None."""
    torch = sys.modules.get("torch")  # core does not import it
    classes = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    causes = _causes(error)
    return next((cause for cause in causes if isinstance(cause, classes) or re.search(OUT_OF_MEMORY, str(cause))), None)


def out_of_memory_message(error: BaseException, stage: str, arguments: list[str]) -> str:
    """The message for a user whose device is too small. torch says how much it has, and who holds how much of it."""
    says = str(error).partition(" Of the allocated memory")[0].partition("\n")[0] or "out of memory"
    return f"{'@'.join([stage, *arguments[:1]])}: {says}\n  fix: {how_to_save_memory(stage, arguments)}"


def how_to_save_memory(stage: str, arguments: list[str]) -> str:
    """What lowers the memory that a stage needs, with the entry of params.yaml."""
    others = "end what else uses it (`nvidia-smi` shows that of a GPU; `tunesmith serve` holds a model)"
    if stage == "evaluate":
        return f"{others}; or lower evaluate.batch_size in params.yaml"
    if stage not in SECTIONS:
        return others
    lengths = "max_new_tokens or max_prompt_length" if stage in ("train_rlhf", "train_grpo") else "max_length"
    entry = ".".join([SECTIONS[stage], *arguments[:1]])
    lower = f"in params.yaml, {entry}: lower batch_size or {lengths}, or take `weights: qlora`"
    return f"{lower}; `tunesmith plan` predicts what fits. Or {others}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from, the latest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
