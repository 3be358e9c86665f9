"""A server with the routes and formats of vLLM's, which answers by transformers and peft on this machine's CPU.

It keeps the adapters that it is sent, by name, as they were when they were loaded. `Fault` makes it answer as vLLM has.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

Fault = Literal["base", "absent", "stale", "other engine"]
"""The error of a server: it answers as the base in place of an adapter, forgets an adapter that it was sent, keeps the
first adapter in place of later ones, or computes with other numbers."""
CONTEXT = 400
"""The tokens of a prompt and its answer together, at most."""
NOISE = 1.0
"""The deviation that "other engine" adds to logits."""


class FakeVllm:
    """The model of a server, and what it was asked, in order: (path, name of the model or adapter)."""

    def __init__(self, weights: Path, fault: Fault | None = None, *, after: int = 1) -> None:
        """after: loads that go well before the fault."""
        self.weights, self.fault, self.after = weights, fault, after
        self.asked: list[tuple[str, str]] = []
        self.folders: list[Path] = []
        self.asleep, self.loads = False, 0
        self.generated = 0
        """The prompts that were answered, rather than scored."""
        self.names: dict[str, str | None] = {"weights": None}
        """The adapter that answers under each name; None for the weights alone."""
        self._weights: Any = None
        self._model: Any = None
        self._lock = threading.Lock()

    @property
    def faulty(self) -> bool:
        return self.loads > self.after

    def load(self, name: str, folder: Path) -> None:
        assert name not in self._known(), "a name is loaded once"
        self.loads += 1
        self.folders.append(folder)
        if self._model is None:
            full = AutoModelForCausalLM.from_pretrained(self.weights, dtype=torch.float32)
            self._model = PeftModel.from_pretrained(full, str(folder), adapter_name=name).eval()
        else:
            self._model.load_adapter(str(folder), adapter_name=name)
        answered_by: str | None = name
        if self.faulty and self.fault == "stale":
            answered_by = next(iter(self._known()))
        if self.faulty and self.fault == "base":
            answered_by = None
        if not (self.faulty and self.fault == "absent"):
            self.names[name] = answered_by

    def _known(self) -> dict[str, Any]:
        return {} if self._model is None else dict(self._model.peft_config)

    @torch.inference_mode()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        assert not self.asleep, "a server that sleeps is not asked"
        with self._lock, self._answering(self.names[body["model"]]):
            choices = [self._choice(index, prompt, body) for index, prompt in enumerate(body["prompt"])]
        return {"model": body["model"], "choices": choices}

    @contextmanager
    def _answering(self, adapter: str | None) -> Iterator[None]:
        if self._model is None:
            self._weights = self._weights or AutoModelForCausalLM.from_pretrained(self.weights, dtype=torch.float32)
            yield
            return
        if adapter is None:
            with self._model.disable_adapter():
                yield
            return
        self._model.set_adapter(adapter)
        yield

    def _logits(self, tokens: list[int]) -> torch.Tensor:
        logits: torch.Tensor = (self._model or self._weights)(input_ids=torch.tensor([tokens])).logits[0].float()
        if self.faulty and self.fault == "other engine":
            logits = logits + NOISE * torch.randn(logits.shape, generator=torch.Generator().manual_seed(len(tokens)))
        return logits

    def _choice(self, index: int, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "prompt_token_ids": prompt}
        if "prompt_logprobs" in body:
            scores = self._logits(prompt).log_softmax(-1)
            assert len(prompt) < CONTEXT, f"{len(prompt)} tokens, and one more, do not fit"
            choice["prompt_logprobs"] = [None] + [
                {
                    str(chosen): {"logprob": float(row[chosen]), "rank": int((row >= row[chosen]).sum())}
                    for chosen in {token, int(row.argmax())}
                }
                for row, token in zip(scores[:-1], prompt[1:], strict=True)
            ]
            return choice
        self.generated += 1
        generator = torch.Generator().manual_seed(body["seed"] % 2**63 if "seed" in body else 0)
        tokens, log_probs, reason = list[int](), list[float](), "length"
        assert len(prompt) + body["max_tokens"] <= CONTEXT, "the prompt and its answer do not fit"
        while len(tokens) < body["max_tokens"] and reason == "length":
            logits = self._logits(prompt + tokens)[-1]
            scores = (logits / (body["temperature"] or 1.0)).log_softmax(-1)
            sampled = body["temperature"] > 0
            drawn = torch.multinomial(scores.exp(), 1, generator=generator) if sampled else scores.argmax()
            tokens.append(int(drawn))
            log_probs.append(float(scores[tokens[-1]]))
            reason = "stop" if tokens[-1] in body["stop_token_ids"] else "length"
        return choice | {"token_ids": tokens, "logprobs": {"token_logprobs": log_probs}, "finish_reason": reason}

    def route(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and the reply to a request."""
        path, _, query = path.partition("?")
        name = str(body.get("model", body.get("lora_name", query)))
        self.asked.append((path, name))
        match path:
            case "/version":
                return 200, {"version": "0.0.0+cpu"}
            case "/v1/models":
                return 200, {"data": [{"id": known, "max_model_len": CONTEXT} for known in self.names]}
            case "/v1/load_lora_adapter":
                self.load(name, Path(body["lora_path"]))
            case "/v1/unload_lora_adapter":
                del self.names[name]
            case "/sleep" | "/wake_up":
                self.asleep = path == "/sleep"
            case "/v1/completions" if name in self.names:
                return 200, self.complete(body)
            case _:
                return 404, {"error": {"message": f"{path}: no {name}"}}
        return 200, {}


@contextmanager
def several() -> Iterator[Callable[[FakeVllm], str]]:
    """A function that serves a server until the block ends, and returns its address."""
    with ExitStack() as running:
        yield lambda server: running.enter_context(serving(server))


@contextmanager
def serving(server: FakeVllm) -> Iterator[str]:
    """Serve on loopback while the block runs; the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(*server.route(self.path, {}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                self.reply(*server.route(self.path, body))
            except Exception as error:
                self.reply(500, {"error": {"message": repr(error)}})

        def reply(self, status: int, content: dict[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        request_queue_size = 512  # all prompts of a step ask at once

    listening = Listening(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
