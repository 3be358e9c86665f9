"""An engine that ended or hangs is restarted from verified files; a busy one is left alone."""

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import openai
import pytest
from fake_models import ask, engine_process, register_champion
from registered_versions import NAME, SIGNING
from serving_settings import MESSAGES, SETTINGS, wait_until

from tunesmith.models.engines import process
from tunesmith.registry.registered_models import Registry
from tunesmith.serving import deployment, model_cache
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.supervisor import Restarting, Supervisor

pytestmark = pytest.mark.usefixtures("fake_engines")


def test_an_engine_that_ends_by_itself_is_logged_and_restarted(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, log: list[str]
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    engine_process(supervisor).kill()
    engine_process(supervisor).wait()
    supervisor.poll()
    assert "ended with status -9" in log[0]
    assert ask(client) == (f"{NAME}@1", "first")


def test_an_engine_that_ends_while_a_champion_is_started_is_restarted_meanwhile(
    registry: Registry, proxy: Proxy, client: openai.OpenAI, log: list[str]
) -> None:
    settings = SETTINGS.model_copy(update={"start_seconds": 6.0})
    with closing(Supervisor(registry, NAME, proxy, settings, SIGNING, log.append)) as supervisor:
        register_champion(registry, "first")
        supervisor.start("@champion")
        before = engine_process(supervisor)
        register_champion(registry, "second", {"hangs": True})  # healthy, and answers no probe
        with ThreadPoolExecutor(1) as pool:
            killed = pool.submit(lambda: (wait_until(lambda: "new champion" in " ".join(log)), before.kill()))
            supervisor.poll()
            killed.result()
        again, refused = (
            next(n for n, line in enumerate(log) if part in line) for part in ("again", "version 2 cannot serve")
        )
        assert again < refused, "it did not wait for the champion's end"
        assert ask(client) == (f"{NAME}@1", "first")


@pytest.mark.parametrize("which", ["@champion", "first"])
def test_an_engine_whose_cached_files_were_changed_is_restarted_from_the_signed_copy(
    registry: Registry, log: list[str], which: str
) -> None:
    register_champion(registry, "first")
    proxy = Proxy(NAME, "champion" if which == "@champion" else None)
    with closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, log.append)) as supervisor:
        supervisor.start(which)
        before = engine_process(supervisor)
        [file] = (model_cache.folder() / "versions").rglob("answers.json")
        file.write_text("{}")
        before.kill()
        before.wait()
        supervisor.poll()
        assert proxy.health()["version"] == "1"
        assert engine_process(supervisor) is not before
        assert "first" in file.read_text()
        assert any("answers.json (changed); it was fetched again" in line for line in log)


def change_everywhere(registry: Registry) -> None:
    """Change the only version, in the cache and in the registry."""
    for place in (model_cache.folder() / "versions", Path(registry.versions(NAME)[0].source)):
        [file] = place.rglob("answers.json")
        file.write_text("{}")


def test_an_engine_whose_files_were_changed_everywhere_is_not_restarted(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, log: list[str]
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    change_everywhere(registry)
    engine_process(supervisor).kill()
    engine_process(supervisor).wait()
    supervisor.poll()
    supervisor.poll()
    assert isinstance(supervisor.state, Restarting)
    assert proxy.health()["status"] == "unavailable"
    assert [line for line in log if "still serving nothing" in line] == [log[-1]]
    assert "answers.json (changed)" in log[-1]
    register_champion(registry, "second")
    supervisor.poll()
    assert proxy.health()["version"] == "2"


def test_an_engine_that_hangs_is_killed_and_restarted_and_its_requests_end(
    registry: Registry,
    supervisor: Supervisor,
    proxy: Proxy,
    client: openai.OpenAI,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    monkeypatch.setattr(process, "HEALTH_TIMEOUT", 0.2)
    hung = engine_process(supervisor)
    hung.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool, ExitStack() as ending:
        ending.callback(hung.kill)  # else the request never ends where this test fails
        request = pool.submit(ask, client)
        wait_until(lambda: proxy.health()["in_flight"] == 1)
        for _ in range(deployment.MAX_MISSED - 1):
            supervisor.poll()
            assert engine_process(supervisor) is hung
        supervisor.poll()
        assert hung.poll() == -signal.SIGKILL
        with pytest.raises(openai.InternalServerError, match="gave no answer"):
            request.result()
    assert "missed 3 health checks in a row" in log[0]
    assert ask(client) == (f"{NAME}@1", "first")


def test_health_shows_that_an_engine_hung_and_why_it_cannot_be_restarted(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    change_everywhere(registry)
    monkeypatch.setattr(process, "HEALTH_TIMEOUT", 0.2)
    engine_process(supervisor).send_signal(signal.SIGSTOP)
    for _ in range(deployment.MAX_MISSED):
        supervisor.poll()
    health = proxy.health()
    assert health["status"] == "unavailable"
    assert health["reason"].startswith(f"{NAME}@1: transformers missed 3 health checks in a row")
    assert "answers.json (changed)" in health["retrying"][0]


def test_an_engine_that_misses_health_checks_now_and_then_is_left_alone(
    registry: Registry, supervisor: Supervisor, tmp_path: Path, log: list[str]
) -> None:
    sick = tmp_path / "sick"
    register_champion(registry, "first", {"sick": str(sick)})
    supervisor.start("@champion")
    first = engine_process(supervisor)
    for _ in range(3):
        sick.touch()
        for _ in range(deployment.MAX_MISSED - 1):
            supervisor.poll()
        sick.unlink()
        supervisor.poll()
    assert engine_process(supervisor) is first
    assert first.poll() is None
    assert log == []


def test_a_long_answer_does_not_count_as_a_hang(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, tmp_path: Path, log: list[str]
) -> None:
    gate = tmp_path / "gate"
    register_champion(registry, "first", {"otherwise": "one two", "gate": str(gate)})
    supervisor.start("@champion")
    stream = client.chat.completions.create(model=NAME, messages=MESSAGES, stream=True)
    words = [next(stream).choices[0].delta.content]
    for _ in range(deployment.MAX_MISSED + 1):
        supervisor.poll()
    gate.touch()
    words += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(word or "" for word in words) == "one two"
    assert log == []
