"""The champion is served and followed, and what cannot serve leaves what serves alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import yaml
from registered_versions import NAME, SIGNING, unprobed
from serving_settings import ASKED, SETTINGS, until

from tunesmith.core import files, manifest
from tunesmith.core.errors import (
    BaseModelError,
    IntegrityError,
    RegistryError,
    ServingError,
    UnreachableBaseError,
    UnreachableTrackerError,
)
from tunesmith.registry import promotion, registration
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment
from tunesmith.serving import deployment, engine, engine_commands, model_cache
from tunesmith.serving.engine_commands import Served
from tunesmith.serving.proxy import Proxy, listening
from tunesmith.serving.supervisor import Supervisor

FAKE = Path(__file__).parents[1] / "fake_engine.py"
NOISE = {"answers": 100, "differ": 0, "tokens": 1000}


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Engines answer what the model's folder says."""

    def command(served: Served, port: int, *_: object) -> tuple[str, list[str]]:
        return "transformers", [sys.executable, str(FAKE), served.name, str(port), str(served.folder / "answers.json")]

    monkeypatch.setattr(engine_commands, "choose", command)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def registry(project: Path) -> Registry:
    return Registry("arithmetic")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def proxy() -> Proxy:
    return Proxy(NAME, "champion")


@pytest.fixture
def supervisor(registry: Registry, proxy: Proxy, said: list[str]) -> Iterator[Supervisor]:
    with closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, said.append)) as supervisor:
        yield supervisor


@pytest.fixture
def client(proxy: Proxy) -> Iterator[openai.OpenAI]:
    with listening(proxy, SETTINGS, 0) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as made:
        yield made


def register(registry: Registry, model: str, answers: dict[str, Any] | None = None) -> str:
    """A version whose probes expect ``answers``' of the model to say its name, whatever its engine really does."""
    folder = Path("models") / model
    folder.mkdir(parents=True)
    told = {"answers": {f"{n} + {n}?": f"{model} {n}" for n in range(8)}, "otherwise": model} | (answers or {})
    (folder / "answers.json").write_text(json.dumps(told))
    manifest.write(folder)
    probes = [
        {
            "suite": "s",
            "id": str(n),
            "prompt": [{"role": "user", "content": f"{n} + {n}?"}],
            "max_new_tokens": 8,
            "completion": f"{model} {n}",
            "tokens": 3,
            "base": f"base {n}",
        }
        for n in range(8)
    ]
    return registration.register(
        registry,
        NAME,
        Experiment("arithmetic").run(model, model, 0, {}),
        folder,
        outcome="pass",
        evidence="better",
        files={"probes.json": json.dumps({"probes": probes, "noise": NOISE, "dtype": "float32"})},
        tags={},
        description="d",
        signing=SIGNING,
    )


def promote(registry: Registry, which: str) -> None:
    promotion.promote(registry, NAME, which, signing=SIGNING, probe=unprobed)


def champion(registry: Registry, model: str, answers: dict[str, Any] | None = None) -> None:
    promote(registry, register(registry, model, answers))


def ask(client: openai.OpenAI) -> tuple[str, str | None]:
    reply = client.chat.completions.create(model=NAME, messages=ASKED)
    return reply.model, reply.choices[0].message.content


def process(supervisor: Supervisor) -> subprocess.Popen[bytes]:
    assert supervisor.standing
    return supervisor.standing.engine.process


def test_the_champion_is_served_then_the_next_and_no_engine_is_left(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    assert ask(client) == (f"{NAME}@1", "first")
    champion(registry, "second")
    first = process(supervisor)
    supervisor.look()
    assert ask(client) == (f"{NAME}@2", "second")
    assert first.poll() is not None
    second = process(supervisor)
    promotion.rollback(registry, NAME, signing=SIGNING, probe=unprobed)
    supervisor.look()
    assert ask(client) == (f"{NAME}@1", "first")
    supervisor.close()
    assert second.poll() is not None


def test_what_the_alias_of_the_tracker_says_is_not_what_is_served(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI
) -> None:
    champion(registry, "first")
    register(registry, "second")
    registry.move_alias(NAME, "champion", "2")
    supervisor.begin("@champion")
    supervisor.look()
    assert ask(client) == (f"{NAME}@1", "first")


def test_a_fixed_version_stays_whatever_is_promoted(registry: Registry, said: list[str]) -> None:
    champion(registry, "first")
    proxy = Proxy(NAME, None)
    with closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, said.append)) as supervisor:
        supervisor.begin("first")
        champion(registry, "second")
        supervisor.look()
        assert proxy.current
        assert proxy.current.name == f"{NAME}@1"
        assert said == []


OF_BASE = {"answers": {f"{n} + {n}?": f"base {n}" for n in range(8)}}


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (OF_BASE, "answered as by the base"),
        ({"answers": {}}, "8 of 8 probe prompts are answered otherwise"),
        ({"dies": "out of memory"}, "out of memory"),
    ],
    ids=["its adapter is not applied", "it answers otherwise", "its engine dies"],
)
def test_a_champion_that_fails_leaves_the_old_one_serving_and_is_not_tried_again(
    registry: Registry,
    supervisor: Supervisor,
    proxy: Proxy,
    client: openai.OpenAI,
    said: list[str],
    answers: dict[str, Any],
    reason: str,
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    champion(registry, "second", answers)
    supervisor.look()
    assert ask(client) == (f"{NAME}@1", "first")
    failed = proxy.health()["failed"]
    assert failed["version"] == "2"
    assert reason in failed["reason"]
    assert any("version 2 cannot serve; still serving version 1 (first)" in line for line in said)
    told = len(said)
    supervisor.look()
    assert len(said) == told
    champion(registry, "third")
    supervisor.look()
    assert ask(client) == (f"{NAME}@3", "third")
    assert proxy.health()["failed"] is None


def test_a_champion_whose_bytes_were_changed_leaves_the_old_one_serving(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, client: openai.OpenAI
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    champion(registry, "second")
    run = registry.versions(NAME)[0].run
    artifact = Path(registry.client.get_run(run).info.artifact_uri) / "model" / "answers.json"
    artifact.write_text(artifact.read_text().replace("second", "sECOND"))
    supervisor.look()
    assert "answers.json (changed)" in proxy.health()["failed"]["reason"]
    assert ask(client) == (f"{NAME}@1", "first")


def test_what_lies_changed_in_the_cache_is_fetched_again(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, tmp_path: Path
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    supervisor.close()
    [kept] = (tmp_path / "cache").rglob("answers.json")
    kept.write_text("{}")
    supervisor.begin("@champion")
    assert ask(client) == (f"{NAME}@1", "first")


def test_a_tracker_that_is_down_is_said_once_and_what_serves_goes_on(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")

    def down(_: str) -> None:
        raise RegistryError("the tracking server does not answer", fix="start it")

    with monkeypatch.context() as patch:
        patch.setattr(registry, "versions", down)
        supervisor.look()
        supervisor.look()
        process(supervisor).kill()
        process(supervisor).wait()
        supervisor.look()
    assert ask(client) == (f"{NAME}@1", "first"), "an engine is started again without the tracker"
    assert [line for line in said if "does not answer" in line] == [said[0]]
    champion(registry, "second")
    supervisor.look()
    assert ask(client) == (f"{NAME}@2", "second")


def test_a_history_that_was_edited_changes_nothing(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, said: list[str]
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    register(registry, "second")
    registry.add_version(f"{NAME}-promotions", registry.versions(NAME)[0], {"tunesmith.entry": "{}"}, "slipped in")
    supervisor.look()
    assert "is not valid" in said[0]
    assert ask(client) == (f"{NAME}@1", "first")


def test_an_engine_that_ends_by_itself_is_told_with_its_last_words_and_started_again(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, said: list[str]
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    process(supervisor).kill()
    process(supervisor).wait()
    supervisor.look()
    assert "ended with status -9" in said[0]
    assert ask(client) == (f"{NAME}@1", "first")


@pytest.mark.parametrize("which", ["@champion", "first"])
def test_an_engine_whose_files_were_changed_meanwhile_is_started_again_from_the_signed_copy(
    registry: Registry, said: list[str], which: str
) -> None:
    champion(registry, "first")
    proxy = Proxy(NAME, "champion" if which == "@champion" else None)
    with closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, said.append)) as supervisor:
        supervisor.begin(which)
        before = process(supervisor)
        [kept] = model_cache.folder().rglob("answers.json")
        kept.write_text("{}")
        before.kill()
        before.wait()
        supervisor.look()
        assert proxy.health()["version"] == "1"
        assert process(supervisor) is not before
        assert "first" in kept.read_text()
        assert any("answers.json (changed); it was fetched again" in line for line in said)


def change_everywhere(registry: Registry) -> None:
    """The bytes of the only version, in the cache and in the registry."""
    artifacts = registry.artifacts(registry.versions(NAME)[0].run)
    for place in (model_cache.folder(), Path(artifacts)):
        [kept] = place.rglob("answers.json")
        kept.write_text("{}")


def test_an_engine_whose_files_were_changed_everywhere_is_not_started_again(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, said: list[str]
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    change_everywhere(registry)
    process(supervisor).kill()
    process(supervisor).wait()
    supervisor.look()
    supervisor.look()
    assert proxy.health()["status"] == "unavailable"
    assert [line for line in said if "still serving nothing" in line] == [said[-1]]
    assert "answers.json (changed)" in said[-1]
    champion(registry, "second")
    supervisor.look()
    assert proxy.health()["version"] == "2"


def test_an_engine_that_hangs_is_killed_and_started_again_and_nobody_waits_for_it(
    registry: Registry,
    supervisor: Supervisor,
    proxy: Proxy,
    client: openai.OpenAI,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    monkeypatch.setattr(engine, "PULSE", 0.2)
    hung = process(supervisor)
    hung.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool, ExitStack() as ending:
        ending.callback(hung.kill)  # else nobody would answer, where this fails
        asked = pool.submit(ask, client)
        until(lambda: proxy.health()["in_flight"] == 1)
        for _ in range(engine.MISSES - 1):
            supervisor.look()
            assert process(supervisor) is hung
        supervisor.look()
        assert hung.poll() == -signal.SIGKILL
        with pytest.raises(openai.InternalServerError, match="gave no answer"):
            asked.result()
    assert "did not say 3 times in a row that it is well" in said[0]
    assert ask(client) == (f"{NAME}@1", "first")


def test_health_says_that_an_engine_hung_and_what_keeps_it_from_being_started_again(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    change_everywhere(registry)
    monkeypatch.setattr(engine, "PULSE", 0.2)
    process(supervisor).send_signal(signal.SIGSTOP)
    for _ in range(engine.MISSES):
        supervisor.look()
    health = proxy.health()
    assert health["status"] == "unavailable"
    assert health["reason"].startswith(f"{NAME}@1: transformers did not say 3 times in a row that it is well")
    assert "answers.json (changed)" in health["retrying"][0]


def test_an_engine_that_is_unwell_now_and_then_is_left_alone(
    registry: Registry, supervisor: Supervisor, tmp_path: Path, said: list[str]
) -> None:
    sick = tmp_path / "sick"
    champion(registry, "first", {"sick": str(sick)})
    supervisor.begin("@champion")
    first = process(supervisor)
    for _ in range(3):
        sick.touch()
        for _ in range(engine.MISSES - 1):
            supervisor.look()
        sick.unlink()
        supervisor.look()
    assert process(supervisor) is first
    assert first.poll() is None
    assert said == []


def test_a_long_answer_is_no_hang(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, tmp_path: Path, said: list[str]
) -> None:
    gate = tmp_path / "gate"
    champion(registry, "first", {"otherwise": "one two", "gate": str(gate)})
    supervisor.begin("@champion")
    stream = client.chat.completions.create(model=NAME, messages=ASKED, stream=True)
    words = [next(stream).choices[0].delta.content]
    for _ in range(engine.MISSES + 1):
        supervisor.look()
    gate.touch()
    words += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(word or "" for word in words) == "one two "
    assert said == []


@pytest.mark.parametrize("kind", [BaseModelError, RegistryError])
def test_a_champion_that_never_can_be_had_is_tried_once(
    registry: Registry,
    supervisor: Supervisor,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseModelError | RegistryError],
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    champion(registry, "second")

    def never(_: object) -> None:
        raise kind("it is not what was pinned", fix="f")

    with monkeypatch.context() as patch:
        patch.setattr(deployment, "candidate", never)
        supervisor.look()
    supervisor.look()
    health = proxy.health()
    assert (health["version"], health["retrying"]) == ("1", [])
    assert "not what was pinned" in health["failed"]["reason"]


def test_between_attempts_at_what_cannot_be_had_for_now_there_are_pauses(
    registry: Registry, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def unreached(_: object) -> None:
        attempts.append(1)
        raise UnreachableBaseError("the hub does not answer", fix="f")

    settings = SETTINGS.model_copy(update={"poll_seconds": 3600})
    with closing(Supervisor(registry, NAME, proxy, settings, SIGNING, lambda _: None)) as supervisor:
        champion(registry, "first")
        supervisor.begin("@champion")
        champion(registry, "second")
        with monkeypatch.context() as patch:
            patch.setattr(deployment, "candidate", unreached)
            for _ in range(3):
                supervisor.look()
        assert len(attempts) == 1
        assert "the hub does not answer" in proxy.health()["retrying"][0], "it is shown all the while"
        champion(registry, "third")
        supervisor.look()
        assert proxy.health()["version"] == "3", "another is tried at once"


@pytest.mark.parametrize("kind", [UnreachableBaseError, OSError, UnreachableTrackerError])
def test_a_champion_that_cannot_be_had_for_now_is_tried_again_and_told_once(
    registry: Registry,
    supervisor: Supervisor,
    proxy: Proxy,
    client: openai.OpenAI,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    champion(registry, "second")

    def unreached(_: object) -> None:
        reason = f"broken by {object()!r}"  # as pip tells it: another address each time
        raise kind(reason) if kind is OSError else kind(reason, fix="check the network")

    with monkeypatch.context() as patch:
        patch.setattr(deployment, "candidate", unreached)
        for _ in range(3):
            supervisor.look()
        health = proxy.health()
        assert (health["version"], health["failed"]) == ("1", None)
        [line] = health["retrying"]
        assert "version 2 waits" in line
        assert "broken by" in line
        assert [each.partition(";")[0] for each in said] == [
            "new champion: version 2 (second)",
            line.partition(";")[0],
        ]
        assert ask(client) == (f"{NAME}@1", "first")
    look_until_serving(supervisor, proxy, "2")
    assert ask(client) == (f"{NAME}@2", "second")
    assert proxy.health()["retrying"] == []


def look_until_serving(supervisor: Supervisor, proxy: Proxy, version: str) -> None:
    def looked() -> bool:
        supervisor.look()
        return bool(proxy.health()["version"] == version)

    until(looked)


def test_a_lock_of_another_process_is_waited_for_at_the_start_and_later(
    registry: Registry, proxy: Proxy, client: openai.OpenAI, said: list[str]
) -> None:
    champion(registry, "first")
    register(registry, "second")
    digests = [manifest.read(Path("models") / model).digest for model in ("first", "second")]

    def say(line: str) -> None:
        said.append(line)
        other.close()

    with closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, say)) as supervisor, ExitStack() as other:
        other.enter_context(files.only_writer(model_cache.version(digests[0])))
        supervisor.begin("@champion")
        assert ask(client) == (f"{NAME}@1", "first")
        assert "nothing is served yet, it is tried again" in said[0]
        assert "is writing it" in said[0]
        promotion.promote(registry, NAME, "2", signing=SIGNING, probe=unprobed)
        supervisor.say = said.append
        with files.only_writer(model_cache.version(digests[1])):
            supervisor.look()
        assert proxy.health()["version"] == "1"
        look_until_serving(supervisor, proxy, "2")
        assert ask(client) == (f"{NAME}@2", "second")


def cached() -> set[str]:
    """Names of the models in the cache."""
    folders = (model_cache.folder() / "versions").glob("*/model/answers.json")
    return {json.loads(path.read_text())["otherwise"] for path in folders}


def test_what_neither_serves_nor_is_rolled_back_to_leaves_the_cache(
    registry: Registry, supervisor: Supervisor, said: list[str]
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    for model in ("second", "third"):
        champion(registry, model)
        supervisor.look()
    assert cached() == {"second", "third"}
    assert said[-1].startswith("removed from ")
    champion(registry, "fourth", OF_BASE)
    supervisor.look()
    assert cached() == {"second", "third", "fourth"}, "nothing goes before another serves"
    champion(registry, "fifth")
    supervisor.look()
    assert cached() == {"third", "fourth", "fifth"}, "what served, and what the history would go back to"


def test_what_is_served_is_removed_by_no_other_process(registry: Registry, supervisor: Supervisor) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    subprocess.run([sys.executable, "-c", "from tunesmith import model_cache; model_cache.prune([])"], check=True)
    assert cached() == {"first"}


def test_what_a_rollback_needs_stays_though_this_server_never_served_it(registry: Registry, proxy: Proxy) -> None:
    for model in ("first", "second", "third"):
        champion(registry, model)
        with closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, lambda _: None)) as supervisor:
            supervisor.begin("@champion")
            supervisor.look()
    assert cached() == {"second", "third"}


def test_a_server_of_a_fixed_version_removes_nothing(registry: Registry) -> None:
    for model in ("first", "second"):
        register(registry, model)
        with closing(Supervisor(registry, NAME, Proxy(NAME, None), SETTINGS, SIGNING, lambda _: None)) as supervisor:
            supervisor.begin(model)
            supervisor.look()
    assert cached() == {"first", "second"}


def test_requests_in_flight_end_with_the_old_engine_before_it_does(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, client: openai.OpenAI, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    champion(registry, "first", {"otherwise": "one two", "gate": str(gate)})
    supervisor.begin("@champion")
    champion(registry, "second")
    stream = client.chat.completions.create(model=NAME, messages=ASKED, stream=True)
    words = [next(stream).choices[0].delta.content]
    switched = proxy.switch

    def opening(*given: Any) -> Any:
        gate.touch()  # the old one is still held back when the new one takes over
        return switched(*given)

    proxy.switch = opening
    supervisor.look()
    words += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(word or "" for word in words) == "one two "
    assert ask(client) == (f"{NAME}@2", "second")


def test_what_cannot_be_served_at_first_is_an_error(registry: Registry, supervisor: Supervisor) -> None:
    with pytest.raises(RegistryError, match="no champion yet"):
        supervisor.begin("@champion")
    champion(registry, "first", OF_BASE)
    with pytest.raises(ServingError, match="as by the base"):
        supervisor.begin("@champion")
    run = registry.versions(NAME)[0].run
    shutil.rmtree(Path(registry.client.get_run(run).info.artifact_uri) / "evidence")
    supervisor.settings = SETTINGS.model_copy(update={"start_seconds": 0.05})
    with pytest.raises((RegistryError, IntegrityError)):
        supervisor.begin("@champion")


COMMAND = """
import sys
from tunesmith import cli, serve_commands, supervisor
from tunesmith.core.errors import UnreachableTrackerError

calls, Registry = [], supervisor.Registry

def starting(experiment):
    calls.append(experiment)
    if len(calls) < 3:
        raise UnreachableTrackerError("the tracking server does not answer", fix="start it")
    return Registry(experiment)

supervisor.Registry = starting
serve_commands.choose = lambda served, port, *_: (
    "transformers", [sys.executable, {fake!r}, served.name, str(port), str(served.folder / "answers.json")])
cli.main(["serve", "--port", "0"])
"""


def params(project: Path, **sections: object) -> None:
    document = yaml.safe_load((project / "params.yaml").read_text())
    files.write_text(project / "params.yaml", yaml.safe_dump(document | sections))  # whoever waits reads it meanwhile


@pytest.fixture
def command(registry: Registry, project: Path) -> Iterator[subprocess.Popen[str]]:
    champion(registry, "first")
    params(project, serve=SETTINGS.model_dump(), signing=SIGNING.model_dump(mode="json"))
    script = COMMAND.format(fake=str(FAKE))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_command_says_what_it_serves_and_leaves_no_engine_however_it_ends(
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
    status = command.wait()
    assert command.stderr
    assert command.stderr.read().count("the tracking server does not answer") == 1
    assert status == (-9 if ending == signal.SIGKILL else 0)
    until(lambda: not is_running(int(children[0])))


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@contextmanager
def waiting_for_the_first(supervisor: Supervisor) -> Iterator[Future[None]]:
    """It waits in a thread of its own, and no longer than the block."""
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        try:
            yield pool.submit(supervisor.await_first, "champion")
        finally:
            patch.setattr(supervisor, "_lacking", lambda alias: None)
            pool.shutdown()


def test_the_first_champion_is_waited_for_where_asked(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, said: list[str], project: Path
) -> None:
    params(project, signing=SIGNING.model_dump(mode="json"))
    register(registry, "first")
    with waiting_for_the_first(supervisor) as waiting:
        until(lambda: said == [f"{NAME} has no champion yet: `tunesmith promote MODEL` makes one"])
        assert proxy.health()["reason"] == said[0]
        assert not waiting.done()
        promote(registry, "first")
        waiting.result(timeout=30)
    supervisor.begin("@champion")
    assert proxy.health()["trained"] == "first"


def test_a_key_that_is_not_trusted_yet_is_waited_for(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, said: list[str], project: Path
) -> None:
    champion(registry, "first")
    params(project, signing=SIGNING.model_dump(mode="json"))
    (project / "config").rename(project / "colleague")  # whose key made all there is
    signatures.private_key(SIGNING)
    with waiting_for_the_first(supervisor) as waiting:
        until(lambda: len(said) == 1 or waiting.done())
        assert "not trusted here" in said[0]
        assert "signing.trusted" in proxy.health()["reason"]
        public = project / "colleague.pub"
        trusting = SIGNING.model_copy(update={"trusted": [public]})
        params(project, signing=trusting.model_dump(mode="json"))
        until(lambda: len(said) == 2 or waiting.done())
        assert "colleague.pub: not a readable key in PEM" in said[1]
        shutil.copy(project / "colleague" / "tunesmith" / "signing.pem.pub", project / "copied.pub")
        (project / "copied.pub").rename(public)
        waiting.result(timeout=30)
    supervisor.begin("@champion")
    assert proxy.health()["trained"] == "first"
