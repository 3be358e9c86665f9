"""Run a stage where params.yaml says: python -m tunesmith.engines train_sft lora."""

import sys

from tunesmith import console, engines
from tunesmith.errors import TunesmithError

if __name__ == "__main__":
    try:
        sys.exit(engines.run(sys.argv[1], sys.argv[2:]))
    except TunesmithError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # of the project's own files
        full = console.disk_full(error)
        sys.exit(f"error: {console.disk_full_message(full) if full else error}")
