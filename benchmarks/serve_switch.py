"""Requests while the model behind them changes: none may fail.

    python -m benchmarks.serve_switch [--first sft-lora] [--second dpo] [--clients 4] [--seconds 60]

Needs two registered models (`dvc repro`). The alias `benchmark` moves, so that no champion changes: the first model is
promoted to it, `tunesmith serve @benchmark` serves it, and clients of the `openai` package send requests without pause,
every third one for a stream. After a third of the time the second model is promoted. The clients go on for --seconds,
and until the second has served for a while. Each reply names the model that answered. Latencies include the change,
when up to three models run at once: the old one, the new one, and the promotion's own probe.
"""

import argparse
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ALIAS, ROWS, TOKENS = "benchmark", Path("data/ready/demo/test.jsonl"), 16
AFTER = 10.0
"""The least time, in seconds, that the second model serves."""
PATIENCE = 300.0
"""Timeout, in seconds beyond --seconds, of the wait for the second model."""
TUNESMITH = str(Path(sys.executable).with_name("tunesmith"))


class Load:
    """Clients that send requests without pause. latencies: in seconds, by the version that answered."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self.failures: list[str] = []
        self.over = threading.Event()

    def client(self, number: int) -> None:
        import openai

        rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0) as client:
            for count, row in enumerate(itertools.islice(itertools.cycle(rows), number, None)):
                if self.over.is_set():
                    return
                began = time.monotonic()
                try:
                    name = self.ask(client, row["prompt"], streamed=count % 3 == 0)
                except Exception as error:  # of any kind: a request failed
                    self.failures.append(repr(error))
                else:
                    self.latencies[name].append(time.monotonic() - began)

    def ask(self, client: Any, prompt: list[dict[str, str]], *, streamed: bool) -> str:
        """Send a request, and return the name of the model that answered. An answer without its end is a failure."""
        request = {"model": self.model, "messages": prompt, "max_tokens": TOKENS, "temperature": 0}
        if not streamed:
            reply = client.chat.completions.create(**request)
            assert reply.choices[0].finish_reason, reply
            return str(reply.model)
        chunks = list(client.chat.completions.create(**request, stream=True))
        assert chunks[-1].choices[0].finish_reason, chunks
        return str(chunks[0].model)


@contextmanager
def serving() -> Iterator[tuple[str, str]]:
    """Serve the alias; yield the server's address and the name of the registered model."""
    process = subprocess.Popen([TUNESMITH, "serve", f"@{ALIAS}", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        match = re.match(r"(\S+)/v1 serves (\S+) ", line)
        if match is None:
            sys.exit(f"`tunesmith serve` did not start: {line}")
        yield match[1], match[2]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def promote(which: str) -> None:
    command = [TUNESMITH, "promote", which, "--to", ALIAS, "--reason", "a benchmark"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode and "already" not in result.stderr:
        sys.exit(f"could not promote {which}: {result.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", default="sft-lora")
    parser.add_argument("--second", default="dpo")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    promote(options.first)
    with serving() as (url, model):
        load = Load(url, model)
        threads = [threading.Thread(target=load.client, args=(number,)) for number in range(options.clients)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        changes = run(load, options.second, options.seconds, began)
        for thread in threads:
            thread.join()
        report(load, changes, time.monotonic() - began)


def run(load: Load, second: str, seconds: float, began: float) -> list[str]:
    """Promote the second model, end the load when it has served, and return the timing in words."""
    time.sleep(seconds / 3)
    before, start = set(load.latencies), time.monotonic()
    promote(second)
    promoted = time.monotonic()
    while not (new := set(load.latencies) - before) and time.monotonic() < began + seconds + PATIENCE:
        time.sleep(0.1)
    served = time.monotonic()
    time.sleep(max(AFTER, began + seconds - served))
    load.over.set()
    name = next(iter(new), "nobody")
    return [
        f"promoted after {start - began:.0f} s, which took {promoted - start:.0f} s with its probe",
        f"{name} answers {served - promoted:.0f} s later",
    ]


def report(load: Load, changes: list[str], seconds: float) -> None:
    requests = sum(map(len, load.latencies.values())) + len(load.failures)
    busy = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{requests} requests in {seconds:.0f} s; failed: {len(load.failures)}; {busy}")
    print(*changes, sep="\n")
    for name, latencies in sorted(load.latencies.items()):
        ordered = sorted(latencies)
        median, tail = statistics.median(ordered), ordered[int(0.95 * len(ordered))]
        print(f"{name}: {len(ordered)} answers; median {median:.2f} s, 95% {tail:.2f} s, most {ordered[-1]:.2f} s")
    for failure, count in Counter(load.failures).most_common(5):
        print(f"failed {count} times: {failure}")
    sys.exit(bool(load.failures) or len(load.latencies) < 2)


if __name__ == "__main__":
    main()
