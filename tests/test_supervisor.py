"""The champion is served and followed, and what cannot serve leaves what serves alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import yaml
from test_proxy import ASKED, SETTINGS, until
from versions_made import NAME, SIGNING, unprobed

from tunesmith import manifest, promotion, registration, serve_commands
from tunesmith.errors import IntegrityError, RegistryError, ServingError
from tunesmith.proxy import Proxy, listening
from tunesmith.registry import Registry
from tunesmith.serve_commands import Served
from tunesmith.supervisor import Supervisor

FAKE = Path(__file__).parent / "fake_engine.py"
NOISE = {"answers": 100, "differ": 0, "tokens": 1000}


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Engines answer what the model's folder says."""

    def command(served: Served, port: int, *_: object) -> tuple[str, list[str]]:
        return "transformers", [sys.executable, str(FAKE), served.name, str(port), str(served.folder / "answers.json")]

    monkeypatch.setattr(serve_commands, "choose", command)
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
        registry.run(model, model, 0, {}),
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


def engine(supervisor: Supervisor) -> subprocess.Popen[bytes]:
    assert supervisor.standing
    return supervisor.standing.engine.process


def test_the_champion_is_served_then_the_next_and_no_engine_is_left(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    assert ask(client) == (f"{NAME}@1", "first")
    champion(registry, "second")
    first = engine(supervisor)
    supervisor.look()
    assert ask(client) == (f"{NAME}@2", "second")
    assert first.poll() is not None
    second = engine(supervisor)
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
        engine(supervisor).kill()
        engine(supervisor).wait()
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
    assert "does not hold" in said[0]
    assert ask(client) == (f"{NAME}@1", "first")


def test_an_engine_that_ends_by_itself_is_told_with_its_last_words_and_started_again(
    registry: Registry, supervisor: Supervisor, client: openai.OpenAI, said: list[str]
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    engine(supervisor).kill()
    engine(supervisor).wait()
    supervisor.look()
    assert "ended with status -9" in said[0]
    assert ask(client) == (f"{NAME}@1", "first")


def test_an_engine_whose_files_were_changed_meanwhile_is_not_started_again(
    registry: Registry, supervisor: Supervisor, proxy: Proxy, said: list[str], tmp_path: Path
) -> None:
    champion(registry, "first")
    supervisor.begin("@champion")
    [kept] = (tmp_path / "cache").rglob("answers.json")
    kept.write_text("{}")
    engine(supervisor).kill()
    engine(supervisor).wait()
    supervisor.look()
    supervisor.look()
    assert proxy.health()["status"] == "unavailable"
    assert [line for line in said if "answers.json (changed)" in line] == [said[-1]]
    champion(registry, "second")
    supervisor.look()
    assert proxy.health()["version"] == "2"


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
    with pytest.raises((RegistryError, IntegrityError)):
        supervisor.begin("@champion")


COMMAND = """
import runpy, sys
from tunesmith import cli, serve_commands
serve_commands.choose = lambda served, port, *_: (
    "transformers", [sys.executable, {fake!r}, served.name, str(port), str(served.folder / "answers.json")])
cli.main(["serve", "--port", "0"])
"""


@pytest.fixture
def command(registry: Registry, project: Path) -> Iterator[subprocess.Popen[str]]:
    champion(registry, "first")
    document = yaml.safe_load((project / "params.yaml").read_text())
    document |= {"serve": SETTINGS.model_dump(), "signing": SIGNING.model_dump(mode="json")}
    (project / "params.yaml").write_text(yaml.safe_dump(document))
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
    assert status == (-9 if ending == signal.SIGKILL else 0)
    until(lambda: not is_running(int(children[0])))


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
