"""Answer requests in a process that can be killed, by a module's ``reply(request)``.

    python -m tunesmith.verifiers.worker.child MODULE TASK

Once the module's ``prepare(task)`` has imported what takes long, a forked process answers: each line of JSON on the
input is a request with its ``seconds``; its reply is a line of JSON on the output. Where a request is that process's
end, the reply is null, and the next fork has all imports at once. Both processes exit when the input ends.

The limit is CPU time, so that a verdict does not depend on what else the machine does. The system ends the forked
process at the limit, whatever happens to the parent: a timer without a handler does not wait for the interpreter, which
a power of huge numbers or a regular expression may block for ever.
"""

import gc
import importlib
import json
import logging
import os
import resource
import signal
import sys
from types import ModuleType

MEMORY = 1 << 30
"""Address space, in bytes; work that needs more ends in an error, or ends the process."""
READY, NO_REPLY = b"ready\n", b"null\n"


def main(name: str, task: str) -> None:
    output = os.dup(1)
    os.dup2(2, 1)  # libraries must not print among the replies
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    module = importlib.import_module(name)
    module.prepare(task)
    gc.freeze()  # so that collecting garbage does not copy what the processes share
    os.write(output, READY)
    while os.fork():
        _, status = os.wait()
        if os.waitstatus_to_exitcode(status) == 0:  # the input ended
            return
        os.write(output, NO_REPLY)
    _serve(module, output)


def _serve(module: ModuleType, output: int) -> None:
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        reply = module.reply(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        data = json.dumps(reply).encode() + b"\n"
        while data:
            data = data[os.write(output, data) :]


if __name__ == "__main__":
    main(*sys.argv[1:])
