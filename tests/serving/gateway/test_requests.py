"""What a request may be: well-formed, of known fields within bounds, to a route that generates."""

import gzip
import json
import socket
from contextlib import closing
from typing import Any

import openai
import pytest

from tunesmith.serving.gateway import requests
from tunesmith.serving.gateway.requests import Chat, RequestError

SAY = [{"role": "user", "content": "63 + 84 ="}]
BODIES = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"x"',
    "NaN": b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}',
    "nested without end": b'{"a":' * 100_000,
    "nested and closed": b'{"messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "no UTF-8": b'{"model":"\xff"}',
    "UTF-16": json.dumps({"messages": SAY}).encode("utf-16"),
    "half a character": b'{"messages":[{"role":"user","content":"\\ud800"}]}',
    "compressed": gzip.compress(json.dumps({"messages": SAY}).encode()),
    "no messages": b'{"model":"champion"}',
    "messages of nothing": b'{"messages":[null]}',
}
FIELDS: dict[str, Any] = {
    "model": [0, False, [], {}, ["champion"], {"a": 1}, 3.5, "", "a" * 100_000],
    "n": [0, 3],
    "logprobs": [True, 5],
    "top_logprobs": [5],
    "stop": [["x" * 10] * 10_000, [""], "", [1]],
    "tools": [[{"type": "function"}], "f", [{}]],
    "tool_choice": ["required", "none", {"type": "function", "function": {"name": "f"}}],
    "response_format": [{"type": "json_object"}, {"type": "json_schema"}],
    "max_tokens": [0, -1, "8", 1.5, True],
    "temperature": [1e9, -1, "0"],
    "top_p": [2, 0, -1],
    "seed": [2**70, -1],
    "frequency_penalty": [1e9],
    "presence_penalty": [1],
    "logit_bias": [{"1": 100}],
    "generation_config": ['{"num_beams": 4}', '{"cache_implementation": "x"}', '{"prompt_lookup_num_tokens": 3}', "{"],
    "chat_template": ["{{ messages }}"],
    "foo": [1],
    "messages": [
        "x",
        [{"role": "alien", "content": "x"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/hostname"}}]}],
        [{"role": "user", "content": {"a": 1}}],
        [{"role": "user", "content": "x", "foo": 1}],
    ],
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_request_is_refused(name: str) -> None:
    with pytest.raises(RequestError):
        requests.read(Chat, BODIES[name])


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in FIELDS.items() for value in values])
def test_a_field_that_is_unknown_or_out_of_bounds_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"\b{field}\b") as refused:
        requests.read(Chat, json.dumps({"messages": SAY} | {field: value}).encode())
    assert len(str(refused.value)) < 2000


def test_a_refusal_does_not_repeat_a_long_name() -> None:
    with pytest.raises(RequestError) as refused:
        requests.read(Chat, json.dumps({"messages": SAY, "f" * 500_000: 1}).encode())
    assert len(str(refused.value)) < 200


def test_of_a_field_that_is_given_twice_the_last_counts_for_engines_too() -> None:
    asked = requests.read(Chat, b'{"max_tokens":1,"max_tokens":2,"messages":[{"role":"user","content":"x"}]}')
    assert asked.engine_fields()["max_tokens"] == 2


ROUTES = [
    *("GET /", "POST /metrics", "GET /docs", "GET /openapi.json", "POST /load_model", "POST /reset", "POST /tokenize"),
    *("POST /v1/load_lora_adapter", "POST /v1/unload_lora_adapter", "POST /v1/systemone", "POST /v1/embeddings"),
    *("POST /v1/audio/transcriptions", "POST /v1/responses", "GET /v1/models/../../etc/passwd", "GET /server_info"),
    *("POST /v1//chat/completions", "POST /v1/chat/completions/../../../reset", "POST /v1/%2e%2e/reset"),
    *("OPTIONS /v1/chat/completions", "GET /v1/chat/completions", "TRACE /health", "POST /V1/chat/completions"),
    *("POST /invocations", "GET /ping", "GET /version", "POST /sleep", "POST /wake_up", "POST /collective_rpc"),
]


@pytest.mark.parametrize("route", ROUTES)
def test_no_other_route_answers(client: openai.OpenAI, route: str) -> None:
    body = json.dumps({"model": "champion", "messages": SAY}).encode()
    head = f"{route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    address = client.base_url.host, client.base_url.port
    with closing(socket.create_connection(address, timeout=10)) as connection:
        connection.sendall(head.encode() + body)
        status = connection.recv(64).split()[1]
    assert status in (b"404", b"405", b"400")
