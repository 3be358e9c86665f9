"""Steps with transient errors are retried, logged once and shown by /health; permanent errors are not retried."""

from contextlib import ExitStack, closing
from pathlib import Path

import openai
import pytest
from fake_models import ask, engine_process, promote, register, register_champion
from registered_versions import NAME, SIGNING
from serving_settings import SETTINGS, wait_until

from tunesmith.core import files, manifest
from tunesmith.core.errors import BaseModelError, RegistryError, UnreachableBaseError, UnreachableTrackerError
from tunesmith.registry.registered_models import Registry
from tunesmith.serving import candidates, model_cache
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.supervisor import Supervisor

pytestmark = pytest.mark.usefixtures("fake_engines")


def test_an_unreachable_tracker_is_logged_once_and_the_current_version_keeps_serving(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")

    def down(_: str) -> None:
        raise RegistryError("the tracking server does not answer", fix="start it")

    with monkeypatch.context() as patch:
        patch.setattr(registry, "versions", down)
        supervisor.poll()
        supervisor.poll()
        engine_process(supervisor).kill()
        engine_process(supervisor).wait()
        supervisor.poll()
    assert ask(client) == (f"{NAME}@1", "first"), "an engine is restarted without the tracker"
    assert [line for line in log if "does not answer" in line] == [log[0]]
    register_champion(registry, "second")
    supervisor.poll()
    assert ask(client) == (f"{NAME}@2", "second")


@pytest.mark.parametrize("error", [BaseModelError, RegistryError])
def test_a_champion_with_a_permanent_error_is_tried_once(
    registry: Registry,
    supervisor: Supervisor,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseModelError | RegistryError],
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    register_champion(registry, "second")

    def mismatched(*_: object) -> None:
        raise error("it is not what was pinned", fix="f")

    with monkeypatch.context() as patch:
        patch.setattr(candidates, "read_candidate", mismatched)
        supervisor.poll()
    supervisor.poll()
    health = proxy.health()
    assert (health["version"], health["retrying"]) == ("1", [])
    assert "not what was pinned" in health["failed"]["reason"]


def test_attempts_at_one_champion_back_off_and_another_champion_is_tried_at_once(
    registry: Registry, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def unreachable(*_: object) -> None:
        attempts.append(1)
        raise UnreachableBaseError("the hub does not answer", fix="f")

    settings = SETTINGS.model_copy(update={"poll_seconds": 3600})
    with closing(Supervisor(registry, NAME, proxy, settings, SIGNING, lambda _: None)) as supervisor:
        register_champion(registry, "first")
        supervisor.start("@champion")
        register_champion(registry, "second")
        with monkeypatch.context() as patch:
            patch.setattr(candidates, "read_candidate", unreachable)
            for _ in range(3):
                supervisor.poll()
        assert len(attempts) == 1
        assert "the hub does not answer" in proxy.health()["retrying"][0], "the error is shown during the pause"
        register_champion(registry, "third")
        supervisor.poll()
        assert proxy.health()["version"] == "3", "another champion is tried at once"


@pytest.mark.parametrize("error", [UnreachableBaseError, OSError, UnreachableTrackerError])
def test_a_champion_with_a_transient_error_is_retried_and_logged_once(
    registry: Registry,
    supervisor: Supervisor,
    proxy: Proxy,
    client: openai.OpenAI,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    register_champion(registry, "second")

    def unreachable(*_: object) -> None:
        reason = f"broken by {object()!r}"  # as in errors of pip: another address each time
        raise error(reason) if error is OSError else error(reason, fix="check the network")

    with monkeypatch.context() as patch:
        patch.setattr(candidates, "read_candidate", unreachable)
        for _ in range(3):
            supervisor.poll()
        health = proxy.health()
        assert (health["version"], health["failed"]) == ("1", None)
        [line] = health["retrying"]
        assert "version 2 waits" in line
        assert "broken by" in line
        assert [entry.partition(";")[0] for entry in log] == [
            "new champion: version 2 (second)",
            line.partition(";")[0],
        ]
        assert ask(client) == (f"{NAME}@1", "first")
    poll_until_serving(supervisor, proxy, "2")
    assert ask(client) == (f"{NAME}@2", "second")
    assert proxy.health()["retrying"] == []


def poll_until_serving(supervisor: Supervisor, proxy: Proxy, version: str) -> None:
    def serves_after_poll() -> bool:
        supervisor.poll()
        return proxy.health()["version"] == version

    wait_until(serves_after_poll)


def test_a_lock_of_another_process_is_waited_for_at_the_start_and_at_a_switch(
    registry: Registry, proxy: Proxy, client: openai.OpenAI, log: list[str]
) -> None:
    register_champion(registry, "first")
    register(registry, "second")
    digests = [manifest.read(Path("models") / model).digest for model in ("first", "second")]

    def log_and_unlock(line: str) -> None:
        log.append(line)
        other.close()

    with (
        closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, log_and_unlock)) as supervisor,
        ExitStack() as other,
    ):
        other.enter_context(files.only_writer(model_cache.version_folder(digests[0])))
        supervisor.start("@champion")
        assert ask(client) == (f"{NAME}@1", "first")
        assert "nothing is served yet, retrying" in log[0]
        assert "is writing it" in log[0]
        promote(registry, "2")
        supervisor.log = log.append
        with files.only_writer(model_cache.version_folder(digests[1])):
            supervisor.poll()
        assert proxy.health()["version"] == "1"
        poll_until_serving(supervisor, proxy, "2")
        assert ask(client) == (f"{NAME}@2", "second")
