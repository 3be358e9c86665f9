"""The answers of the baseline's endpoint: each prompt is asked once, and paid for once.

An answer is kept as long as the request that it answers is the same: another verifier, other code, or a run that was
cut short asks nothing again.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict, cast

from pydantic import PositiveInt
from tqdm import tqdm

from tunesmith.core import layout
from tunesmith.core.errors import EvaluationError
from tunesmith.core.params import Section
from tunesmith.core.ready_rows import Message, Row, ToolCall, dumps
from tunesmith.data.images import urls
from tunesmith.evaluation.endpoint.client import Client
from tunesmith.evaluation.endpoint.settings import Baseline


class Asked(Section):
    """What of a suite determines its prompts."""

    dataset: str
    limit: PositiveInt | None = None
    max_new_tokens: PositiveInt


class BaselineAnswer(TypedDict):
    """An endpoint's answer to the prompt of a row: a line of data/baseline/answers.jsonl."""

    suite: str
    id: str
    """The id of the row."""
    key: str
    """SHA-256, in hex, of the endpoint and the request."""
    text: str
    finish: str | None
    """Why the answer ended, as the service says."""
    refused: bool
    """Whether the service or the model marked the answer as refused."""
    model: str
    """The model that answered, as the service names it."""
    time: int
    """When it answered, in milliseconds since the epoch."""
    prompt_tokens: int | None
    completion_tokens: int | None


def ask_all(
    settings: Baseline,
    suites: dict[str, tuple[Asked, list[Row]]],
    kept: Iterable[BaselineAnswer],
    journal: Path,
    folder: Path = layout.READY,
) -> tuple[list[BaselineAnswer], str]:
    """The answers to the prompts of all suites, and what was asked for them, in words.

    kept: answers of earlier runs. journal: a file to which each answer is appended as it comes. folder: of ready data
    sets, from which images are sent.

    Raises EvaluationError if there are more new prompts than `Baseline.max_prompts`, and as `Client.ask` does.
    """
    wanted = [
        (name, asked, row, request_key(settings, row, asked.max_new_tokens))
        for name, (asked, rows) in suites.items()
        for row in rows
    ]
    answers = {answer["key"]: answer for answer in kept}
    new = {key: (name, asked, row) for name, asked, row, key in wanted if key not in answers}
    if len(new) > settings.max_prompts:
        raise EvaluationError(
            f"baseline: {len(new):,} prompts would be asked, more than baseline.max_prompts ({settings.max_prompts:,})",
            fix="raise it in params.yaml, or set evaluate.suites.<suite>.limit",
        )
    client = Client(settings)
    if new:
        print(f"  {len(new):,} prompts for {settings.model}; {len(wanted) - len(new):,} answered before", flush=True)
        journal.parent.mkdir(parents=True, exist_ok=True)
        for answer in _ask_new(client, settings, new, journal, folder):
            answers[answer["key"]] = answer
    for field in sorted(client.not_taken - {"max_tokens"}):
        print(f"  {settings.model} takes no {field}: its answers are those of its own default")
    ordered = [answers[key] | {"suite": name, "id": row["id"]} for name, _, row, key in wanted]
    return ordered, cost([answers[key] for key in new], settings)


def _ask_new(
    client: Client, settings: Baseline, new: dict[str, tuple[str, Asked, Row]], journal: Path, folder: Path
) -> Iterable[BaselineAnswer]:
    def ask(key: str) -> BaselineAnswer:
        name, asked, row = new[key]
        reply = client.ask(*_request(row, folder / asked.dataset), asked.max_new_tokens)
        about = {"suite": name, "id": row["id"], "key": key, "time": time.time_ns() // 1_000_000}
        return cast("BaselineAnswer", about | asdict(reply))

    pool = ThreadPoolExecutor(settings.concurrency)
    try:
        with journal.open("ab") as log, tqdm(total=len(new), desc="ask", unit=" prompts", delay=2, leave=False) as bar:
            for asked in as_completed([pool.submit(ask, key) for key in new]):
                answer = asked.result()
                log.write(dumps(answer) + b"\n")
                log.flush()
                bar.update()
                yield answer
    finally:
        client.stopping.set()
        pool.shutdown(cancel_futures=True)


def request_key(settings: Baseline, row: Row, max_new_tokens: int) -> str:
    """SHA-256, in hex, of what determines an answer: the endpoint, the model and the request."""
    shaping = settings.model_dump(mode="json", include={"base_url", "model", "temperature", "max_tokens", "request"})
    request = [*_request(row), settings.max_tokens or max_new_tokens]
    return hashlib.sha256(json.dumps([shaping, request], sort_keys=True, default=str).encode()).hexdigest()


def read(path: Path) -> list[BaselineAnswer]:
    """The answers in a file, without a line that was cut short; none where there is no file."""
    if not path.exists():
        return []
    answers = []
    for line in path.read_bytes().splitlines():
        try:
            answers.append(cast("BaselineAnswer", json.loads(line)))
        except ValueError:
            continue  # the process was killed while it wrote this line
    return answers


def cost(answers: list[BaselineAnswer], settings: Baseline) -> str:
    """What answers took: requests, tokens, and where prices are known, the cost."""
    sent, received = (sum(answer[name] or 0 for answer in answers) for name in ("prompt_tokens", "completion_tokens"))
    text = f"{len(answers):,} asked, {sent:,} tokens in, {received:,} out"
    if settings.price is None:
        return text
    paid = (sent * settings.price.input + received * settings.price.output) / 1e6
    return f"{text}, cost {paid:,.{2 if paid >= 1 else 4}f}"


def day(milliseconds: int) -> str:
    """The date of a time, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()


def _request(row: Row, images: Path | None = None) -> tuple[list[dict[str, object]], object]:
    """The messages of a row's prompt as OpenAI's API takes them, and its tools.

    images: the folder of the row, to send its images from; None leaves them named by their digests.
    """
    return [_message(message, images) for message in row["prompt"]], row.get("tools")


def _message(message: Message, images: Path | None) -> dict[str, object]:
    sent: dict[str, object] = {
        name: value for name, value in message.items() if name in ("role", "content", "name", "tool_call_id")
    }
    if images is not None:
        sent["content"] = urls.openai_content(message, images)
    if calls := message.get("tool_calls"):
        sent["tool_calls"] = [_call(call, number) for number, call in enumerate(calls)]
    return sent


def _call(call: ToolCall, number: int) -> dict[str, object]:
    """A call of a tool with its arguments as JSON text, as the API has them."""
    function, call_id = call["function"], call.get("id") or f"call_{number}"
    arguments = dumps(function["arguments"]).decode()
    return {"id": call_id, "type": "function", "function": {"name": function["name"], "arguments": arguments}}
