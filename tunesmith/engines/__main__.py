"""Run a stage where params.yaml says: python -m tunesmith.engines train_sft lora."""

import sys

from tunesmith import engines
from tunesmith.errors import TunesmithError

if __name__ == "__main__":
    try:
        sys.exit(engines.run(sys.argv[1], sys.argv[2:]))
    except TunesmithError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
