"""Requests to the proxy reach the current engine, survive a switch, and reach no other route."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import fake_engine
import httpx2
import openai
import pytest
from pydantic import ValidationError
from serving_settings import MESSAGES, SETTINGS, WordReader, wait_until

from tunesmith.core.errors import ServingError
from tunesmith.serving.gateway import connections, relay, web
from tunesmith.serving.gateway.proxy import Proxy, Upstream
from tunesmith.serving.gateway.requests import Chat, Completion
from tunesmith.serving.gateway.web import listening
from tunesmith.serving.settings import Serve


@contextmanager
def engine(name: str, **script: Any) -> Iterator[Upstream]:
    with TemporaryDirectory() as folder:
        socket = Path(folder, "engine.sock")
        server = fake_engine.server(name, str(socket), script)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield Upstream(socket, name, {"version": name.partition("@")[2], "engine": "transformers"}, WordReader())
        finally:
            server.shutdown()
            server.server_close()


Start = Callable[..., Upstream]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as running:
        yield lambda name, **script: running.enter_context(engine(name, **script))


CLIENT = httpx2.Client(trust_env=False, timeout=30)


@pytest.fixture(scope="module", autouse=True)
def closed_client() -> Iterator[None]:
    yield
    CLIENT.close()


@pytest.fixture
def proxy() -> Proxy:
    return Proxy("calculator", "champion")


@pytest.fixture
def settings() -> Serve:
    return SETTINGS


@pytest.fixture
def url(proxy: Proxy, settings: Serve) -> Iterator[str]:
    with listening([proxy], settings, 0) as url:
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
        listening([proxy], SETTINGS, 0) as url,
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
    health = CLIENT.get(f"{url}/health")
    assert (health.status_code, health.json()["reason"]) == (503, "it is being fetched")


def test_health_shows_the_served_version_and_a_failed_one(proxy: Proxy, url: str, start: Start) -> None:
    proxy.switch(start("calculator@3"))
    proxy.failed = {"version": "4", "reason": "it answers like the base"}
    proxy.retrying = ["the tracker is down"]
    reply = CLIENT.get(f"{url}/health")
    health = reply.json()
    assert reply.status_code == 200
    assert health.pop("since")
    assert health == {
        "status": "serving",
        "model": "calculator",
        "alias": "champion",
        "version": "3",
        "engine": "transformers",
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
    assert "".join(chunk.choices[0].delta.content or "" for chunk in rest) == "two three"
    assert {chunk.model for chunk in rest} == {"calculator@3"}
    assert CLIENT.get(str(client.base_url).replace("/v1/", "/health")).json()["in_flight"] == 0
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
    assert CLIENT.post(f"{url}{path}", json={"model": "calculator"}).status_code == 404


@pytest.mark.parametrize("body", [b"", b"[1]", b"null", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"model": ["x"]}'])
def test_a_malformed_request_is_refused_and_affects_no_other(
    proxy: Proxy, url: str, client: openai.OpenAI, start: Start, body: bytes
) -> None:
    proxy.switch(upstream := start("calculator@3", otherwise="four"))
    headers = {"Content-Type": "application/json"}
    reply = CLIENT.post(f"{url}/v1/chat/completions", content=body, headers=headers)
    assert reply.status_code in (400, 404)
    assert upstream.in_flight == 0
    assert ask(client) == ("calculator@3", "four")


@pytest.mark.parametrize(
    ("kwargs", "passed"),
    [
        ({}, True),
        ({"enable_thinking": False}, True),
        ({"enable_thinking": True, "effort": "low"}, True),
        ({"enable_thinking": False, "chat_template": "{{ 1 }}"}, False),
        ({"documents": "unrelated to the evaluation"}, False),
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
    reply = CLIENT.post(f"{url}/v1/chat/completions", json=body)
    assert reply.status_code == (200 if passed else 400)
    assert passed or "chat_template_kwargs" in reply.json()["error"]["message"]
    wait_until(lambda: upstream.in_flight == 0)


def test_an_error_of_an_engine_is_returned_unchanged(proxy: Proxy, url: str, start: Start) -> None:
    upstream = start("another@1")
    proxy.switch(Upstream(upstream.socket, "calculator@3", {"engine": "transformers"}, WordReader()))
    reply = CLIENT.post(f"{url}/v1/chat/completions", json={"model": "calculator", "messages": MESSAGES})
    assert (reply.status_code, json.loads(reply.content)) == (400, {"detail": "pinned to another@1"})


def test_a_port_that_is_taken_is_an_error(url: str, proxy: Proxy) -> None:
    with pytest.raises(ServingError, match="in use"), listening([proxy], SETTINGS, int(url.rpartition(":")[2])):
        pass


def post(url: str, **fields: Any) -> httpx2.Response:
    body = {"model": "calculator", "messages": MESSAGES} | fields
    return CLIENT.post(f"{url}/v1/chat/completions", json=body)


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "file:///etc/hostname"}}
NO_OBJECT = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{"}}
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"foo": 1}, "foo"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"generation_config": "{}"}, "generation_config"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"stop": ["x" * 10] * 10_000}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["x" * 1000]}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "8"}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_completion_tokens": 10**6}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1e-40}, "temperature: should be 0, or at least 0.01"),
        ({"top_p": 2}, "top_p"),
        ({"seed": 2**70}, "seed"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [None]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "content"),
        ({"messages": [{"role": "assistant", "tool_calls": [NO_OBJECT]}]}, "arguments"),
        ({"tools": [TOOL | {"type": "web_search"}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": "word " * 200}]}, "the context of 100"),
        ({"max_tokens": 95}, "the context of 100"),
    ],
)  # fmt: skip
def test_what_a_request_may_not_ask_is_refused_by_name(
    proxy: Proxy, url: str, start: Start, fields: dict[str, Any], named: str
) -> None:
    proxy.switch(upstream := start("calculator@3", received=(received := [])))
    reply = post(url, **fields)
    assert reply.status_code == 400
    assert named in reply.json()["error"]["message"]
    assert (received, upstream.in_flight) == ([], 0)


def test_what_an_engine_gets_is_what_was_asked_and_no_more(proxy: Proxy, url: str, start: Start) -> None:
    proxy.switch(start("calculator@3", otherwise="four", received=(received := [])))
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "3", "tool_call_id": "1"},
    ]
    asked = {"temperature": 0, "seed": 1, "stop": ["."], "tools": [TOOL], "max_completion_tokens": 7}
    ignored = {"user": "me", "n": 1, "tool_choice": "auto", "response_format": {"type": "text"}, "logprobs": False}
    reply = post(url, messages=messages, stream_options=None, **asked, **ignored).json()
    assert reply["choices"] == [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "four"}}
    ]
    assert received == [
        {
            "model": "calculator@3",
            "messages": [
                {"role": "user", "content": "one\ntwo"},
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "content": "3", "tool_call_id": "1"},
            ],
            "temperature": 0,
            "seed": 1,
            "stop": ["."],
            "tools": [TOOL],
            "max_tokens": 7,
            "stream": True,
        }
    ]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {"temperature": 0}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"temperature": None, "top_p": 0.5}, {"top_p": 0.5}),
    ],
)
def test_an_answer_is_greedy_as_evaluated_unless_sampling_is_asked_for(
    proxy: Proxy, url: str, start: Start, asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    proxy.switch(start("calculator@3", otherwise="four", received=(received := [])))
    assert post(url, **asked).status_code == 200
    assert {name: value for name, value in received[0].items() if name in ("temperature", "top_p")} == sent


def small(**values: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [SETTINGS.model_copy(update=values)])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain", "Origin": "https://a.example"}, 415),
        ({"Host": "a.example:8000", "Content-Type": "application/json"}, 421),
        ({"Host": "10.0.0.1", "Content-Type": "application/json"}, 421),
        ({"Host": "localhost:8000", "Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Host": "[::1]:8000", "Content-Type": "application/json"}, 200),
        ({"Host": "models.team.example", "Content-Type": "application/json"}, 200),
    ],
)
@small(names=("models.team.example",))
def test_a_page_in_a_browser_cannot_ask(
    proxy: Proxy, url: str, start: Start, headers: dict[str, str], status: int
) -> None:
    proxy.switch(start("calculator@3", otherwise="four"))
    body = json.dumps({"messages": MESSAGES}).encode()
    assert CLIENT.post(f"{url}/v1/chat/completions", content=body, headers=headers).status_code == status


@small(max_request_bytes=1000)
def test_a_request_that_is_too_large_is_refused_before_it_has_arrived(proxy: Proxy, url: str, start: Start) -> None:
    proxy.switch(start("calculator@3", otherwise="four"))
    with closing(half_sent(url, 400 << 20, b"[" + b" " * 2000)) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert post(url).status_code == 200


def test_a_request_that_does_not_arrive_is_given_up(
    proxy: Proxy, url: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "BODY_SECONDS", 0.2)
    proxy.switch(start("calculator@3", otherwise="four"))
    with ExitStack() as opened:
        connections = [opened.enter_context(closing(half_sent(url, 1000, b"{"))) for _ in range(50)]
        assert post(url).status_code == 200
        for connection in connections:
            with connection.makefile("rb") as arriving:
                reply = arriving.read()  # until the connection is closed
            assert reply.startswith(b"HTTP/1.1 408")
            assert b"did not arrive" in reply


def half_sent(url: str, length: int, content: bytes) -> socket.socket:
    """Send the beginning of a request."""
    connection = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize(
    "request_fields",
    [
        {"messages": [{"role": "user", "content": [{}] * 1000}]},
        {"messages": [{"role": "user", "content": [1] * 1000}]},
        {"messages": [{"role": 1}] * 1000},
        {"messages": MESSAGES, "tools": [1] * 1000},
        {"messages": MESSAGES, "chat_template_kwargs": {str(i): [] for i in range(1000)}},
        {str(i): 1 for i in range(1000)},
        {"messages": [{str(i): 1 for i in range(1000)}]},
    ],
)
def test_the_faults_of_a_request_are_not_looked_for_beyond_the_first_few(request_fields: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Chat.model_validate_json(json.dumps(request_fields))
    assert refused.value.error_count() < 5


def test_the_prompt_of_a_client_that_has_left_is_not_read(proxy: Proxy, url: str, start: Start) -> None:
    class SlowReader(WordReader):
        read, go_on = list[Chat | Completion](), Event()

        def count(self, request: Chat | Completion) -> int:
            self.read.append(request)
            self.go_on.wait(10)
            return super().count(request)

    proxy.switch(upstream := start("calculator@3", otherwise="four"))
    upstream.reader = reader = SlowReader()
    for _ in range(3):
        with pytest.raises(httpx2.ReadTimeout):
            CLIENT.post(f"{url}/v1/chat/completions", json={"messages": MESSAGES}, timeout=0.3)
    wait_until(lambda: upstream.in_flight == 0)
    reader.go_on.set()
    assert post(url).status_code == 200
    assert len(reader.read) == 2, "the first, which had begun, and the last"


def test_a_new_connection_takes_the_place_of_the_one_idle_for_longest(
    proxy: Proxy, client: openai.OpenAI, url: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST", 4)
    proxy.switch(start("calculator@3", otherwise="one two", gate=str(tmp_path / "gate")))
    stream = client.chat.completions.create(model="calculator", messages=MESSAGES, stream=True)
    next(stream)
    port = int(url.rpartition(":")[2])
    with ExitStack() as opened:
        silent = [
            opened.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=10))) for _ in range(8)
        ]
        for connection in silent[:5]:
            assert connection.recv(1) == b"", "closed"
        (tmp_path / "gate").touch()
        assert [chunk.choices[0].delta.content for chunk in stream] == ["two", None]
        assert post(url).status_code == 200


@small(max_requests=1)
def test_requests_beyond_those_answered_at_once_are_told_to_wait(
    proxy: Proxy, client: openai.OpenAI, start: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    proxy.switch(upstream := start("calculator@3", otherwise="one two", gate=str(gate)))
    stream = client.chat.completions.create(model="calculator", messages=MESSAGES, stream=True)
    next(stream)
    with pytest.raises(openai.RateLimitError):
        ask(client)
    gate.touch()
    list(stream)
    wait_until(lambda: upstream.in_flight == 0)
    assert ask(client)[1] == "one two"


@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_stops_when_the_client_has_left(
    proxy: Proxy, url: str, start: Start, tmp_path: Path, stream: bool
) -> None:
    proxy.switch(upstream := start("calculator@3", otherwise="one two", gate=str(tmp_path / "gate"), left=(left := [])))
    with pytest.raises(httpx2.ReadTimeout):
        CLIENT.post(f"{url}/v1/chat/completions", json={"messages": MESSAGES, "stream": stream}, timeout=0.5)
    wait_until(lambda: upstream.in_flight == 0)
    (tmp_path / "gate").touch()
    wait_until(lambda: bool(left))


@small(request_seconds=0.5)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_takes_too_long_is_cut_off(
    proxy: Proxy, url: str, start: Start, tmp_path: Path, stream: bool
) -> None:
    proxy.switch(upstream := start("calculator@3", otherwise="one two", gate=str(tmp_path / "gate")))
    reply = post(url, stream=stream)
    assert reply.status_code == (200 if stream else 504)
    assert "serve.request_seconds" in reply.text
    wait_until(lambda: upstream.in_flight == 0)


@pytest.mark.parametrize("part", ['{"error": "a "quoted" error"}', '{"choices": [{}]}', '{"choices": 1}', "[1]"])
def test_a_part_of_an_answer_in_another_format_is_a_bad_gateway(
    proxy: Proxy, url: str, start: Start, part: str
) -> None:
    proxy.switch(upstream := start("calculator@3", otherwise=part, raw=True))
    assert post(url).status_code == 502
    assert upstream.in_flight == 0


def test_an_engine_that_generates_nothing_is_not_healthy(
    url: str, proxy: Proxy, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "HEARTBEAT_SECONDS", 0.1)
    proxy.stall_seconds = 1
    proxy.switch(upstream := start("calculator@3", otherwise="four"))
    time.sleep(1.5)
    assert CLIENT.get(f"{url}/health").status_code == 200, "an idle engine is asked"
    proxy.switch(upstream := start("calculator@4", otherwise="four", hangs=True))
    wait_until(lambda: CLIENT.get(f"{url}/health").status_code == 503)
    assert upstream.silence() > 1
    assert "generates nothing" in CLIENT.get(f"{url}/health").json()["reason"]


@small(request_seconds=0.3)
def test_requests_to_an_engine_that_generates_nothing_do_not_make_it_healthy(
    url: str, proxy: Proxy, start: Start
) -> None:
    proxy.stall_seconds = 1
    proxy.switch(start("calculator@3", hangs=True))
    for stream in (True, False, True, False):
        post(url, stream=stream)
    assert CLIENT.get(f"{url}/health").status_code == 503


@small(request_seconds=0.3, max_requests=2)
def test_clients_that_do_not_read_their_answers_lose_their_connections(
    url: str, proxy: Proxy, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LAST_SECONDS", 0.2)
    proxy.switch(upstream := start("calculator@3", answers={"go on": "word " * 20_000}, otherwise="four"))
    body = json.dumps({"messages": [{"role": "user", "content": "go on"}], "stream": True}).encode()
    with ExitStack() as opened:
        for _ in range(2):
            opened.enter_context(closing(half_sent(url, len(body), body)))
        wait_until(lambda: upstream.in_flight == 2)
        wait_until(lambda: upstream.in_flight == 0)
        assert post(url).status_code == 200
