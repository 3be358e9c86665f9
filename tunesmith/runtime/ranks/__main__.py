"""Train with several processes on this machine: python -m tunesmith.runtime.ranks stages.train_sft sft-lora."""

import sys

from tunesmith.core.errors import TunesmithError
from tunesmith.runtime.ranks import launch

if __name__ == "__main__":
    try:
        sys.exit(launch.main(sys.argv[1], sys.argv[2:]))
    except TunesmithError as error:
        sys.exit(f"error: {error}")
