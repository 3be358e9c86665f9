"""Requests to vLLM: token ids in, token ids and log-probabilities out, and adapters by their folders.

Nothing is rendered or tokenized by the server, so that prompts are those of `models.chat`, to the token.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Any, TypeVar

import httpx2

from tunesmith.core.errors import EngineError

Tokens = list[int]
Answer = TypeVar("Answer")
IN_FLIGHT = 256
"""Maximum number of prompts in flight at a server, over all threads: as many as vLLM computes together."""
NEUTRAL = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Settings that a server may otherwise take from the base's generation config."""
REQUEST_PROMPTS = 16
"""Maximum number of prompts in a request. Progress and failures are reported per request."""


@dataclass(frozen=True)
class Generated:
    """An answer: its tokens, the end of turn included, and the log-probability of each, in nats, as it was drawn.

    stopped: whether the model ended its turn.
    """

    tokens: Tokens
    log_probs: list[float]
    stopped: bool


@dataclass(frozen=True)
class Scored:
    """A scored token: its log-probability, in nats, given those before it, and whether none is likelier."""

    log_prob: float
    likeliest: bool


class Client:
    """Asks one server; several threads may share it. Errors of the server are raised as EngineError."""

    def __init__(self, *, socket: Path | None = None, address: str = "http://engine", timeout: float = 3600.0) -> None:
        """socket: the Unix socket of a server that was started here; without one, ``address`` is its URL.

        timeout: seconds from a request to its answer.
        """
        limits = httpx2.Limits(max_connections=None)
        transport = httpx2.HTTPTransport(uds=str(socket) if socket else None, limits=limits)
        self._http = httpx2.Client(transport=transport, base_url=address, timeout=httpx2.Timeout(timeout, connect=10))
        self._in_flight, self._freed = 0, Condition()
        self.on_answers: Callable[[int], object] = lambda count: None
        """Called after each request, with the number of prompts that it answered or scored."""

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def generate(
        self,
        model: str,
        prompts: Sequence[Tokens],
        *,
        max_new_tokens: int,
        stop_tokens: Sequence[int],
        temperature: float = 0.0,
        seed: int | None = None,
        in_flight: int = IN_FLIGHT,
        **sampling: object,
    ) -> list[Generated]:
        """One answer a prompt, in their order: greedy at temperature 0.

        seed: the first prompt's; each further prompt has the next number. in_flight: maximum number of prompts that are
        computed at once. sampling: further settings of vLLM, such as top_p.
        """
        common = {
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "stop_token_ids": list(stop_tokens),
            "logprobs": 0,
            **NEUTRAL,
            **sampling,
        }
        size = 1 if seed is not None else min(REQUEST_PROMPTS, in_flight)

        def ask(begin: int) -> list[Generated]:
            seeded = {} if seed is None else {"seed": seed + begin}
            choices = self._complete(model, prompts[begin : begin + size], common | seeded)
            return [_generated(choice) for choice in choices]

        return self._all(ask, len(prompts), size, in_flight)

    def score(self, model: str, sequences: Sequence[Tokens], *, in_flight: int = IN_FLIGHT) -> list[list[Scored]]:
        """The log-probability of every token of each sequence but its first, which follows nothing."""

        size = min(REQUEST_PROMPTS, in_flight)

        def ask(begin: int) -> list[list[Scored]]:
            # vLLM must generate at least one token. prompt_logprobs: 1 adds the likeliest token beside the given one.
            settings: dict[str, object] = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
            batch = sequences[begin : begin + size]
            choices = self._complete(model, batch, settings)
            return [_scored(sequence, choice) for sequence, choice in zip(batch, choices, strict=True)]

        return self._all(ask, len(sequences), size, in_flight)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter under a name that this server has never had.

        Under a name that was used before, vLLM's cache would answer with the earlier weights.
        """
        self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.resolve())})

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter, which makes room for another."""
        self._post("/v1/unload_lora_adapter", {"lora_name": name})

    def models(self) -> list[str]:
        """The names of the served models; the first is that of the full weights."""
        return [str(model["id"]) for model in self._ask("GET", "/v1/models").json()["data"]]

    def context(self) -> int:
        """Maximum tokens of a prompt and its answer together."""
        return int(self._ask("GET", "/v1/models").json()["data"][0]["max_model_len"])

    def version(self) -> str:
        """The server's version of vLLM."""
        return str(self._ask("GET", "/version").json()["version"])

    def sleep(self, level: int = 1) -> None:
        """Free the GPU's memory: the cache, and at level 1 also the weights, which are kept in the machine's memory."""
        self._post(f"/sleep?level={level}", {})

    def wake_up(self) -> None:
        """Take the GPU's memory again after `sleep`."""
        self._post("/wake_up", {})

    def _all(self, ask: Callable[[int], list[Answer]], count: int, size: int, in_flight: int) -> list[Answer]:
        """All answers, from requests of ``size`` prompts each. ask: takes the index of a request's first prompt."""

        def ask_when_free(begin: int) -> list[Answer]:
            prompts = min(size, count - begin)
            with self._taking(prompts):
                answers = ask(begin)
            self.on_answers(prompts)
            return answers

        with ThreadPoolExecutor(max(1, in_flight // size)) as pool:
            return [answer for answers in pool.map(ask_when_free, range(0, count, size)) for answer in answers]

    @contextmanager
    def _taking(self, prompts: int) -> Iterator[None]:
        """Wait for places among `IN_FLIGHT`, so that a request does not spend its timeout waiting at the server."""
        with self._freed:
            self._freed.wait_for(lambda: self._in_flight + prompts <= IN_FLIGHT)
            self._in_flight += prompts
        try:
            yield
        finally:
            with self._freed:
                self._in_flight -= prompts
                self._freed.notify_all()

    def _complete(self, model: str, prompts: Sequence[Tokens], settings: dict[str, object]) -> list[dict[str, Any]]:
        """The choices of a completion, one a prompt, in their order."""
        body = {"model": model, "prompt": list(prompts), "return_token_ids": True, **settings}
        answer = self._post("/v1/completions", body).json()
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        answered = [choice["prompt_token_ids"] for choice in choices]
        if answer["model"] != model or answered != list(prompts):
            raise EngineError(
                f"{model}: vLLM answered as {answer['model']}, to {len(choices)} of {len(prompts)} prompts, not all as "
                "they were sent",
                fix="report this with the version of vLLM (`tunesmith engine`); no answer was used",
            )
        return choices

    def _post(self, path: str, body: dict[str, object]) -> httpx2.Response:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **settings: Any) -> httpx2.Response:
        try:
            reply = self._http.request(method, path, **settings)
        except httpx2.TransportError as error:
            raise EngineError(
                f"vLLM gave no answer to {path}: {error!r}", fix="see its log for the reason, then run this again"
            ) from None
        if not reply.is_success:
            raise EngineError(f"vLLM refused {path}: {_message(reply)}", fix="correct what it names, and run again")
        return reply


def _generated(choice: dict[str, Any]) -> Generated:
    stopped = choice["finish_reason"] == "stop"
    return Generated(choice["token_ids"], choice["logprobs"]["token_logprobs"], stopped)


def _scored(sequence: Tokens, choice: dict[str, Any]) -> list[Scored]:
    given = zip(sequence[1:], choice["prompt_logprobs"][1:], strict=True)
    # Not by vLLM's rank, which is 2 for both of two likeliest tokens.
    return [Scored(at[str(token)]["logprob"], _likeliest(at) <= at[str(token)]["logprob"]) for token, at in given]


def _likeliest(entries: dict[str, dict[str, float]]) -> float:
    """The highest log-probability at a position."""
    return max(entry["logprob"] for entry in entries.values())


def _message(reply: httpx2.Response) -> str:
    """The reason that a reply states, or the beginning of its text."""
    try:
        body = reply.json()
        text = str(body.get("error", body).get("message"))
    except (ValueError, AttributeError):
        text = reply.text
    return f"{text[:500]} (status {reply.status_code})"
