"""Requests to an OpenAI-compatible endpoint: what is retried, what ends the run, and what is a refusal.

A service that asks for patience (429, 5xx) gets it. Without a key, credit or model, no retry helps. A filter's refusal
is an answer like others: users would get it too.
"""

import email.utils
import json
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx2

from tunesmith.core.errors import EvaluationError
from tunesmith.evaluation.endpoint.settings import Baseline

TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses that are retried."""
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
"""Codes of errors with status 429 that no waiting ends."""
FILTERED = ("content_filter", "content_policy_violation")
"""Codes of errors by which a service refuses to answer."""
RENAMED = {"max_tokens": "max_completion_tokens"}
"""Fields that newer models take under another name; a field that they do not take at all is left out."""


@dataclass(frozen=True)
class Reply:
    """An endpoint's answer to a prompt."""

    text: str
    """The text; calls of tools follow it, each within <tool_call> tags."""
    finish: str | None
    """Why it ended, such as stop, length or content_filter; None where the service does not say."""
    refused: bool
    """Whether the service or the model marked the answer as refused."""
    model: str
    """The model that answered, as the service names it."""
    prompt_tokens: int | None
    completion_tokens: int | None


class Client:
    """Asks an endpoint; several threads may share it."""

    def __init__(self, settings: Baseline) -> None:
        """Raises EvaluationError where the key is not set."""
        self._settings = settings
        self._url = f"{str(settings.base_url).rstrip('/')}/chat/completions"
        self._key = _key(settings)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._http = httpx2.Client(timeout=settings.timeout, headers=headers)  # a redirect would get the key
        self.not_taken: set[str] = set()
        """Fields of requests that the model does not take."""
        self.stopping = threading.Event()
        """Set where no further answer is wanted, so that nothing waits for a retry."""

    def ask(self, messages: list[dict[str, object]], tools: object, max_tokens: int) -> Reply:
        """Ask for the answer to a conversation.

        Raises EvaluationError if the service does not answer, or does not answer as chat completions do.
        """
        body: dict[str, Any] = {"model": self._settings.model, "messages": messages}
        body["max_tokens"] = self._settings.max_tokens or max_tokens
        if self._settings.temperature is not None:
            body["temperature"] = self._settings.temperature
        if tools:
            body["tools"] = tools
        body |= self._settings.request
        tries = 0
        while True:
            sent = self._taken(body)
            response, problem, wait = self._post(sent)
            error = {} if response is None else _error(response)
            if response is not None and response.status_code == 200:
                return _reply(response)
            if error.get("code") in FILTERED:
                return Reply("", "content_filter", True, self._settings.model, None, None)
            if response is not None and self._learn(response, error, sent):
                continue
            if error.get("code") in NO_CREDIT:
                raise self._stopped(problem, "add credit at the service")
            if response is not None and response.status_code not in TRANSIENT:
                raise self._stopped(problem, "check baseline.base_url, .model and .api_key_variable in params.yaml")
            wait = max(wait, self._settings.backoff * 2**tries * random.uniform(1, 1.25))
            if tries == self._settings.retries:
                raise self._stopped(f"{problem}, {tries + 1} times", "wait, or lower baseline.concurrency")
            if wait > self._settings.max_wait:
                raise self._stopped(f"{problem}; it asks to wait {wait:.0f} s", "wait, or raise baseline.max_wait")
            tries += 1
            if self.stopping.wait(wait):
                raise self._stopped(problem, "correct what stopped the others")

    def _post(self, body: dict[str, Any]) -> tuple[httpx2.Response | None, str, float]:
        """The response, None without one; the problem in words; and the seconds that the server asks to wait."""
        try:
            response = self._http.post(self._url, json=body)
        except httpx2.RequestError as error:
            return None, type(error).__name__, 0.0
        text = response.text.replace(self._key, "***") if self._key else response.text  # some endpoints quote the key
        return response, f"HTTP status {response.status_code}: {text[:200]!r}", _retry_after(response)

    def _taken(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request without fields that the model does not take, or with their other names."""
        taken = {name: value for name, value in body.items() if name not in self.not_taken}
        return taken | {RENAMED[name]: body[name] for name in self.not_taken & RENAMED.keys()}

    def _learn(self, response: httpx2.Response, error: dict[str, Any], sent: dict[str, Any]) -> bool:
        """Whether the error names a field of the request that can be left out or renamed in the next one."""
        field = error.get("param")
        unsupported = str(error.get("code")).startswith("unsupported") or "nsupported" in str(error.get("message"))
        if response.status_code != 400 or not unsupported or field not in ("max_tokens", "temperature"):
            return False
        self.not_taken.add(field)
        return field in sent

    def _stopped(self, problem: str, remedy: str) -> EvaluationError:
        return EvaluationError(
            f"the baseline's endpoint did not answer: {problem}",
            fix=f"{remedy}, then `dvc repro` again: the answers so far are kept, and are not asked or paid for again",
        )


def _key(settings: Baseline) -> str | None:
    if settings.api_key_variable is None:
        return None
    if not (key := os.environ.get(settings.api_key_variable)):
        raise EvaluationError(
            f"the baseline's key belongs in the environment variable {settings.api_key_variable}, which is not set",
            fix=f"set {settings.api_key_variable}, or baseline.api_key_variable to null in params.yaml",
        )
    return key


def _retry_after(response: httpx2.Response) -> float:
    """The seconds that a response asks to wait; 0 where it does not say."""
    try:
        if milliseconds := response.headers.get("retry-after-ms"):
            return float(milliseconds) / 1000
        value = response.headers.get("retry-after", "0")
        if value.replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _error(response: httpx2.Response) -> dict[str, Any]:
    """The error of a response, {code, param, message}; empty where there is none in the usual form."""
    try:
        error = response.json()["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {"message": error}


def _reply(response: httpx2.Response) -> Reply:
    try:
        body = response.json()
        choice, usage = body["choices"][0], body.get("usage") or {}
        message = choice["message"]
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        refusal = message.get("refusal")
        parts = [message.get("content") or refusal or "", *map(_call_text, calls)]
        return Reply(
            text="\n".join(part for part in parts if part),
            finish=choice.get("finish_reason"),
            refused=bool(refusal) or choice.get("finish_reason") == "content_filter",
            model=str(body.get("model") or ""),
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise EvaluationError(
            f"the baseline's endpoint does not reply as chat completions do: {response.text[:200]!r}",
            fix="set baseline.base_url in params.yaml to the part before /chat/completions",
        ) from None


def _call_text(function: dict[str, Any]) -> str:
    arguments = function["arguments"]
    call = {"name": function["name"], "arguments": json.loads(arguments) if isinstance(arguments, str) else arguments}
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"
