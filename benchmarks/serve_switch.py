"""Requests while the model behind them changes: none may fail, and no second copy of the base may be loaded.

    python -m benchmarks.serve_switch [--first sft-lora] [--second dpo] [--clients 4] [--seconds 60]

Needs two registered models (`dvc repro`); on a machine with a GPU the command is the same. The alias `benchmark`
moves, so that no champion changes: the first model is promoted to it, `tunesmith serve @benchmark` serves it, and
clients of the `openai` package send requests without pause, every third one for a stream. After a third of the time the
second model is promoted. The clients go on for --seconds, and until the second has served for a while. Each reply names
the model that answered. The switch takes the time between two lines of the server's log: that it saw the promotion, and
that the second model answers new requests; a poll of up to serve.poll_seconds comes before it.

Memory is that of the engines: of all processes that the server started, the proportional share of what they hold (PSS),
and what nvidia-smi says of them, where there is a GPU. Its peak during the switch is compared with the peak before.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core import params
from tunesmith.core.errors import RegistryError
from tunesmith.registry import promotion
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Settings
from tunesmith.registry.tracker import Names

ALIAS, ROWS, TOKENS = "benchmark", Path("data/ready/demo/test.jsonl"), 16
AFTER = 10.0
"""The least time, in seconds, that the second model serves."""
PATIENCE = 300.0
"""Timeout, in seconds beyond --seconds, of the wait for the second model."""
SAMPLING = 0.25
"""Seconds between two measurements of memory."""
MIB = 2**20
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


class Memory:
    """The most memory that the engines of a server took, in bytes: of the machine and of GPUs, since the last reset."""

    def __init__(self, server: int) -> None:
        self.server, self.over = server, threading.Event()
        self.reset()

    def reset(self) -> None:
        self.machine = self.gpus = 0

    def watch(self) -> None:
        """Measure until it is over."""
        while not self.over.wait(SAMPLING):
            engines = descendants(self.server)
            self.machine = max(self.machine, sum(map(share, engines)))
            self.gpus = max(self.gpus, on_gpus(engines))

    def __str__(self) -> str:
        gpus = f", of GPUs {self.gpus / MIB:,.0f} MiB" if self.gpus else ""
        return f"{self.machine / MIB:,.0f} MiB{gpus}"


def descendants(process: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*"):
        with suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def share(process: int) -> int:
    """The proportional share of the memory that a process holds, in bytes; 0 for one that is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def on_gpus(processes: list[int]) -> int:
    """The memory of GPUs that processes hold, in bytes; 0 without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return 0
    ask = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    lines = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.splitlines()
    used = [line.split(", ") for line in lines]
    return MIB * sum(int(size) for process, size in used if int(process) in processes and size.isdigit())


@dataclass
class Server:
    """`tunesmith serve`: its address, the registered model, its process, and the lines of its log with their times."""

    url: str
    model: str
    process: int
    log: list[tuple[float, str]]

    def when(self, begin: str, after: float) -> float | None:
        """The time at which the log first had a line with this beginning after a time."""
        return next((time for time, line in self.log if time > after and line.startswith(begin)), None)


@contextmanager
def serving() -> Iterator[Server]:
    """Serve the alias while the block runs."""
    command = [TUNESMITH, "serve", f"@{ALIAS}", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log: list[tuple[float, str]] = []

    def read() -> None:
        for line in process.stderr or ():
            log.append((time.monotonic(), line))
            print(f"    {line}", end="", flush=True)

    threading.Thread(target=read, daemon=True).start()
    try:
        assert process.stdout
        began, line = time.monotonic(), process.stdout.readline()
        match = re.match(r"(\S+)/v1 serves (\S+) ", line)
        if match is None:
            sys.exit(f"`tunesmith serve` did not start: {line}")
        print(f"{line.strip()}, {time.monotonic() - began:.0f} s after it was started", flush=True)
        yield Server(match[1], match[2], process.pid, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def promote(which: str) -> None:
    """Promote a version without its own probe, which would start a further engine while the switch is measured."""
    names, signing = params.load(Names, "registry"), params.load(Settings, "signing").root
    try:
        promotion.promote(
            Registry(), names.model, which, signing=signing, probe=lambda _: None, alias=ALIAS, reason="a benchmark"
        )
    except RegistryError as error:
        if "already" not in error.reason:
            raise


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", default="sft-lora")
    parser.add_argument("--second", default="dpo")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    promote(options.first)
    with serving() as server:
        load, memory = Load(server.url, server.model), Memory(server.process)
        threads = [threading.Thread(target=load.client, args=(number,)) for number in range(options.clients)]
        threads.append(threading.Thread(target=memory.watch))
        began = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            changes = run(server, load, memory, options.second, options.seconds, began)
        finally:
            load.over.set()
            memory.over.set()
        for thread in threads:
            thread.join()
        report(load, changes, time.monotonic() - began)


def run(server: Server, load: Load, memory: Memory, second: str, seconds: float, began: float) -> list[str]:
    """Promote the second model, wait until it has served, and return the timing and the memory in words."""
    time.sleep(seconds / 3)
    before, start, alone, alone_bytes = set(load.latencies), time.monotonic(), str(memory), memory.machine
    promote(second)
    promoted = time.monotonic()
    memory.reset()
    while not (new := set(load.latencies) - before) and time.monotonic() < began + seconds + PATIENCE:
        time.sleep(0.1)
    served = time.monotonic()
    time.sleep(max(AFTER, began + seconds - served))
    seen, switched = (server.when(line, start) for line in ("new champion", "serving version"))
    took = f"{switched - seen:.1f} s" if seen and switched else "nobody knows how long"
    return [
        f"promoted after {start - began:.0f} s, which took {promoted - start:.1f} s",
        f"the switch took {took}; {next(iter(new), 'nobody')} answers {served - promoted:.1f} s after the promotion",
        f"engines' memory at its peak: {alone} with one model, {memory} during the switch and after: "
        f"{memory.machine / alone_bytes:.2f} times",
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
