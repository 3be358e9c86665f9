"""`tunesmith serve` as a process, and its wait for the first champion."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_models import FAKE_ENGINE, edit_params, promote, register, register_champion
from registered_versions import NAME, SIGNING
from serving_settings import SETTINGS, wait_until

from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.supervisor import Supervisor

pytestmark = pytest.mark.usefixtures("fake_engines")


COMMAND = """
import signal, sys, types
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `&` does in a script
from tunesmith.cli import main as cli
from tunesmith.core.errors import UnreachableTrackerError
from tunesmith.serving import command, engine_commands

calls, Registry = [], command.Registry

def connect():
    calls.append(None)
    if len(calls) < 3:
        raise UnreachableTrackerError("the tracking server does not answer", fix="start it")
    return Registry()

command.Registry = connect

class Supervisor(command.Supervisor):
    def poll(self):
        try:
            super().poll()
        except KeyboardInterrupt:  # as Python does while it finalizes an object
            pass

command.Supervisor = Supervisor
prompts = types.ModuleType("tunesmith.serving.gateway.prompts")  # the real one takes seconds to import
prompts.reader = lambda *_: None
sys.modules[prompts.__name__] = prompts
engine_commands.choose = lambda *_: None
engine_commands.command = lambda _, served, socket, *others: (
    [sys.executable, {fake!r}, served.name, str(socket), str(served.folder / "answers.json")])
cli.main(["serve", "--port", "0"])
"""


@pytest.fixture
def command(registry: Registry, project: Path) -> Iterator[subprocess.Popen[str]]:
    register_champion(registry, "first")
    edit_params(project, serve=SETTINGS.model_dump(), signing=SIGNING.model_dump(mode="json"))
    script = COMMAND.format(fake=str(FAKE_ENGINE))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_command_prints_the_served_version_and_leaves_no_engine_however_it_ends(
    command: subprocess.Popen[str], ending: signal.Signals
) -> None:
    assert command.stdout
    line = command.stdout.readline()
    url, _, rest = line.partition("/v1 ")
    assert rest.startswith(f"serves {NAME} version 1 (first), digest "), line
    assert httpx2.get(f"{url}/health").json()["version"] == "1"
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    assert len(children) == 1
    command.send_signal(ending)
    status = command.wait(60)
    assert command.stderr
    assert command.stderr.read().count("the tracking server does not answer") == 1
    assert status == (-9 if ending == signal.SIGKILL else 0)
    wait_until(lambda: not is_running(int(children[0])))


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@contextmanager
def waiting_for_first(supervisor: Supervisor) -> Iterator[Future[None]]:
    """Wait for the first champion in a thread, no longer than the block runs."""
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        try:
            yield pool.submit(supervisor.wait_for_first, "champion")
        finally:
            patch.setattr(supervisor, "_reason_to_wait", lambda alias: None)
            pool.shutdown()


def test_the_first_champion_is_waited_for_on_request(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, log: list[str], project: Path
) -> None:
    edit_params(project, signing=SIGNING.model_dump(mode="json"))
    register(registry, "first")
    with waiting_for_first(supervisor) as waiting:
        wait_until(lambda: log == [f"{NAME} has no champion yet: `tunesmith promote MODEL` makes one"])
        assert proxy.health()["reason"] == log[0]
        assert not waiting.done()
        promote(registry, "first")
        waiting.result(timeout=30)
    supervisor.start("@champion")
    assert proxy.health()["trained"] == "first"


def test_a_key_that_is_not_trusted_yet_is_waited_for(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, log: list[str], project: Path
) -> None:
    register_champion(registry, "first")
    edit_params(project, signing=SIGNING.model_dump(mode="json"))
    (project / "config").rename(project / "colleague")  # whose key signed the champion
    signatures.private_key(SIGNING)
    with waiting_for_first(supervisor) as waiting:
        wait_until(lambda: len(log) == 1 or waiting.done())
        assert "not trusted here" in log[0]
        assert "signing.trusted" in proxy.health()["reason"]
        public = project / "colleague.pub"
        trusting = SIGNING.model_copy(update={"trusted": (public,)})
        edit_params(project, signing=trusting.model_dump(mode="json"))
        wait_until(lambda: len(log) == 2 or waiting.done())
        assert "colleague.pub: not a readable key in PEM" in log[1]
        shutil.copy(project / "colleague" / "tunesmith" / "signing.pem.pub", project / "copied.pub")
        (project / "copied.pub").rename(public)
        waiting.result(timeout=30)
    supervisor.start("@champion")
    assert proxy.health()["trained"] == "first"
