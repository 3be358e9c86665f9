"""Adapters on one base share a vLLM: a new champion is loaded beside the old one, and no second engine starts."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from fake_models import BASE_ANSWERS, Adapter, ask, engine_process, promote, register_champion
from registered_versions import NAME, SIGNING
from serving_settings import MESSAGES, SETTINGS, wait_until

from tunesmith.core.errors import ServingError
from tunesmith.registry import promotion
from tunesmith.registry.registered_models import Registry
from tunesmith.serving import engine_commands, model_cache
from tunesmith.serving.engine import Engine
from tunesmith.serving.engines import Engines
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.gateway.web import listening
from tunesmith.serving.supervisor import Supervisor

pytestmark = pytest.mark.usefixtures("fake_vllm")
LARGE = SETTINGS.model_copy(update={"gpu_memory_share": 0.9})


def names(engine: Engine) -> list[str]:
    """Return the names that an engine answers to."""
    return list(engine.process.http.get("/metrics").json()["names"])


def current(supervisor: Supervisor) -> Engine:
    assert supervisor.deployment
    return supervisor.deployment.engine


def test_a_new_champion_is_loaded_beside_the_old_one_which_is_unloaded_after_its_last_request(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, client: openai.OpenAI, tmp_path: Path, log: list[str]
) -> None:
    gate = tmp_path / "gate"
    register_champion(registry, "first", {"otherwise": "one two", "gate": str(gate)}, Adapter())
    supervisor.start("@champion")
    engine, process = current(supervisor), engine_process(supervisor)
    assert names(engine) == ["base", f"{NAME}@1"]
    stream = client.chat.completions.create(model=NAME, messages=MESSAGES, stream=True)
    words = [next(stream).choices[0].delta.content]
    register_champion(registry, "second", adapter=Adapter(rank=16, layers=("up_proj",)))
    loaded, switch = list[str](), proxy.switch

    def note_and_switch(*arguments: Any) -> Any:
        loaded.extend(names(engine))
        gate.touch()  # until now the first is held in its answer
        return switch(*arguments)

    proxy.switch = note_and_switch
    supervisor.poll()
    words += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(word or "" for word in words) == "one two"
    assert loaded == ["base", f"{NAME}@1", f"{NAME}@2"]
    assert ask(client) == (f"{NAME}@2", "second")
    assert names(engine) == ["base", f"{NAME}@2"]
    assert engine_process(supervisor) is process
    assert process.poll() is None
    assert not any("stopping" in line for line in log)
    private = list(model_cache.private_root().iterdir())
    assert len(private) == 2, "the engine's own files, and those of the adapter that it answers as"
    supervisor.close()
    assert process.poll() is not None
    assert list(model_cache.private_root().iterdir()) == []


def test_requests_that_outlast_the_drain_keep_their_version_loaded(
    registry: Registry,
    supervisor: Supervisor,
    client: openai.OpenAI,
    tmp_path: Path,
    log: list[str],
) -> None:
    gate = tmp_path / "gate"
    register_champion(registry, "first", {"otherwise": "one two", "gate": str(gate)}, Adapter())
    supervisor.settings = supervisor.settings.model_copy(update={"drain_seconds": 0.2})
    supervisor.start("@champion")
    engine = current(supervisor)
    stream = client.chat.completions.create(model=NAME, messages=MESSAGES, stream=True)
    words = [next(stream).choices[0].delta.content]
    register_champion(registry, "second", adapter=Adapter())
    supervisor.poll()
    assert ask(client) == (f"{NAME}@2", "second")
    assert names(engine) == ["base", f"{NAME}@1", f"{NAME}@2"]
    assert any("1 requests to" in line and "stays loaded" in line for line in log)
    gate.touch()
    words += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(word or "" for word in words) == "one two"

    def unloaded() -> bool:
        supervisor.poll()
        return names(engine) == ["base", f"{NAME}@2"]

    wait_until(unloaded)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(BASE_ANSWERS, "answered as by the base"), ({"dies": "its rank is too high"}, "its rank is too high")],
    ids=["it answers as the base", "it is not loaded"],
)
def test_an_adapter_that_fails_is_unloaded_and_the_old_one_goes_on_serving(
    registry: Registry,
    supervisor: Supervisor,
    proxy: Proxy,
    client: openai.OpenAI,
    behaviour: dict[str, Any],
    reason: str,
) -> None:
    register_champion(registry, "first", adapter=Adapter())
    supervisor.start("@champion")
    engine = current(supervisor)
    register_champion(registry, "second", behaviour, Adapter())
    supervisor.poll()
    assert names(engine) == ["base", f"{NAME}@1"]
    assert ask(client) == (f"{NAME}@1", "first")
    failed = proxy.health()["failed"]
    assert failed
    assert (failed["version"], reason in failed["reason"]) == ("2", True)
    promotion.rollback(registry, NAME, signing=SIGNING, probe=lambda _: None)
    supervisor.poll()
    assert current(supervisor) is engine


@pytest.mark.parametrize(("deaths", "served"), [(1, "2"), (2, "1")], ids=["once", "again"])
def test_a_champion_during_whose_load_the_engine_ends_has_one_more_try(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, tmp_path: Path, deaths: int, served: str
) -> None:
    register_champion(registry, "first", adapter=Adapter())
    supervisor.start("@champion")
    kills = [tmp_path / str(number) for number in range(deaths)]
    for each in kills:
        each.touch()
    register_champion(registry, "second", {"kills": list(map(str, kills)), "otherwise": "second"}, Adapter())

    def settled() -> bool:
        supervisor.poll()
        deployed = supervisor.deployment
        return deployed is not None and (deployed.candidate.version == "2" or proxy.failed is not None)

    wait_until(settled)
    wait_until(lambda: supervisor.poll() or supervisor.deployment is not None)
    assert not any(each.exists() for each in kills)
    assert supervisor.deployment
    assert supervisor.deployment.candidate.version == served
    assert (proxy.failed is not None) == (served == "1")
    if proxy.failed:
        assert "vLLM gave no answer" in proxy.failed["reason"]


@pytest.mark.parametrize(
    "second",
    [
        Adapter(rank=32),
        Adapter(layers=("q_proj", "in_proj")),
        Adapter(layers=("lm_head",)),
        Adapter(template="{{ tools }}"),
        Adapter(base="another"),
        None,
    ],
    ids=["a higher rank", "another layer", "the output head", "another template", "another base", "full weights"],
)
def test_what_the_running_engine_was_not_started_for_gets_an_engine_of_its_own(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, log: list[str], second: Adapter | None
) -> None:
    register_champion(registry, "first", adapter=Adapter())
    supervisor.start("@champion")
    process = engine_process(supervisor)
    register_champion(registry, "second", adapter=second)
    supervisor.poll()
    assert not [line for line in log if "cannot serve" in line]
    assert ask(client) == (f"{NAME}@2", "second")
    assert engine_process(supervisor) is not process
    assert process.poll() is not None


def test_bytes_that_change_while_an_adapter_is_loaded_are_noticed(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_champion(registry, "first", adapter=Adapter())
    supervisor.start("@champion")
    engine, load = current(supervisor), Engine.adapter

    @contextmanager
    def change_and_load(engine: Engine, name: str, folder: Path) -> Iterator[None]:
        (folder / "chat_template.jinja").write_text("another")
        with load(engine, name, folder):
            yield

    monkeypatch.setattr(Engine, "adapter", change_and_load)
    register_champion(registry, "second", adapter=Adapter())
    supervisor.poll()
    failed = proxy.health()["failed"]
    assert failed
    assert "chat_template.jinja (changed)" in failed["reason"]
    assert names(engine) == ["base", f"{NAME}@1"]


class Aliases:
    """`tunesmith serve @champion @canary`, without its loop."""

    def __init__(self, registry: Registry, stack: ExitStack, log: list[str], share: float = 0.9) -> None:
        self.proxies = [Proxy(NAME, alias) for alias in ("champion", "canary")]
        settings = SETTINGS.model_copy(update={"gpu_memory_share": share})
        self.engines = Engines(settings, aliases=2)
        self.champion, self.canary = self.supervisors = [
            stack.enter_context(closing(Supervisor(registry, NAME, proxy, settings, SIGNING, log.append, self.engines)))
            for proxy in self.proxies
        ]
        for supervisor in self.supervisors:
            supervisor.peers = self.supervisors
        url = stack.enter_context(listening(self.proxies, settings, 0))
        self.client = stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0))

    def start(self) -> None:
        for supervisor in self.supervisors:
            supervisor.start(f"@{supervisor.proxy.alias}")

    def poll(self) -> None:
        for supervisor in self.supervisors:
            supervisor.poll()

    def asked(self, *models: str) -> list[str]:
        """Return the names of the versions that answer to these names."""
        return [ask(self.client, model)[0] for model in models]


@pytest.fixture
def aliases(registry: Registry, log: list[str]) -> Iterator[Aliases]:
    with ExitStack() as stack:
        yield Aliases(registry, stack, log)


def test_aliases_on_one_base_share_an_engine_and_are_chosen_by_the_models_name(
    registry: Registry, aliases: Aliases
) -> None:
    register_champion(registry, "first", adapter=Adapter())
    register_champion(registry, "second", adapter=Adapter(), alias="canary")
    aliases.start()
    [engine] = aliases.engines.running
    assert engine.loads.adapters
    assert engine.loads.adapters.count == 3, "one takes over while both are there"
    first, second = f"{NAME}@1", f"{NAME}@2"
    assert aliases.asked(NAME, "champion", f"{NAME}@champion", first) == [first] * 4
    assert aliases.asked("canary", f"{NAME}@canary", second) == [second] * 3
    shown = [model.id for model in aliases.client.models.list()]
    assert shown == [NAME, f"{NAME}@champion", f"{NAME}@canary"]
    for name in ("base", "first", f"{NAME}@3", f"{NAME}@another", str(Path("models/second").resolve())):
        with pytest.raises(openai.NotFoundError):
            ask(aliases.client, name)
    register_champion(registry, "third", adapter=Adapter(), alias="canary")
    aliases.poll()
    assert aliases.asked(NAME, "canary") == [first, f"{NAME}@3"]
    assert names(engine) == ["base", first, f"{NAME}@3"]
    with pytest.raises(openai.NotFoundError):
        ask(aliases.client, second)
    health = aliases.client.get("/../health", cast_to=object)
    assert isinstance(health, dict)
    assert {alias: report["version"] for alias, report in health["aliases"].items()} == {
        f"{NAME}@champion": "1",
        f"{NAME}@canary": "3",
    }


def test_a_version_of_two_aliases_is_loaded_once_and_stays_until_both_have_left_it(
    registry: Registry, aliases: Aliases
) -> None:
    register_champion(registry, "first", adapter=Adapter())
    promote(registry, "first", alias="canary")
    aliases.start()
    [engine] = aliases.engines.running
    assert names(engine) == ["base", f"{NAME}@1"]
    register_champion(registry, "second", adapter=Adapter())
    aliases.poll()
    assert aliases.asked("champion", "canary") == [f"{NAME}@2", f"{NAME}@1"]
    promote(registry, "second", alias="canary")
    aliases.poll()
    assert aliases.asked("champion", "canary") == [f"{NAME}@2"] * 2
    assert names(engine) == ["base", f"{NAME}@2"]


def test_a_shared_engine_that_ends_is_restarted_once_for_all(registry: Registry, aliases: Aliases) -> None:
    register_champion(registry, "first", adapter=Adapter())
    register_champion(registry, "second", adapter=Adapter(), alias="canary")
    aliases.start()
    [ended] = aliases.engines.running
    ended.process.kill()
    ended.process.process.wait()
    aliases.poll()
    [engine] = aliases.engines.running
    assert engine is not ended
    assert names(engine) == ["base", f"{NAME}@1", f"{NAME}@2"]
    assert aliases.asked("champion", "canary") == [f"{NAME}@1", f"{NAME}@2"]


def test_an_engine_that_does_not_fit_beside_those_of_other_aliases_is_refused_before_any_stops(
    registry: Registry, aliases: Aliases
) -> None:
    register_champion(registry, "first", adapter=Adapter())
    register_champion(registry, "second", adapter=Adapter(base="another"), alias="canary")
    aliases.champion.start("@champion")
    with pytest.raises(ServingError, match=r"needs its own vLLM, and serve\.gpu_memory_share is 0\.9"):
        aliases.canary.start("@canary")
    register_champion(registry, "third", adapter=Adapter(), alias="canary")
    aliases.canary.start("@canary")
    [engine] = aliases.engines.running
    register_champion(registry, "fourth", adapter=Adapter(base="another"), alias="canary")
    aliases.poll()
    assert aliases.asked("champion", "canary") == [f"{NAME}@1", f"{NAME}@3"]
    failed = aliases.canary.proxy.health()["failed"]
    assert failed
    assert "needs its own vLLM" in failed["reason"]
    assert aliases.engines.running == [engine]


def test_aliases_on_two_bases_have_an_engine_each_where_both_fit(registry: Registry, log: list[str]) -> None:
    register_champion(registry, "first", adapter=Adapter())
    register_champion(registry, "second", adapter=Adapter(base="another"), alias="canary")
    with ExitStack() as stack:
        aliases = Aliases(registry, stack, log, share=0.5)
        aliases.start()
        assert len(aliases.engines.running) == 2
        assert aliases.asked("champion", "canary") == [f"{NAME}@1", f"{NAME}@2"]
        register_champion(registry, "third", adapter=Adapter(base="yet-another"), alias="canary")
        aliases.poll()
        assert aliases.asked("champion", "canary") == [f"{NAME}@1", f"{NAME}@3"]
        assert any("stopping version 2" in line for line in log), "three do not fit"


def test_what_another_alias_needs_stays_in_the_cache(registry: Registry, aliases: Aliases) -> None:
    register_champion(registry, "first", adapter=Adapter(), alias="canary")
    register_champion(registry, "second", adapter=Adapter())
    aliases.start()
    for model in ("third", "fourth", "fifth"):
        register_champion(registry, model, adapter=Adapter())
        aliases.poll()
    kept = {path.read_text() for path in model_cache.folder().glob("versions/*/model/answers.json")}
    assert {name for name in ("first", "second", "fourth", "fifth") if any(f'"{name}"' in text for text in kept)} == {
        "first",
        "fourth",
        "fifth",
    }


def test_transformers_serves_each_adapter_by_an_engine_of_its_own(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_commands, "choose", lambda *_: None)
    register_champion(registry, "first", adapter=Adapter())
    supervisor.start("@champion")
    process = engine_process(supervisor)
    register_champion(registry, "second", adapter=Adapter())
    supervisor.poll()
    assert ask(client) == (f"{NAME}@2", "second")
    wait_until(lambda: process.poll() is not None)
