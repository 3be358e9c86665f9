"""An engine's answer on its way to a client.

An engine is always asked for a stream, because it stops generating when a stream is closed: the work for a client that
has left, or for an answer that takes too long, ends with it. A client that wants no stream gets the whole.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import httpx2
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
"""Headers of one connection, which are not passed on."""
LAST_SECONDS = 5.0
"""Time after the deadline for a client to read what it was sent, in seconds."""
TOO_LONG = "the answer took longer than serve.request_seconds"
Result = TypeVar("Result")


class ClientLeftError(Exception):
    """The client has closed its connection."""


class AnswerError(Exception):
    """An engine's error in place of an answer."""


class Relay(StreamingResponse):
    """A reply of an engine, streamed. Its work ends when all is sent, the client has left, or time is up."""

    def __init__(
        self, reply: httpx2.Response, deadline: float, progressed: Callable[[], None], release: Callable[[], None]
    ) -> None:
        """deadline: in the time of `time.monotonic`. progressed, release: called whenever a part of the answer was
        generated, and at the end."""
        headers = {name: value for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP}
        super().__init__(_until(_events(reply, progressed), deadline), reply.status_code, headers)
        self._reply, self._deadline, self._release = reply, deadline, release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # A client that does not read what it is sent has its connection closed.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._deadline - time.monotonic() + LAST_SECONDS):
                    await super().__call__(scope, receive, send)
        finally:
            self._release()
            await self._reply.aclose()


async def _events(reply: httpx2.Response, progressed: Callable[[], None]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a stream: each line, with the chunk of an answer in it, which may be empty."""
    async for line in reply.aiter_lines():
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        try:
            chunk = json.loads(data) if data and data != "[DONE]" else {}
        except ValueError:
            chunk = {"error": data}  # transformers' server writes the text of an error as it is
        if any(_is_generated(choice) for choice in chunk.get("choices", [])):
            progressed()
        yield line, chunk


def _is_generated(choice: dict[str, Any]) -> bool:
    """Return whether a part of an answer was generated: engines send one with the role before they begin."""
    delta = choice.get("delta") or {}
    parts = [choice.get("text"), choice.get("finish_reason")]
    return any([*parts, *(value for name, value in delta.items() if name != "role")])


async def _until(events: AsyncIterator[tuple[str, dict[str, Any]]], deadline: float) -> AsyncIterator[bytes]:
    """Yield the lines of a stream; after the deadline, an error event as OpenAI's client reads it."""
    while True:
        try:
            line, _ = await asyncio.wait_for(anext(events), deadline - time.monotonic())
        except StopAsyncIteration:
            return
        except TimeoutError:
            error = {"message": TOO_LONG, "type": "server_error", "param": None, "code": None}
            yield f"data: {json.dumps({'error': error})}\n\n".encode()
            return
        yield f"{line}\n".encode()


async def while_connected(request: Request, work: Coroutine[Any, Any, Result], deadline: float) -> Result:
    """Return the result of ``work``, which is cancelled when the client leaves or the deadline passes.

    request: its body must have been read. Raises ClientLeftError or TimeoutError, and what the work raises.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeftError if leaving.done() else TimeoutError
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def whole(reply: httpx2.Response, progressed: Callable[[], None]) -> JSONResponse:
    """Return the answer that a stream of chat/completions or completions adds up to.

    Raises AnswerError where the engine reports an error in the stream, or ends it early.
    """
    try:
        return await _whole(reply, progressed)
    except (LookupError, TypeError, AttributeError) as error:
        raise AnswerError(f"a part of the answer is not as OpenAI's API has it: {error!r}") from None


async def _whole(reply: httpx2.Response, progressed: Callable[[], None]) -> JSONResponse:
    first: dict[str, Any] = {}
    message: dict[str, Any] = {"role": "assistant", "content": None}
    text, finish, usage, calls = "", None, None, dict[int, dict[str, Any]]()
    async for _, chunk in _events(reply, progressed):
        if not chunk:
            continue
        if error := chunk.get("error"):
            raise AnswerError(error.get("message") if isinstance(error, dict) else error)
        first, usage = first or chunk, chunk.get("usage") or usage
        for choice in chunk.get("choices", []):
            text += choice.get("text") or ""
            delta = choice.get("delta") or {}
            for name in ("content", "reasoning_content", "reasoning"):
                if delta.get(name):
                    message[name] = (message.get(name) or "") + delta[name]
            for part in delta.get("tool_calls") or []:
                _add_call(calls, part)
            finish = choice.get("finish_reason") or finish
    if finish is None:
        raise AnswerError("the engine ended its answer early")
    if first["object"] == "text_completion":
        content: dict[str, Any] = {"text": text, "logprobs": None}
    else:
        content = {"message": message | ({"tool_calls": [calls[i] for i in sorted(calls)]} if calls else {})}
    choices = [{"index": 0, **content, "finish_reason": finish}]
    named = {name: first[name] for name in ("id", "created", "model")}
    return JSONResponse({**named, "object": first["object"].removesuffix(".chunk"), "choices": choices, "usage": usage})


def _add_call(calls: dict[int, dict[str, Any]], part: dict[str, Any]) -> None:
    """Add a part of a tool call, whose arguments may come in pieces, to the calls by their index."""
    function = part.get("function") or {}
    call = calls.setdefault(part["index"], {"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call["id"] = part.get("id") or call["id"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""
