"""One public, OpenAI-compatible address in front of changing engines.

A request goes to the version that is current when it arrives, and stays there to its end; after a switch, new requests
go to the new version. Only chat/completions and completions are passed on, with the fields that
`tunesmith.serving.gateway.requests` lists, and reads of an engine's metrics.
"""

import asyncio
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunesmith.core.errors import ServingError
from tunesmith.serving.gateway import images, relay, requests
from tunesmith.serving.gateway.connections import Connection, allow_files
from tunesmith.serving.gateway.proxy import Proxy, Upstream
from tunesmith.serving.gateway.refusals import RefusalError, check_key, check_name, check_page, without_reasons
from tunesmith.serving.gateway.relay import AnswerError, ClientLeftError, Relay
from tunesmith.serving.gateway.requests import Chat, Completion, RequestError
from tunesmith.serving.gateway.routes import Routes
from tunesmith.serving.settings import Serve

ROUTES: dict[str, type[Chat | Completion]] = {"/v1/chat/completions": Chat, "/v1/completions": Completion}
BODY_SECONDS = 10.0
"""Time for a request's body to arrive, in seconds."""
METRICS_SECONDS = 10.0
"""Timeout of an engine's metrics, in seconds."""
HEARTBEAT_SECONDS = 5.0
"""Silence of an engine after which it is asked for a token, in seconds."""
KEEPALIVE_SECONDS = 2.0
"""Seconds that an idle connection to an engine is kept: less than uvicorn's 5, so that no engine closes it while a
request is sent."""


class Gateway:
    """The web application's state: the routes, connections to engines, and the bytes of requests that are arriving."""

    def __init__(self, proxies: Sequence[Proxy], settings: Serve, key: str | None = None) -> None:
        """key: the API key that requests must send; None: none."""
        self.routes, self.settings, self._key = Routes(proxies), settings, key
        self._clients: dict[Path, httpx2.AsyncClient] = {}
        self._arriving = 0
        self._answering: set[Request] = set()
        self._reading = ThreadPoolExecutor(1)  # tokenizers are not made for several threads
        self._looking = ThreadPoolExecutor(1)  # an image may take three seconds and a GB

    def app(self) -> Starlette:
        """Return the web application: /health, /v1/models, /metrics, and the routes that are passed on."""
        answered = [Route(path, self.answer, methods=["POST"]) for path in ROUTES]
        shown = [Route("/health", self.show_health), Route("/v1/models", self.list_models)]
        shown += [Route("/metrics", self.show_metrics)]
        refused: dict[Any, Any] = {RefusalError: lambda _, refusal: refusal.response()}
        return Starlette(routes=[*shown, *answered], lifespan=self.lifespan, exception_handlers=refused)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        heartbeat = asyncio.create_task(self.ask_silent_engines())
        try:
            yield
        finally:
            heartbeat.cancel()
            await asyncio.wait([heartbeat])
            for pool in (self._reading, self._looking):
                pool.shutdown(wait=False, cancel_futures=True)
            for client in self._clients.values():
                await client.aclose()

    async def show_health(self, request: Request) -> Response:
        """Return the state. The reason of a failure, which may quote prompts and logs, is for those with the key."""
        health = self.routes.health()
        try:
            check_key(request, self._key)
        except RefusalError:
            health = without_reasons(health)
        return JSONResponse(health, 200 if health["status"] == "serving" else 503)

    async def list_models(self, request: Request) -> Response:
        check_name(request, self.settings)
        check_key(request, self._key)
        return JSONResponse({"object": "list", "data": self.routes.models()})

    async def show_metrics(self, request: Request) -> Response:
        """Return the metrics of the engine behind a name, which the query `model` gives, or the first one's."""
        check_name(request, self.settings)
        check_key(request, self._key)
        proxy = self.routes.find(request.query_params.get("model"))
        if (upstream := proxy.current) is None:
            raise RefusalError(503, proxy.unavailable_reason)
        if upstream.served["engine"] != "vllm":
            raise RefusalError(404, f"{upstream.name} is served by {upstream.served['engine']}, and vLLM has metrics")
        try:
            reply = await self._client(upstream).get("http://engine/metrics", timeout=METRICS_SECONDS)
        except httpx2.HTTPError as error:
            raise RefusalError(502, f"{upstream.name} gave no metrics: {error!r}") from None
        return Response(reply.content, reply.status_code, media_type=reply.headers.get("content-type"))

    async def answer(self, request: Request) -> Response:
        """Return the answer of the engine that a request names, or an error."""
        deadline = time.monotonic() + self.settings.request_seconds
        held: list[Upstream] = []
        response = None
        try:
            check_page(request, self.settings)
            check_key(request, self._key)
            body = await self._body(request)
            self._begin(request)
            response = await relay.while_connected(request, self._answer(held, request, body, deadline), deadline)
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
            if isinstance(error, httpx2.ConnectError | httpx2.RemoteProtocolError | httpx2.ReadError):
                held[0].lost = True
            return RefusalError(502, f"{held[0].name} gave no answer: {error!r}").response()
        finally:
            if not isinstance(response, Relay):
                self._end(request, held)

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

    async def _answer(self, held: list[Upstream], request: Request, body: bytes, deadline: float) -> Response:
        """Answer a request. held: gets the engine that it is in flight at."""
        reading = partial(asyncio.get_running_loop().run_in_executor, self._reading)
        generation = await reading(requests.read, ROUTES[request.url.path], body)
        held.append(upstream := self.routes.acquire(generation.model))
        if isinstance(generation, Chat) and generation.images():  # texts wait for no image
            await self._check_images(generation, upstream)
        await reading(self._fit, generation, upstream)
        fields = generation.engine_fields() | {"model": upstream.name, "stream": True}
        if upstream.served["engine"] == "vllm" and (generation.stream_options or not generation.stream):
            fields["stream_options"] = {"include_usage": True}  # `transformers serve` includes it unasked
        return await self._send(held, request, fields, generation.stream, deadline)

    async def _check_images(self, chat: Chat, upstream: Upstream) -> None:
        """Check the images of a request, which takes longer than texts. Raises RequestError."""
        check = partial(images.check, chat, upstream.name, seeing=upstream.reader.reads_images)
        await asyncio.get_running_loop().run_in_executor(self._looking, check)

    def _begin(self, request: Request) -> None:
        """Count a request that has arrived. Raises RefusalError where too many are being answered."""
        if len(self._answering) >= self.settings.max_requests:
            raise RefusalError(429, f"{self.settings.max_requests} requests are being answered (serve.max_requests)")
        self._answering.add(request)

    def _end(self, request: Request, held: list[Upstream]) -> None:
        self._answering.discard(request)
        for upstream in held:
            upstream.release()

    def _fit(self, generation: Chat | Completion, upstream: Upstream) -> None:
        """Set the length of an answer, which must fit after its prompt. Raises RequestError."""
        if isinstance(generation, Chat):
            requests.check_template_kwargs(generation, upstream.name, upstream.template_kwargs)
        most, context = self.settings.max_new_tokens, upstream.reader.context
        if generation.max_tokens and generation.max_tokens > most:
            raise RequestError(f"max_tokens: {generation.max_tokens} is more than {most} (serve.max_new_tokens)")
        tokens = upstream.reader.count(generation)
        room = context - tokens
        if room < (generation.max_tokens or 1):
            raise RequestError(
                f"the prompt has {tokens} tokens, which leave {max(room, 0)} of the context of {context} for an answer"
            )
        generation.max_tokens = generation.max_tokens or min(most, room)

    async def _send(
        self, held: list[Upstream], request: Request, body: dict[str, Any], stream: bool, deadline: float
    ) -> Response:
        """Send a request to an engine, and return its answer: the whole, or as soon as its headers have arrived."""
        client = self._client(upstream := held[0])
        reply = await client.send(
            client.build_request("POST", f"http://engine{request.url.path}", json=body), stream=True
        )
        if stream and reply.is_success:
            return Relay(reply, deadline, upstream.progressed, lambda: self._end(request, held))
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
        """Ask each current engine for a token whenever it has been silent: its health is that it generates."""
        pending: set[Upstream] = set()

        async def ask(upstream: Upstream) -> None:
            body = {"model": upstream.name, "messages": [{"role": "user", "content": "?"}], "max_tokens": 1}
            client = self._client(upstream)
            with suppress(httpx2.HTTPError, RuntimeError):  # the latter where its client was closed meanwhile
                reply = await client.post(
                    "http://engine/v1/chat/completions", json=body, timeout=self.settings.stall_seconds
                )
                if reply.is_success:
                    upstream.progressed()
            pending.discard(upstream)

        async with asyncio.TaskGroup() as questions:
            while True:
                await asyncio.sleep(HEARTBEAT_SECONDS / 5)
                for gone in [path for path in self._clients if not path.exists()]:
                    await self._clients.pop(gone).aclose()
                for current in self.routes.upstreams():
                    if current not in pending and current.silence() > HEARTBEAT_SECONDS:
                        pending.add(current)
                        questions.create_task(ask(current))

    def _client(self, upstream: Upstream) -> httpx2.AsyncClient:
        if upstream.socket not in self._clients:
            limits = httpx2.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_SECONDS)
            transport = httpx2.AsyncHTTPTransport(uds=str(upstream.socket), limits=limits)
            timeout = httpx2.Timeout(None, connect=10)  # an answer's time is limited by its deadline
            self._clients[upstream.socket] = httpx2.AsyncClient(transport=transport, timeout=timeout)
        return self._clients[upstream.socket]


@contextmanager
def listening(proxies: Sequence[Proxy], settings: Serve, port: int, key: str | None = None) -> Iterator[str]:
    """Answer requests while the block runs, and yield the address; then drain them for up to `Serve.drain_seconds`.

    key: the API key that requests must send; None: none. Raises ServingError where the port is taken.
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
        Gateway(proxies, settings, key).app(),
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
