"""One of the processes of `tunesmith.runtime.ranks`: it runs a stage, and ends with its parent."""

import os
import runpy
import sys

from tunesmith.runtime.parent import end_with

if __name__ == "__main__":
    end_with(os.getppid())
    module = sys.argv[1]
    del sys.argv[1]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
