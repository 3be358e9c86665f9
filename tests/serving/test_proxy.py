"""Requests to the proxy reach the current engine, survive a switch, and reach no other route."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import fake_engine
import httpx2
import openai
import pytest
from serving_settings import MESSAGES, SETTINGS, wait_until

from tunesmith.core.errors import ServingError
from tunesmith.serving.proxy import Proxy, Upstream, listening


@contextmanager
def engine(name: str, **script: Any) -> Iterator[Upstream]:
    server = fake_engine.server(name, 0, script)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield Upstream(f"http://127.0.0.1:{server.server_address[1]}", name, {"version": name.partition("@")[2]})
    finally:
        server.shutdown()
        server.server_close()


Start = Callable[..., Upstream]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as running:
        yield lambda name, **script: running.enter_context(engine(name, **script))


@pytest.fixture
def proxy() -> Proxy:
    return Proxy("calculator", "champion")


@pytest.fixture
def url(proxy: Proxy) -> Iterator[str]:
    with listening(proxy, SETTINGS, 0) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, model: str = "calculator") -> tuple[str, str | None]:
    """Return the name of the model that answered, and its answer."""
    reply = client.chat.completions.create(model=model, messages=MESSAGES)
    return reply.model, reply.choices[0].message.content


def test_a_request_is_answered_by_the_engine_under_its_own_name(
    proxy: Proxy, client: openai.OpenAI, start: Start
) -> None:
    proxy.switch(start("calculator@3", otherwise="four"))
    for name in ("calculator", "champion", "calculator@3"):
        assert ask(client, name) == ("calculator@3", "four")
    assert [model.id for model in client.models.list()] == ["calculator"]


@pytest.mark.parametrize("name", ["gpt-4", "calculator@2", "/etc"])
def test_a_model_that_is_not_served_is_not_found(proxy: Proxy, client: openai.OpenAI, start: Start, name: str) -> None:
    proxy.switch(upstream := start("calculator@3"))
    with pytest.raises(openai.NotFoundError, match="calculator"):
        ask(client, name)
    assert upstream.in_flight == 0


def test_a_fixed_version_is_not_served_as_the_champion(start: Start) -> None:
    proxy = Proxy("calculator", None)
    proxy.switch(start("calculator@3"))
    with (
        listening(proxy, SETTINGS, 0) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client,
    ):
        assert ask(client)[0] == "calculator@3"
        with pytest.raises(openai.NotFoundError):
            ask(client, "champion")


def test_a_request_before_a_model_is_up_gets_the_reason(proxy: Proxy, client: openai.OpenAI, url: str) -> None:
    proxy.unavailable_reason = "it is being fetched"
    with pytest.raises(openai.InternalServerError, match="it is being fetched") as refused:
        ask(client)
    assert refused.value.status_code == 503
    health = httpx2.get(f"{url}/health")
    assert (health.status_code, health.json()["reason"]) == (503, "it is being fetched")


def test_health_shows_the_served_version_and_a_failed_one(proxy: Proxy, url: str, start: Start) -> None:
    proxy.switch(start("calculator@3"))
    proxy.failed = {"version": "4", "reason": "it answers like the base"}
    proxy.retrying = ["the tracker is down"]
    reply = httpx2.get(f"{url}/health")
    health = reply.json()
    assert reply.status_code == 200
    assert health.pop("since")
    assert health == {
        "status": "serving",
        "model": "calculator",
        "alias": "champion",
        "version": "3",
        "in_flight": 0,
        "failed": {"version": "4", "reason": "it answers like the base"},
        "retrying": ["the tracker is down"],
    }


def test_a_stream_arrives_word_by_word_and_stays_with_its_engine_to_the_end(
    proxy: Proxy, client: openai.OpenAI, start: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    proxy.switch(old := start("calculator@3", otherwise="one two three", gate=str(gate)))
    stream = client.chat.completions.create(model="calculator", messages=MESSAGES, stream=True)
    assert next(stream).choices[0].delta.content == "one ", "before the rest is written"
    assert proxy.switch(start("calculator@4", otherwise="new")) is old
    assert ask(client) == ("calculator@4", "new")
    assert old.in_flight == 1
    gate.touch()
    rest = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in rest) == "two three "
    assert {chunk.model for chunk in rest} == {"calculator@3"}
    assert httpx2.get(str(client.base_url).replace("/v1/", "/health")).json()["in_flight"] == 0
    wait_until(lambda: old.in_flight == 0)


def test_a_stream_whose_client_has_left_is_not_in_flight(
    proxy: Proxy, client: openai.OpenAI, start: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    proxy.switch(upstream := start("calculator@3", otherwise="one two three four", gate=str(gate)))
    stream = client.chat.completions.create(model="calculator", messages=MESSAGES, stream=True)
    next(stream)
    stream.close()
    gate.touch()
    wait_until(lambda: upstream.in_flight == 0)


def test_a_request_to_an_engine_that_is_gone_is_a_bad_gateway(proxy: Proxy, client: openai.OpenAI) -> None:
    with engine("calculator@3") as upstream:
        proxy.switch(upstream)
    with pytest.raises(openai.InternalServerError, match="calculator@3 gave no answer") as refused:
        ask(client)
    assert refused.value.status_code == 502
    assert upstream.in_flight == 0


@pytest.mark.parametrize(
    "path", ["/load_model", "/reset", "/v1/audio/transcriptions", "/v1/load_lora_adapter", "/docs"]
)
def test_routes_that_load_models_or_change_an_engine_are_not_passed_on(
    proxy: Proxy, url: str, start: Start, path: str
) -> None:
    proxy.switch(start("calculator@3"))
    assert httpx2.post(f"{url}{path}", json={"model": "calculator"}).status_code == 404


@pytest.mark.parametrize("body", [b"", b"[1]", b"null", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"model": ["x"]}'])
def test_a_malformed_request_is_refused_and_affects_no_other(
    proxy: Proxy, url: str, client: openai.OpenAI, start: Start, body: bytes
) -> None:
    proxy.switch(upstream := start("calculator@3", otherwise="four"))
    assert httpx2.post(f"{url}/v1/chat/completions", content=body).status_code in (400, 404)
    assert upstream.in_flight == 0
    assert ask(client) == ("calculator@3", "four")


@pytest.mark.parametrize(
    ("kwargs", "passed"),
    [
        ({}, True),
        ({"enable_thinking": False}, True),
        ({"enable_thinking": True, "effort": "low"}, True),
        ({"enable_thinking": False, "documents": ["unrelated to the evaluation"]}, True),
        ({"enable_thinking": True}, False),
        ({"effort": "low"}, False),
        ({"enable_thinking": 0}, False),
        ("enable_thinking", False),
    ],
)
def test_a_request_may_render_prompts_only_as_the_evaluation_did(
    proxy: Proxy, url: str, start: Start, kwargs: Any, passed: bool
) -> None:
    proxy.switch(upstream := start("calculator@3", otherwise="four"))
    upstream.template_kwargs = [{"enable_thinking": False}, {"enable_thinking": True, "effort": "low"}]
    body = {"model": "calculator", "messages": MESSAGES, "chat_template_kwargs": kwargs}
    reply = httpx2.post(f"{url}/v1/chat/completions", json=body)
    assert reply.status_code == (200 if passed else 400)
    assert passed or "chat_template_kwargs" in reply.json()["error"]["message"]
    upstream.template_kwargs = []
    assert httpx2.post(f"{url}/v1/chat/completions", json=body).status_code == 200
    wait_until(lambda: upstream.in_flight == 0)


def test_an_error_of_an_engine_is_returned_unchanged(proxy: Proxy, url: str, start: Start) -> None:
    upstream = start("another@1")
    proxy.switch(Upstream(upstream.url, "calculator@3", {}))
    reply = httpx2.post(f"{url}/v1/chat/completions", json={"model": "calculator", "messages": MESSAGES})
    assert (reply.status_code, json.loads(reply.content)) == (400, {"detail": "pinned to another@1"})


def test_a_port_that_is_taken_is_an_error(url: str, proxy: Proxy) -> None:
    with pytest.raises(ServingError, match="in use"), listening(proxy, SETTINGS, int(url.rpartition(":")[2])):
        pass
