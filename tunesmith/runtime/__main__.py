"""Run a stage where params.yaml says: python -m tunesmith.runtime train_sft sft-lora."""

import sys

from tunesmith.core import console
from tunesmith.core.errors import TunesmithError
from tunesmith.runtime import run

if __name__ == "__main__":
    try:
        sys.exit(run.run(sys.argv[1], sys.argv[2:]))
    except TunesmithError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # of the project's own files
        full = console.disk_full(error)
        sys.exit(f"error: {console.disk_full_message(full) if full else error}")
