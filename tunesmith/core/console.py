"""The outer edge of a stage: one closing line, and errors without a traceback."""

import errno
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tunesmith.core import extras, fingerprint
from tunesmith.core.errors import TunesmithError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


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
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was kept", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (missing := extras.missing(error)) is None:
            raise
        sys.exit(f"error: {missing}")
    except Exception as error:  # libraries wrap a full disk in errors of their own; every other error rises
        full = disk_full(error)
        if full is None:
            raise
        sys.exit(f"error: {disk_full_message(full)}")
    print(line, flush=True)
    sys.exit(0)


def _stage() -> str | None:
    """The stage that this process runs; None for `fingerprint`, which has no fingerprint, and outside of a stage."""
    program = Path(sys.argv[0])
    return program.stem if program.parent.name == "stages" and program.stem != "fingerprint" else None


def disk_full(error: BaseException | None) -> OSError | None:
    """The error of a full disk that caused ``error``, or None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def disk_full_message(error: OSError) -> str:
    """The message for a user whose disk is full. It names the file that did not fit, where the error has it."""
    where = f" while writing {error.filename}" if error.filename else ""
    return (
        f"the disk is full{where}; nothing half-written was kept, and the previous output is untouched\n"
        "  fix: free some space (`df -h .` shows it, `dvc gc --workspace` drops unused cached outputs), then run again"
    )
