"""What the client sends, and how much of it at once."""

import threading
import time
from typing import Any

import pytest

from tunesmith.models.engines import client
from tunesmith.models.engines.client import Client


class Counting(Client):
    """A client without a server, which counts the prompts that are in flight."""

    def __init__(self) -> None:
        super().__init__(address="http://127.0.0.1:9")
        self.lock, self.now, self.most, self.bodies = threading.Lock(), 0, 0, list[dict[str, Any]]()

    def _complete(self, model: str, prompts: Any, settings: dict[str, Any]) -> list[dict[str, Any]]:
        with self.lock:
            self.bodies.append(settings)
            self.now += len(prompts)
            self.most = max(self.most, self.now)
        time.sleep(0.05)
        with self.lock:
            self.now -= len(prompts)
        answer = {"token_ids": [1], "logprobs": {"token_logprobs": [0.0]}, "finish_reason": "stop"}
        return [answer for _ in prompts]


@pytest.mark.parametrize("seed", [None, 7])
def test_as_many_prompts_are_in_flight_as_vllm_computes_together(seed: int | None) -> None:
    counting = Counting()
    prompts = [[1]] * (2 * client.IN_FLIGHT)
    answered = list[int]()
    counting.on_answers = answered.append
    assert len(counting.generate("m", prompts, max_new_tokens=1, stop_tokens=[], seed=seed)) == len(prompts)
    assert client.IN_FLIGHT / 2 < counting.most <= client.IN_FLIGHT
    assert sum(answered) == len(prompts)
    counting.close()


@pytest.mark.parametrize("in_flight", [1, 8, 40])
def test_no_more_prompts_are_in_flight_than_a_call_says(in_flight: int) -> None:
    counting = Counting()
    counting.generate("m", [[1]] * 100, max_new_tokens=1, stop_tokens=[], in_flight=in_flight)
    assert counting.most <= in_flight
    counting.close()


def test_a_servers_own_settings_of_sampling_do_not_apply() -> None:
    counting = Counting()
    counting.generate("m", [[1]], max_new_tokens=1, stop_tokens=[])
    counting.generate("m", [[1]], max_new_tokens=1, stop_tokens=[], top_p=0.5)
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    assert [{name: body[name] for name in neutral} for body in counting.bodies] == [neutral, neutral | {"top_p": 0.5}]
    counting.close()
