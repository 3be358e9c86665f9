"""Answer requests in a process that can be killed, by a module's ``reply(request)``.

    python -m tunesmith.verifiers.worker.child MODULE

Each line of JSON on the input is a request with its ``seconds``; its reply is a line of JSON on the output. The
module's ``prepare(request)`` runs first, without a limit: it imports what takes long. The process exits when its input
ends.

The limit is CPU time, so that a verdict does not depend on what else the machine does. The system ends the process
at the limit, whatever happens to the parent: a timer without a handler does not wait for the interpreter, which a power
of huge numbers or a regular expression may block for ever.
"""

import importlib
import json
import logging
import os
import resource
import signal
import sys

MEMORY = 1 << 30
"""Address space, in bytes; work that needs more ends in an error, or ends this process."""
READY = b"ready\n"


def main(name: str) -> None:
    output = os.dup(1)
    os.dup2(2, 1)  # libraries must not print among the replies
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    logging.disable()
    module = importlib.import_module(name)
    os.write(output, READY)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        module.prepare(request)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        reply = module.reply(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        data = json.dumps(reply).encode() + b"\n"
        while data:
            data = data[os.write(output, data) :]


if __name__ == "__main__":
    main(sys.argv[1])
