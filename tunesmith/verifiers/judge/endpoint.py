"""A judge's endpoint: requests with their retries, and material that it cannot take for instructions.

Any endpoint with OpenAI's chat completions will do (`POST <base_url>/chat/completions`).
"""

import os
import secrets
import time

import httpx2
from pydantic import Field, HttpUrl, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from tunesmith.core.errors import EvaluationError
from tunesmith.core.params import Section

TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses that are retried."""


class Judge(Section):
    """A judge's endpoint, and the threshold above which it is believed; null in params.yaml for no judge."""

    base_url: HttpUrl
    """The endpoint's address without ``/chat/completions``, as in https://api.openai.com/v1."""
    model: str
    api_key_variable: str | None = None
    """The environment variable that holds the key, which is written nowhere; null for an endpoint without keys."""
    timeout: PositiveFloat = 60
    """Timeout of a request, in seconds without a byte received."""
    retries: NonNegativeInt = 3
    """Retries after a timeout, a lost connection or a transient HTTP status."""
    backoff: NonNegativeFloat = 1
    """Seconds before the first retry; each further one waits twice as long."""
    max_tokens: PositiveInt = 4
    """Tokens of a reply, which must be one letter: a reply that reasons first is unreadable."""
    believed_above: float = Field(default=0.6, ge=0, lt=1)
    """Threshold for the lower end of its accuracy's interval on labelled pairs; a coin's accuracy is 0.5."""
    believed_on_refusals_above: float = Field(default=0.85, ge=0, lt=1)
    """Threshold for the lower end of its agreement's interval on labelled refusals; a list of phrases has 0.83."""


def letter(judge: Judge, instructions: str, parts: dict[str, str], question: str) -> str | None:
    """The judge's reply, one capital letter; None for any other. One request, and its retries.

    instructions: the system message, in which ``{mark}`` stands for the mark of the lines around each part of the
    material. Raises EvaluationError if the endpoint does not answer, or does not answer as chat completions do.
    """
    mark = secrets.token_hex(16)  # an answer cannot guess it, and so cannot end its own quotation
    material = "\n".join(f"=== {name} {mark} ===\n{text}\n=== END {name} {mark} ===" for name, text in parts.items())
    messages = [
        {"role": "system", "content": instructions.format(mark=mark)},
        {"role": "user", "content": f"{material}\n\n{question}"},
    ]
    body = {"model": judge.model, "messages": messages, "temperature": 0, "max_tokens": judge.max_tokens}
    reply = _content(_post(judge, body)).strip().removesuffix(".").strip("*")
    return reply if len(reply) == 1 and "A" <= reply <= "Z" else None


def _post(judge: Judge, body: dict[str, object]) -> httpx2.Response:
    """The endpoint's reply with status 200. Retries transient errors; follows no redirect, which would get the key."""
    url, key = f"{str(judge.base_url).rstrip('/')}/chat/completions", _key(judge)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for left in range(judge.retries, -1, -1):
        try:
            response = httpx2.post(url, json=body, headers=headers, timeout=judge.timeout)
        except httpx2.RequestError as error:
            problem = type(error).__name__
        else:
            if response.status_code == 200:
                return response
            text = response.text.replace(key, "***") if key else response.text  # some endpoints quote the key
            problem = f"HTTP status {response.status_code}: {text[:200]!r}"
            if response.status_code not in TRANSIENT:
                break
        if left:
            time.sleep(judge.backoff * 2 ** (judge.retries - left))
    raise EvaluationError(
        f"the judge did not answer: {problem}",
        fix="check judge.base_url, .model, .api_key_variable and .timeout in params.yaml, or set judge to null",
    )


def _key(judge: Judge) -> str | None:
    if judge.api_key_variable is None:
        return None
    if not (key := os.environ.get(judge.api_key_variable)):
        raise EvaluationError(
            f"the judge's key belongs in the environment variable {judge.api_key_variable}, which is not set",
            fix=f"set {judge.api_key_variable}, or judge.api_key_variable to null in params.yaml",
        )
    return key


def _content(response: httpx2.Response) -> str:
    """The text of a chat completion; empty if it has none."""
    try:
        return str(response.json()["choices"][0]["message"]["content"] or "")
    except (ValueError, LookupError, TypeError, RecursionError):
        raise EvaluationError(
            f"the judge does not reply as chat completions do: {response.text[:200]!r}",
            fix="set judge.base_url in params.yaml to the part before /chat/completions",
        ) from None
