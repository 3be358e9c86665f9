"""One public, OpenAI-compatible address in front of changing engines.

A request goes to the engine that is current when it arrives, and stays there to its end; after a switch, new requests
go to the new engine. Only chat/completions and completions are passed on, and of them only what
`tunesmith.serving.gateway.requests` lists.
"""

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunesmith.core.errors import ServingError
from tunesmith.serving.gateway import relay, requests
from tunesmith.serving.gateway.connections import Connection, allow_files
from tunesmith.serving.gateway.proxy import Proxy, Upstream
from tunesmith.serving.gateway.relay import AnswerError, ClientLeftError, Relay
from tunesmith.serving.gateway.requests import Chat, Completion, RequestError
from tunesmith.serving.settings import Serve

ROUTES: dict[str, type[Chat | Completion]] = {"/v1/chat/completions": Chat, "/v1/completions": Completion}
BODY_SECONDS = 10.0
"""Time for a request's body to arrive, in seconds."""
HEARTBEAT_SECONDS = 5.0
"""Silence of an engine after which it is asked for a token, in seconds."""
KEEPALIVE_SECONDS = 2.0
"""Seconds that an idle connection to an engine is kept: less than uvicorn's 5, so that no engine closes it while a
request is sent."""


class RefusalError(Exception):
    """A request that gets an error instead of an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> Response:
        """Return the error in OpenAI's form, which its client shows."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": None, "code": None}
        # A body that was not read to its end must not be read as the next request.
        headers = {"Retry-After": "1"} if self.status == 429 else {"Connection": "close"}
        return JSONResponse({"error": error}, self.status, headers)


class Gateway:
    """The web application's state: the proxy, connections to engines, and the bytes of requests that are arriving."""

    def __init__(self, proxy: Proxy, settings: Serve) -> None:
        self.proxy, self.settings = proxy, settings
        self._clients: dict[Path, httpx2.AsyncClient] = {}
        self._arriving = 0
        self._reading = ThreadPoolExecutor(1)  # tokenizers are not made for several threads

    def app(self) -> Starlette:
        """Return the web application: /health, /v1/models, and the routes that are passed on."""
        answered = [Route(path, self.answer, methods=["POST"]) for path in ROUTES]
        shown = [Route("/health", self.show_health), Route("/v1/models", self.list_models)]
        return Starlette(routes=[*shown, *answered], lifespan=self.lifespan)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        heartbeat = asyncio.create_task(self.ask_silent_engines())
        try:
            yield
        finally:
            heartbeat.cancel()
            await asyncio.wait([heartbeat])
            self._reading.shutdown(wait=False, cancel_futures=True)
            for client in self._clients.values():
                await client.aclose()

    async def show_health(self, _: Request) -> Response:
        health = self.proxy.health()
        return JSONResponse(health, 200 if health["status"] == "serving" else 503)

    async def list_models(self, _: Request) -> Response:
        if (current := self.proxy.current) is None:
            return RefusalError(503, self.proxy.unavailable_reason).response()
        since = int(current.since.timestamp())
        model = {"id": self.proxy.name, "object": "model", "created": since, "owned_by": "tunesmith"}
        return JSONResponse({"object": "list", "data": [model]})

    async def answer(self, request: Request) -> Response:
        """Return the current engine's answer to a request, or an error."""
        deadline = time.monotonic() + self.settings.request_seconds
        upstream, response = None, None
        try:
            self._check_page(request)
            body = await self._body(request)
            upstream = self.proxy.acquire()
            response = await relay.while_connected(request, self._answer(upstream, request, body, deadline), deadline)
            return response
        except RequestError as error:
            return RefusalError(400, str(error)).response()
        except RefusalError as refusal:
            return refusal.response()
        except (ClientDisconnect, ClientLeftError):
            return Response(status_code=499)  # which nobody receives
        except TimeoutError:
            return RefusalError(504, relay.TOO_LONG).response()
        except (httpx2.HTTPError, AnswerError) as error:
            if upstream and isinstance(error, httpx2.ConnectError | httpx2.RemoteProtocolError | httpx2.ReadError):
                upstream.lost = True
            return RefusalError(502, f"{upstream.name if upstream else ''} gave no answer: {error!r}").response()
        finally:
            if upstream and not isinstance(response, Relay):
                self.proxy.release(upstream)

    def _check_page(self, request: Request) -> None:
        """Raise RefusalError where a page in a browser asks, which must not reach a server on its reader's machine."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RefusalError(415, "send Content-Type: application/json")
        name = request.url.hostname or ""
        if _is_loopback(self.settings.host) and not (_is_loopback(name) or name in self.settings.names):
            raise RefusalError(421, f"{name!r} is no name of this server; serve.names lists those of a proxy in front")

    async def _body(self, request: Request) -> bytes:
        """Return the body of a request, which must arrive in time and within bounds. Raises RefusalError."""
        limit, parts, size = self.settings.max_request_bytes, list[bytes](), 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    self._arriving += len(part)
                    if size > limit:
                        raise RefusalError(413, f"the request is larger than {limit:,} bytes (serve.max_request_bytes)")
                    if self._arriving > limit * self.settings.max_requests:
                        raise RefusalError(429, "too many requests are arriving")
            return b"".join(parts)
        except TimeoutError:
            raise RefusalError(408, f"the request did not arrive within {BODY_SECONDS:g} s") from None
        finally:
            self._arriving -= size

    async def _answer(self, upstream: Upstream | None, request: Request, body: bytes, deadline: float) -> Response:
        if upstream is None:
            raise RefusalError(503, self.proxy.unavailable_reason)
        if upstream.in_flight > self.settings.max_requests:
            raise RefusalError(429, f"{self.settings.max_requests} requests are being answered (serve.max_requests)")
        asked = await asyncio.get_running_loop().run_in_executor(
            self._reading, self._read, ROUTES[request.url.path], body, upstream
        )
        fields = asked.engine_fields() | {"model": upstream.name, "stream": True}
        if upstream.served["engine"] == "vllm":
            fields["stream_options"] = {"include_usage": True}  # `transformers serve` includes it unasked
        return await self._send(upstream, request, fields, asked.stream, deadline)

    def _read(self, kind: type[Chat | Completion], body: bytes, upstream: Upstream) -> Chat | Completion:
        """Return a request whose answer fits after its prompt. Raises RequestError, or RefusalError."""
        asked = requests.read(kind, body)
        names = [self.proxy.name, upstream.name, *([self.proxy.alias] if self.proxy.alias else [])]
        if (asked.model or self.proxy.name) not in names:
            raise RefusalError(404, f"no model {asked.model!r} is served here, but {', '.join(names)}")
        if isinstance(asked, Chat):
            _check_template_kwargs(asked, upstream)
        most, context = self.settings.max_new_tokens, upstream.reader.context
        if asked.max_tokens and asked.max_tokens > most:
            raise RequestError(f"max_tokens: {asked.max_tokens} is more than {most} (serve.max_new_tokens)")
        tokens = upstream.reader.count(asked)
        room = context - tokens
        if room < (asked.max_tokens or 1):
            raise RequestError(
                f"the prompt has {tokens} tokens, which leave {max(room, 0)} of the context of {context} for an answer"
            )
        asked.max_tokens = asked.max_tokens or min(most, room)
        return asked

    async def _send(
        self, upstream: Upstream, request: Request, body: dict[str, Any], stream: bool, deadline: float
    ) -> Response:
        """Send a request to an engine, and return its answer: the whole, or as soon as its headers have arrived."""
        client = self._client(upstream)
        reply = await client.send(
            client.build_request("POST", f"http://engine{request.url.path}", json=body), stream=True
        )
        if stream and reply.is_success:
            return Relay(reply, deadline, upstream.progressed, lambda: self.proxy.release(upstream))
        try:
            if reply.is_success:
                return await relay.whole(reply, upstream.progressed)
            content = await reply.aread()
        finally:
            await reply.aclose()
        if reply.is_client_error:
            return Response(content, reply.status_code, media_type=reply.headers.get("content-type"))
        raise AnswerError(f"status {reply.status_code}")

    async def ask_silent_engines(self) -> None:
        """Ask the current engine for a token whenever it has been silent: its health is that it generates."""
        asked: set[Upstream] = set()

        async def ask(upstream: Upstream) -> None:
            body = {"model": upstream.name, "messages": [{"role": "user", "content": "?"}], "max_tokens": 1}
            client = self._client(upstream)
            with suppress(httpx2.HTTPError, RuntimeError):  # the latter where its client was closed meanwhile
                reply = await client.post(
                    "http://engine/v1/chat/completions", json=body, timeout=self.settings.stall_seconds
                )
                if reply.is_success:
                    upstream.progressed()
            asked.discard(upstream)

        async with asyncio.TaskGroup() as questions:
            while True:
                await asyncio.sleep(HEARTBEAT_SECONDS / 5)
                for gone in [path for path in self._clients if not path.exists()]:
                    await self._clients.pop(gone).aclose()
                current = self.proxy.current
                if current and current not in asked and current.silence() > HEARTBEAT_SECONDS:
                    asked.add(current)
                    questions.create_task(ask(current))

    def _client(self, upstream: Upstream) -> httpx2.AsyncClient:
        if upstream.socket not in self._clients:
            limits = httpx2.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_SECONDS)
            transport = httpx2.AsyncHTTPTransport(uds=str(upstream.socket), limits=limits)
            timeout = httpx2.Timeout(None, connect=10)  # an answer's time is limited by its deadline
            self._clients[upstream.socket] = httpx2.AsyncClient(transport=transport, timeout=timeout)
        return self._clients[upstream.socket]


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _check_template_kwargs(asked: Chat, upstream: Upstream) -> None:
    """Raise RequestError where a request's own values for the chat template are not those of the evaluation."""
    requested, evaluated = asked.chat_template_kwargs or {}, upstream.template_kwargs
    names = {name for kwargs in evaluated for name in kwargs}
    if unknown := sorted(set(requested) - names):
        raise RequestError(f"chat_template_kwargs: {upstream.name} was evaluated without {', '.join(unknown)}")
    rendered = {**(evaluated[0] if evaluated else {}), **requested}
    texts = sorted({json.dumps(kwargs, sort_keys=True) for kwargs in evaluated})
    if requested and json.dumps(rendered, sort_keys=True) not in texts:
        raise RequestError(
            f"chat_template_kwargs: {upstream.name} would be asked with {json.dumps(rendered)}, and was evaluated with "
            f"{' and '.join(texts)} alone"
        )


@contextmanager
def listening(proxy: Proxy, settings: Serve, port: int) -> Iterator[str]:
    """Answer requests while the block runs, and yield the address; then drain them for up to `Serve.drain_seconds`.

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
    allow_files()
    config = uvicorn.Config(
        Gateway(proxy, settings).app(),
        http=Connection,
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
