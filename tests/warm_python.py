"""A `python` and a `dvc` for pipelines under test, forked from a process that has the libraries imported.

Importing torch, transformers, TRL and MLflow takes longer than a stage on a tiny model. So a server imports them once,
and the `python` in `folder()` asks it for a fork that runs `-m MODULE` as the real one would, with the caller's
arguments, environment, folder and streams, and the package of the folder, of which the server has imported nothing.
Workers of verifiers are started anew: they limit their memory to less than the libraries take.
"""

import atexit
import gc
import importlib.util
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from pathlib import Path

LIBRARIES = (
    "torch", "transformers", "transformers.trainer", "datasets", "peft", "trl", "trl.trainer.sft_trainer",
    "trl.trainer.dpo_trainer", "trl.trainer.grpo_trainer", "trl.trainer.rloo_trainer", "trl.trainer.reward_trainer",
    "transformers.models.llama.modeling_llama", "bitsandbytes", "mlflow", "mlflow.tracking", "scipy.stats", "pyarrow",
    "dvc.repo", "model_signing",
)  # fmt: skip
CLIENT = """#!{python} -ISs
import json, os, signal, socket, sys
if sys.argv[0].endswith("/dvc"):
    sys.argv[1:1] = ["-m", "dvc"]
if sys.argv[1:2] != ["-m"] or sys.argv[2:3] == ["tunesmith.verifiers.worker.child"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
server.sendall(request)
replies = server.makefile()
child = int(replies.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(child, number))
status = int(replies.readline())
os._exit(status if status >= 0 else 128 - status)
"""


@cache
def folder() -> Path:
    """The folder of the `python`; its server ends with this process."""
    from tunesmith.core import cpus  # not at the top, where the server would import it too

    place = Path(tempfile.mkdtemp(prefix="warm-"))
    address = str(place / "socket")
    for name in ("python", "dvc"):
        (place / name).write_text(CLIENT.format(python=sys.executable, address=address))
        (place / name).chmod(0o755)
    command = [sys.executable, "-P", __file__, address, str(place / "python")]
    # As a stage would get them: torch sizes its pool when it is imported.
    environment = os.environ | cpus.environment()
    server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server.stdout as output:
        assert output.readline() == b"ready\n"
    atexit.register(server.communicate)  # closes its stdin
    return place


def serve(address: str, python: str) -> None:
    """Fork for every request; end when stdin does."""
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # the forks share the libraries' memory
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forks that report are reaped by the system
    if (pid := os.fork()) == 0:  # the parent of the forks; its own parent ends it
        print("ready", flush=True)
        os.close(1)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                answer(connection, python)
            connection.close()
    os.close(1)
    sys.stdin.buffer.read()
    os.kill(pid, signal.SIGTERM)


def answer(connection: socket.socket, python: str) -> None:
    """Run one request in a fork of its own, and report its process ID and its exit status."""
    length, streams, _, _ = socket.recv_fds(connection, 4, 3)
    request = b""
    while len(request) < int.from_bytes(length, "big"):
        request += connection.recv(1 << 20)
    arguments, place, environment = json.loads(request)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        connection.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable, sys.orig_argv, sys.argv = python, arguments, arguments[2:]
    sys.path[:0] = [place, *filter(None, environment.get("PYTHONPATH", "").split(":"))]
    sys.modules.pop("sitecustomize", None)
    if importlib.util.find_spec("sitecustomize"):
        importlib.import_module("sitecustomize")
    try:
        runpy.run_module(arguments[2], run_name="__main__", alter_sys=True)
        status: object = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    if not isinstance(status, int):
        print(status, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)  # to tear down what was imported takes longer than a stage


if __name__ == "__main__":
    serve(*sys.argv[1:])
