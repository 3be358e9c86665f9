"""Settings of `tunesmith serve` for tests, a request, and waiting for what happens in another thread."""

import time
from collections.abc import Callable
from typing import Any

import pytest

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
ASKED: list[Any] = [{"role": "user", "content": "well?"}]


def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it never came")
