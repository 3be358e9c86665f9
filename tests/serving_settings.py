"""Settings of `tunesmith serve` for tests, the messages of a request, and waiting for another thread."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tunesmith.serving.gateway.requests import Chat, Completion
from tunesmith.serving.settings import Serve

SETTINGS = Serve(
    engine="transformers",
    host="127.0.0.1",
    port=0,
    poll_seconds=0.01,
    drain_seconds=20,
    start_seconds=60,
    probes=4,
    max_lora_rank=16,
    gpu_memory_share=0.4,
)
MESSAGES: list[Any] = [{"role": "user", "content": "well?"}]


class WordReader:
    """Counts the words of a prompt, where there is no tokenizer."""

    context = 100
    reads_images = False

    def count(self, request: Chat | Completion) -> int:
        return len(json.dumps(request.engine_fields()).split())


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait up to 10 seconds for a condition, and fail the test otherwise."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen within 10 seconds")
