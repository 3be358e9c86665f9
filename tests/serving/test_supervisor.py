"""The supervisor serves the champion and follows promotions; a version that cannot serve changes nothing."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from fake_models import BASE_ANSWERS, ask, engine_process, register, register_champion
from registered_versions import NAME, SIGNING, stored, unprobed
from serving_settings import MESSAGES, SETTINGS

from tunesmith.core.errors import IntegrityError, RegistryError, ServingError
from tunesmith.registry import promotion
from tunesmith.registry.registered_models import Registry
from tunesmith.serving import engine_commands
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.supervisor import Serving, Supervisor, Waiting

pytestmark = pytest.mark.usefixtures("fake_engines")


def test_a_promotion_or_rollback_changes_the_served_version_and_stops_the_previous_engine(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    assert ask(client) == (f"{NAME}@1", "first")
    register_champion(registry, "second")
    first = engine_process(supervisor)
    supervisor.poll()
    assert ask(client) == (f"{NAME}@2", "second")
    assert first.poll() is not None
    second = engine_process(supervisor)
    promotion.rollback(registry, NAME, signing=SIGNING, probe=unprobed)
    supervisor.poll()
    assert ask(client) == (f"{NAME}@1", "first")
    supervisor.close()
    assert second.poll() is not None


def test_an_alias_moved_in_the_tracker_without_a_promotion_changes_nothing(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI
) -> None:
    register_champion(registry, "first")
    register(registry, "second")
    registry.move_alias(NAME, "champion", "2")
    supervisor.start("@champion")
    supervisor.poll()
    assert ask(client) == (f"{NAME}@1", "first")


def test_a_fixed_version_is_served_whatever_is_promoted(registry: Registry, log: list[str]) -> None:
    register_champion(registry, "first")
    proxy = Proxy(NAME, None)
    with closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, log.append)) as supervisor:
        supervisor.start("first")
        register_champion(registry, "second")
        supervisor.poll()
        assert proxy.current
        assert proxy.current.name == f"{NAME}@1"
        assert log == []


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (BASE_ANSWERS, "answered as by the base"),
        ({"answers": {}}, "8 of 8 probe prompts are answered differently"),
        ({"dies": "out of memory"}, "out of memory"),
    ],
    ids=["its adapter is not applied", "its answers differ", "its engine dies"],
)
def test_a_champion_that_fails_leaves_the_previous_one_serving_and_is_not_retried(
    registry: Registry,
    supervisor: Supervisor,
    proxy: Proxy,
    client: openai.OpenAI,
    log: list[str],
    behaviour: dict[str, Any],
    reason: str,
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    register_champion(registry, "second", behaviour)
    supervisor.poll()
    assert ask(client) == (f"{NAME}@1", "first")
    failed = proxy.health()["failed"]
    assert failed["version"] == "2"
    assert reason in failed["reason"]
    assert any("version 2 cannot serve; still serving version 1 (first)" in line for line in log)
    count = len(log)
    supervisor.poll()
    assert len(log) == count
    register_champion(registry, "third")
    supervisor.poll()
    assert ask(client) == (f"{NAME}@3", "third")
    assert proxy.health()["failed"] is None


@pytest.mark.usefixtures("fake_vllm")
@pytest.mark.parametrize(("share", "beside"), [(0.5, True), (0.9, False)])
def test_above_half_of_the_gpu_the_previous_engine_stops_before_the_next_starts(
    registry: Registry,
    proxy: Proxy,
    client: openai.OpenAI,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    beside: bool,
) -> None:
    command, running = engine_commands.command, list[bool]()

    def start(*arguments: Any) -> Any:
        if supervisor.state != Waiting():
            running.append(first.poll() is None)
            assert isinstance(supervisor.state, Serving) or "being started" in proxy.health()["reason"]
        return command(*arguments)

    monkeypatch.setattr(engine_commands, "command", start)
    settings = SETTINGS.model_copy(update={"gpu_memory_share": share})
    with closing(Supervisor(registry, NAME, proxy, settings, SIGNING, log.append)) as supervisor:
        register_champion(registry, "first")
        supervisor.start("@champion")
        first = engine_process(supervisor)
        register_champion(registry, "second", BASE_ANSWERS)
        supervisor.poll()
        assert ("still serving nothing until version 1" in "".join(log)) is not beside
        supervisor.poll()
        assert ask(client) == (f"{NAME}@1", "first")
        register_champion(registry, "third")
        first = engine_process(supervisor)
        supervisor.poll()
        assert ask(client) == (f"{NAME}@3", "third")
    assert set(running) == {beside}
    refused = f"serve.gpu_memory_share is {share:g}, so no second engine fits"
    assert any(refused in line for line in log) is not beside


def test_a_champion_whose_bytes_were_changed_leaves_the_previous_one_serving(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, client: openai.OpenAI
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    register_champion(registry, "second")
    artifact = stored(registry, registry.versions(NAME)[0]) / "answers.json"
    artifact.write_text(artifact.read_text().replace("second", "sECOND"))
    supervisor.poll()
    assert "answers.json (changed)" in proxy.health()["failed"]["reason"]
    assert ask(client) == (f"{NAME}@1", "first")


def test_a_model_that_was_changed_in_the_cache_is_fetched_again(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, tmp_path: Path
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    supervisor.close()
    [cached] = (tmp_path / "cache").rglob("answers.json")
    cached.write_text("{}")
    supervisor.start("@champion")
    assert ask(client) == (f"{NAME}@1", "first")


@pytest.mark.parametrize("edit", ["an entry slipped in", "an older database"])
def test_an_edited_history_of_promotions_changes_nothing(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, log: list[str], edit: str
) -> None:
    register_champion(registry, "first")
    register_champion(registry, "second")
    supervisor.start("@champion")
    if edit == "an entry slipped in":
        registry.add_version(f"{NAME}-promotions", registry.versions(NAME)[0], {"tunesmith.entry": "{}"}, "x")
    else:
        for version in registry.versions(f"{NAME}-promotions")[:2]:
            registry.remove_version(f"{NAME}-promotions", version.number)
    supervisor.poll()
    assert "is not valid" in log[0]
    assert ask(client) == (f"{NAME}@2", "second")
    with pytest.raises(IntegrityError, match="is not valid"):
        supervisor.start("@champion")


def test_requests_in_flight_end_before_the_previous_engine_stops(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, client: openai.OpenAI, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    register_champion(registry, "first", {"otherwise": "one two", "gate": str(gate)})
    supervisor.start("@champion")
    register_champion(registry, "second")
    stream = client.chat.completions.create(model=NAME, messages=MESSAGES, stream=True)
    words = [next(stream).choices[0].delta.content]
    switch = proxy.switch

    def open_gate_and_switch(*arguments: Any) -> Any:
        gate.touch()  # until now the previous engine was held in its answer
        return switch(*arguments)

    proxy.switch = open_gate_and_switch
    supervisor.poll()
    words += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(word or "" for word in words) == "one two"
    assert ask(client) == (f"{NAME}@2", "second")


def test_a_first_version_that_cannot_be_served_is_an_error(registry: Registry, supervisor: Supervisor) -> None:
    with pytest.raises(RegistryError, match="no champion yet"):
        supervisor.start("@champion")
    register_champion(registry, "first", BASE_ANSWERS)
    with pytest.raises(ServingError, match="as by the base"):
        supervisor.start("@champion")
    run = registry.versions(NAME)[0].run
    shutil.rmtree(Path(registry.client.get_run(run).info.artifact_uri) / "evidence")
    supervisor.settings = SETTINGS.model_copy(update={"start_seconds": 0.05})
    with pytest.raises((RegistryError, IntegrityError)):
        supervisor.start("@champion")
