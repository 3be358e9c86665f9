"""One public, OpenAI-compatible address in front of changing engines.

A request goes to the engine that is current when it arrives, and stays there to its end; after a switch, new requests
go to the new engine. Only routes that generate text are passed on: other routes of `transformers serve` load any model
that a request names, evaluated or not.
"""

import json
import math
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Literal, TypedDict

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tunesmith.core.errors import ServingError
from tunesmith.core.params import TemplateKwargs
from tunesmith.serving.settings import Serve

ROUTES = ("chat/completions", "completions", "responses")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
"""Headers of one connection, which are not passed on."""
KEEPALIVE_SECONDS = 2.0
"""Seconds that an idle connection to an engine is kept: less than uvicorn's 5, so that no engine closes it while a
request is sent."""


class ServedVersion(TypedDict):
    """The served version, as /health shows it."""

    version: str
    """The number of the version."""
    trained: str
    """The name of the model, such as sft-lora."""
    digest: str
    """The digest of the model folder's manifest."""
    engine: str
    """The kind of the engine."""
    dtype: str
    """The dtype of the weights, such as "bfloat16"."""


class FailedVersion(TypedDict):
    """A champion that could not take over."""

    version: str
    """The number of the version."""
    reason: str
    """The error."""


class HealthReport(TypedDict):
    """The content of /health, whether or not a version is served."""

    model: str
    """The name of the registered model."""
    alias: str | None
    """The alias that is followed; null for a fixed version."""
    failed: FailedVersion | None
    """The champion that could not take over, if any."""
    retrying: list[str]
    """Messages of transient errors whose step will be retried."""


class AvailableReport(ServedVersion, HealthReport):
    """The content of /health while a version is served."""

    status: Literal["serving"]
    since: str
    """The time at which the version took over, UTC, in ISO 8601."""
    in_flight: int
    """The number of requests in flight."""


class UnavailableReport(HealthReport):
    """The content of /health while no version is served."""

    status: Literal["unavailable"]
    reason: str
    """The reason for refusing requests."""


@dataclass(eq=False)
class Upstream:
    """A running engine that requests are passed on to."""

    url: str
    """The address of the engine, without /v1."""
    name: str
    """The model name that the engine serves under."""
    served: ServedVersion
    template_kwargs: list[TemplateKwargs] = field(default_factory=list)
    """The values of the chat template's variables that the version was evaluated with, its defaults first; requests may
    set these variables to no others."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    """The time at which the engine took over."""
    in_flight: int = 0
    """The number of requests that are not answered to the end."""


class Proxy:
    """The current engine, and the content of /health. Its methods may be called from any thread."""

    def __init__(self, name: str, alias: str | None) -> None:
        """name, alias: the registered model and the alias that is followed, if any; requests may name either."""
        self.name, self.alias = name, alias
        self.current: Upstream | None = None
        self.unavailable_reason = "no model is up yet"
        """The reason for refusing requests while there is no current engine."""
        self.failed: FailedVersion | None = None
        """The champion that could not take over, if any."""
        self.retrying: list[str] = []
        """Messages of transient errors whose step will be retried."""
        self._lock = threading.Lock()

    def switch(self, upstream: Upstream | None, reason: str = "") -> Upstream | None:
        """Send new requests to another engine, or refuse them for a reason. Returns the previous engine, to drain."""
        with self._lock:
            previous, self.current, self.unavailable_reason = self.current, upstream, reason
        return previous

    def acquire(self) -> Upstream | None:
        """Return the current engine, with one more request in flight."""
        with self._lock:
            if self.current is not None:
                self.current.in_flight += 1
            return self.current

    def release(self, upstream: Upstream) -> None:
        """Count one request less in flight."""
        with self._lock:
            upstream.in_flight -= 1

    def health(self) -> AvailableReport | UnavailableReport:
        current = self.current
        if current is None:
            return {
                "status": "unavailable",
                "model": self.name,
                "alias": self.alias,
                "reason": self.unavailable_reason,
                "failed": self.failed,
                "retrying": self.retrying,
            }
        return {
            "status": "serving",
            "model": self.name,
            "alias": self.alias,
            **current.served,
            "since": current.since.isoformat(timespec="seconds"),
            "in_flight": current.in_flight,
            "failed": self.failed,
            "retrying": self.retrying,
        }


def app(proxy: Proxy) -> Starlette:
    """Return the web application: /health, /v1/models, and the routes that are passed on."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, httpx2.AsyncClient]]:
        limits = httpx2.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_SECONDS)
        timeout = httpx2.Timeout(None, connect=10)  # no limit on the time of an answer
        async with httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as client:
            yield {"client": client}

    async def show_health(_: Request) -> Response:
        health = proxy.health()
        return JSONResponse(health, 200 if health["status"] == "serving" else 503)

    async def list_models(_: Request) -> Response:
        if (current := proxy.current) is None:
            return _refusal(503, proxy.unavailable_reason)
        since = int(current.since.timestamp())
        model = {"id": proxy.name, "object": "model", "created": since, "owned_by": "tunesmith"}
        return JSONResponse({"object": "list", "data": [model]})

    routes = [Route(f"/v1/{route}", partial(_pass_on, proxy), methods=["POST"]) for route in ROUTES]
    return Starlette(
        routes=[Route("/health", show_health), Route("/v1/models", list_models), *routes], lifespan=lifespan
    )


@contextmanager
def listening(proxy: Proxy, settings: Serve, port: int) -> Iterator[str]:
    """Run the proxy while the block runs, and yield its address; then drain requests for up to `Serve.drain_seconds`.

    Raises ServingError where the port is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, port), family=family)
    except OSError as error:
        raise ServingError(
            f"serve.host {settings.host}, serve.port {port}: {error}",
            fix="name another port with --port, or in params.yaml",
        ) from None
    config = uvicorn.Config(
        app(proxy),
        log_level="critical",
        timeout_keep_alive=75,  # longer than clients: the side that closes an idle connection may lose a request
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        host = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class _Relay(StreamingResponse):
    """The reply of an engine, streamed. Its request is in flight until all is sent, or the client has disconnected."""

    def __init__(self, proxy: Proxy, upstream: Upstream, reply: httpx2.Response) -> None:
        headers = {name: value for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP}
        super().__init__(reply.aiter_raw(), reply.status_code, headers)
        self._proxy, self._upstream, self._reply = proxy, upstream, reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._proxy.release(self._upstream)
            await self._reply.aclose()


async def _pass_on(proxy: Proxy, request: Request) -> Response:
    """Return the current engine's reply to a request, or an error."""
    try:
        body = json.loads(await request.body())
        model = body.get("model") or proxy.name
    except (ValueError, RecursionError, AttributeError) as error:
        return _refusal(400, f"the request is not a JSON object: {error}")
    upstream = proxy.acquire()
    if upstream is None:
        return _refusal(503, proxy.unavailable_reason)
    names = [proxy.name, upstream.name, *([proxy.alias] if proxy.alias else [])]
    relay = None
    try:
        if model not in names:
            return _refusal(404, f"no model {model!r} is served here, but {', '.join(names)}")
        if reason := _unevaluated(body.get("chat_template_kwargs"), upstream):
            return _refusal(400, reason)
        relay = _Relay(proxy, upstream, await _send(upstream, request, body | {"model": upstream.name}))
        return relay
    except httpx2.HTTPError as error:
        return _refusal(502, f"{upstream.name} gave no answer: {error!r}")
    finally:
        if relay is None:
            proxy.release(upstream)


def _unevaluated(requested: object, upstream: Upstream) -> str | None:
    """Return why a request's own values for the chat template are refused: the model was evaluated with others.

    None where they are not. Variables that the evaluation did not set are passed on.
    """
    if not requested or not upstream.template_kwargs:
        return None
    if not isinstance(requested, dict):
        return f"chat_template_kwargs is not a JSON object, but {requested!r}"
    evaluated = {json.dumps(kwargs, sort_keys=True) for kwargs in upstream.template_kwargs}
    names = {name for kwargs in upstream.template_kwargs for name in kwargs}
    rendered = upstream.template_kwargs[0] | {name: value for name, value in requested.items() if name in names}
    if json.dumps(rendered, sort_keys=True) in evaluated:
        return None
    return (
        f"chat_template_kwargs: {upstream.name} would be asked with {json.dumps(rendered)}, and was evaluated with "
        f"{' and '.join(sorted(evaluated))} alone"
    )


async def _send(upstream: Upstream, request: Request, body: dict[str, object]) -> httpx2.Response:
    """Send a request to an engine, and return its reply as soon as the headers have arrived."""
    client: httpx2.AsyncClient = request.state.client
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
    content = json.dumps(body).encode()
    engine_request = client.build_request("POST", f"{upstream.url}{request.url.path}", headers=headers, content=content)
    return await client.send(engine_request, stream=True)


def _refusal(status: int, message: str) -> Response:
    """Return an error in OpenAI's form, which its client shows."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": None}}, status)
