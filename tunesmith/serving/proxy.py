"""One public, OpenAI-compatible address in front of engines that come and go.

A request goes to the engine that serves when it arrives, and stays there to its end: another that takes over gets the
next one. Only routes that answer texts are let through; others of `transformers serve` load whatever model they are
asked for, which nobody has evaluated.
"""

import json
import math
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tunesmith.core.errors import ServingError
from tunesmith.serving.settings import Serve

ROUTES = ("chat/completions", "completions", "responses")
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
"""Headers that are about one connection, not about the request or its reply."""
IDLE = 2.0
"""Seconds that a connection to an engine is kept; uvicorn ends it after 5, and must not while we send."""


@dataclass(eq=False)
class Upstream:
    """An engine that serves. name: what it answers to. about: model, version, digest, engine, dtype, for /health."""

    url: str
    name: str
    about: Mapping[str, Any]
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    in_flight: int = 0
    """Requests that it has not answered to the end."""


class Proxy:
    """What /health tells, and which engine serves. Its methods may be called from any thread."""

    def __init__(self, name: str, alias: str | None) -> None:
        """name: of the registered model, which requests use. alias: what is followed, if any; they may use it too."""
        self.name, self.alias = name, alias
        self.current: Upstream | None = None
        self.waiting = "no model is up yet"
        self.failed: Mapping[str, Any] | None = None
        """{version, reason} of a champion that could not take over."""
        self.retrying: list[str] = []
        """What is wrong for now and tried again, in sentences."""
        self._lock = threading.Lock()

    def switch(self, upstream: Upstream | None, waiting: str = "") -> Upstream | None:
        """Send new requests to another engine, or to none for a reason. Returns the one before, to be drained."""
        with self._lock:
            before, self.current, self.waiting = self.current, upstream, waiting
        return before

    def taken(self) -> Upstream | None:
        """The engine that serves, with one more request in flight."""
        with self._lock:
            if self.current is not None:
                self.current.in_flight += 1
            return self.current

    def ended(self, upstream: Upstream) -> None:
        with self._lock:
            upstream.in_flight -= 1

    def health(self) -> dict[str, Any]:
        serving = self.current
        told = {"status": "serving" if serving else "unavailable", "model": self.name, "alias": self.alias}
        wrong = {"failed": self.failed, "retrying": self.retrying}
        if serving is None:
            return told | {"reason": self.waiting} | wrong
        about = {**serving.about, "since": serving.since.isoformat(timespec="seconds"), "in_flight": serving.in_flight}
        return told | about | wrong


def app(proxy: Proxy) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        limits = httpx2.Limits(max_connections=None, keepalive_expiry=IDLE)
        timeout = httpx2.Timeout(None, connect=10)  # an answer takes as long as it takes
        async with httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as client:
            yield {"client": client}

    async def health(_: Request) -> Response:
        told = proxy.health()
        return JSONResponse(told, 200 if told["status"] == "serving" else 503)

    async def models(_: Request) -> Response:
        if (serving := proxy.current) is None:
            return _refused(503, proxy.waiting)
        since = int(serving.since.timestamp())
        model = {"id": proxy.name, "object": "model", "created": since, "owned_by": "tunesmith"}
        return JSONResponse({"object": "list", "data": [model]})

    routes = [Route(f"/v1/{route}", partial(_pass_on, proxy), methods=["POST"]) for route in ROUTES]
    return Starlette(routes=[Route("/health", health), Route("/v1/models", models), *routes], lifespan=lifespan)


@contextmanager
def listening(proxy: Proxy, settings: Serve, port: int) -> Iterator[str]:
    """The address of the proxy, up while the block runs; then open requests get `Serve.drain_seconds` to end.

    Raises ServingError where the port is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        taken = socket.create_server((settings.host, port), family=family)
    except OSError as error:
        raise ServingError(
            f"serve.host {settings.host}, serve.port {port}: {error}", fix="give another with --port, or in params.yaml"
        ) from None
    config = uvicorn.Config(
        app(proxy),
        log_level="critical",
        timeout_keep_alive=75,  # longer than clients keep theirs: who ends an idle connection may miss a request
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    try:
        host = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
        yield f"http://{host}:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class _Relay(StreamingResponse):
    """The reply of an engine, as it comes; the request is in flight until the last of it is sent, or nobody reads."""

    def __init__(self, proxy: Proxy, upstream: Upstream, reply: httpx2.Response) -> None:
        headers = {name: value for name, value in reply.headers.items() if name.lower() not in HOP}
        super().__init__(reply.aiter_raw(), reply.status_code, headers)
        self._proxy, self._upstream, self._reply = proxy, upstream, reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._proxy.ended(self._upstream)
            await self._reply.aclose()


async def _pass_on(proxy: Proxy, request: Request) -> Response:
    """The engine's answer to a request, or why there is none."""
    try:
        body = json.loads(await request.body())
        asked = body.get("model") or proxy.name
    except (ValueError, RecursionError, AttributeError) as error:
        return _refused(400, f"the request is not a JSON object: {error}")
    upstream = proxy.taken()
    if upstream is None:
        return _refused(503, proxy.waiting)
    known = [proxy.name, upstream.name, *([proxy.alias] if proxy.alias else [])]
    relay = None
    try:
        if asked not in known:
            return _refused(404, f"no model {asked!r} is served here, but {', '.join(known)}")
        relay = _Relay(proxy, upstream, await _reply(upstream, request, body | {"model": upstream.name}))
        return relay
    except httpx2.HTTPError as error:
        return _refused(502, f"{upstream.name} gave no answer: {error!r}")
    finally:
        if relay is None:
            proxy.ended(upstream)


async def _reply(upstream: Upstream, request: Request, body: dict[str, Any]) -> httpx2.Response:
    """The engine's, as soon as its headers are there."""
    client: httpx2.AsyncClient = request.state.client
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP]
    content = json.dumps(body).encode()
    sent = client.build_request("POST", f"{upstream.url}{request.url.path}", headers=headers, content=content)
    return await client.send(sent, stream=True)


def _refused(status: int, message: str) -> Response:
    """In OpenAI's form, which its client shows."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": None}}, status)
