"""API keys, host names, and access to the engine's metrics."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import fake_engine
import httpx2
import openai
import pytest
from serving_settings import MESSAGES, SETTINGS, WordReader

from tunesmith.core.errors import ParamsError
from tunesmith.serving import command
from tunesmith.serving.gateway.proxy import Proxy, Upstream
from tunesmith.serving.gateway.web import listening

KEY = "sk-a key ü"


@pytest.fixture
def proxies(tmp_path: Path) -> Iterator[list[Proxy]]:
    """The champion by vLLM, and the canary by transformers' server."""
    with ExitStack() as stack:
        proxies = []
        for alias, kind in {"champion": "vllm", "canary": "transformers"}.items():
            socket, name = tmp_path / f"{alias}.sock", f"calculator@{len(alias)}"
            server = fake_engine.server(name, str(socket), {"otherwise": alias})
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            proxies.append(Proxy("calculator", alias))
            proxies[-1].switch(Upstream(socket, name, {"version": "1", "engine": kind}, WordReader()))
        yield proxies


@pytest.fixture
def url(proxies: list[Proxy], request: pytest.FixtureRequest) -> Iterator[str]:
    with listening(proxies, SETTINGS, 0, getattr(request, "param", KEY)) as url:
        yield url


def asked(url: str, authorization: str | None, path: str = "/v1/chat/completions") -> httpx2.Response:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    method, body = ("POST", {"messages": MESSAGES}) if path.startswith("/v1/chat") else ("GET", None)
    return httpx2.request(method, f"{url}{path}", json=body, headers=headers, trust_env=False, timeout=30)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/metrics"])
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", KEY, f"Basic {KEY}", "Bearer sk-a", f"Bearer {KEY}x", "Bearer \xff\xfe"],
)
def test_without_the_key_nothing_is_answered(url: str, path: str, authorization: str | None) -> None:
    reply = asked(url, authorization, path)
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    error = reply.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", None)
    assert error["code"] in ("missing_api_key", "invalid_api_key")
    assert KEY not in error["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/metrics"])
@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer  {KEY}"])
def test_with_the_key_everything_is(url: str, path: str, authorization: str) -> None:
    assert asked(url, authorization, path).status_code == 200


def test_health_needs_no_key(url: str) -> None:
    assert asked(url, None, "/health").json()["aliases"]["calculator@canary"]["engine"] == "transformers"


def test_health_shows_messages_to_those_with_the_key_alone(url: str, proxies: list[Proxy]) -> None:
    proxies[1].failed = {"version": "7", "reason": "expected 'a secret answer'"}
    proxies[1].retrying = ["/home/me/model: gone"]
    proxies[1].switch(None, "the prompt 'a secret question' was answered by the base")
    stranger, holder = asked(url, None, "/health"), asked(url, f"Bearer {KEY}", "/health")
    assert "secret" not in stranger.text
    assert "/home" not in stranger.text
    assert stranger.json()["aliases"]["calculator@canary"]["failed"]["version"] == "7"
    assert holder.json()["aliases"]["calculator@canary"]["failed"]["reason"] == "expected 'a secret answer'"


@pytest.mark.parametrize(
    ("host", "key_variable", "name", "status"),
    [
        ("0.0.0.0", None, "evil.example", 421),
        ("0.0.0.0", None, "10.0.0.7", 200),
        ("0.0.0.0", None, "localhost", 200),
        ("0.0.0.0", None, "models.example", 200),
        ("0.0.0.0", "SERVE_KEY", "evil.example", 200),
        ("127.0.0.1", None, "10.0.0.7", 421),
        ("127.0.0.1", "SERVE_KEY", "evil.example", 421),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
def test_without_a_key_no_name_that_a_page_could_be_given_is_answered(
    proxies: list[Proxy], host: str, key_variable: str | None, name: str, status: int, path: str
) -> None:
    changes = {"host": host, "api_key_variable": key_variable, "names": ("models.example",)}
    with listening(proxies, SETTINGS.model_copy(update=changes), 0, None) as url:
        port = url.rpartition(":")[2]
        reply = httpx2.request(
            "GET" if path == "/v1/models" else "POST",
            f"http://127.0.0.1:{port}{path}",
            headers={"Host": f"{name}:{port}"},
            json=None if path == "/v1/models" else {"messages": MESSAGES},
            trust_env=False,
        )
    assert reply.status_code == status


@pytest.mark.parametrize("url", ["sk-ascii"], indirect=True)
def test_the_client_of_openai_brings_the_key_and_shows_its_absence(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-ascii", max_retries=0) as client:
        reply = client.chat.completions.create(model="canary", messages=MESSAGES)
        assert reply.choices[0].message.content == "canary"
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="another", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="not the one of this server"),
    ):
        client.models.list()


@pytest.mark.parametrize("url", [None], indirect=True)
def test_the_metrics_are_those_of_the_engine_that_a_name_chooses(url: str, proxies: list[Proxy]) -> None:
    for query in ("", "?model=champion", "?model=calculator@8"):
        assert asked(url, None, f"/metrics{query}").json() == {"names": ["calculator@8"]}
    refused = asked(url, None, "/metrics?model=calculator@canary")
    assert refused.status_code == 404
    assert "served by transformers, and vLLM has metrics" in refused.json()["error"]["message"]
    assert asked(url, None, "/metrics?model=base").status_code == 404
    proxies[0].switch(None, "it is being started")
    assert asked(url, None, "/metrics").status_code == 503


def test_the_key_is_read_from_its_variable_which_no_engine_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SETTINGS.model_copy(update={"api_key_variable": "SERVE_KEY"})
    monkeypatch.delenv("SERVE_KEY", raising=False)
    with pytest.raises(ParamsError, match=r"serve\.api_key_variable: the environment variable SERVE_KEY is not set"):
        command.api_key(settings)
    monkeypatch.setenv("SERVE_KEY", " ")
    with pytest.raises(ParamsError, match="not set"):
        command.api_key(settings)
    monkeypatch.setenv("SERVE_KEY", KEY)
    assert command.api_key(settings) == KEY
    with pytest.raises(ParamsError, match="not set"):
        command.api_key(settings)


@pytest.mark.parametrize(("host", "said"), [("127.0.0.1", ""), ("::1", ""), ("0.0.0.0", "whoever reaches 0.0.0.0")])
def test_an_address_that_others_reach_without_a_key_is_said(
    host: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.api_key(SETTINGS.model_copy(update={"host": host})) is None
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith(said) for line in lines] == [True] * bool(said)
