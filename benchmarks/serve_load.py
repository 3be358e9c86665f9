"""Well-formed and hostile requests to one server: is every well-formed one answered, and does memory stay flat?

    python -m benchmarks.serve_load [--seconds 300] [--clients 4] [--attackers 2] [--only KIND ...]
    python -m benchmarks.serve_load --url http://127.0.0.1:8000 [--pid PID_OF_THE_SERVER]

Without --url, `tunesmith serve` runs in a project of its own, with a tiny random model that is registered there first,
on transformers' engine and loopback; nothing is downloaded. `benchmarks/hostile_requests.py` lists the hostile kinds
and the answer that each must get. Clients send well-formed requests without pause; attackers send the hostile kinds in
turn, and pause between two of them, so that the load stays bounded. Meanwhile, once a second, the memory of the server
and of its engine is read, and /health is asked.

Fails where a well-formed request is not answered, a hostile one gets another answer than it must, /health misses, or
memory grows by more than GROWTH.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.hostile_requests import KINDS, Target

TUNESMITH = str(Path(sys.executable).with_name("tunesmith"))
GROWTH = 32 << 20
"""Bytes by which a process may grow from the third fifth of the time to the last: allocators keep some."""
PAUSE = 0.2
"""Seconds between two hostile requests of an attacker."""
HEALTH_TIMEOUT = 10.0
"""Seconds after which /health counts as missed."""
PROMPTS = [[{"role": "user", "content": f"What is {number} + {number}?"}] for number in range(40)]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
WELL_FORMED: dict[str, dict[str, Any]] = {
    "chat": {"max_tokens": 8, "temperature": 0},
    "stream": {"max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}},
    "sampled": {"max_tokens": 16, "temperature": 1.5, "top_p": 0.9, "seed": 7, "user": "me", "n": 1},
    "stop": {"max_tokens": 16, "stop": ["1", "2", "3", "4"]},
    "tools": {"max_completion_tokens": 8, "tools": [TOOL], "tool_choice": "auto"},
    "long answer": {"max_tokens": 200, "temperature": 0, "stream": True},
    "completion": {"prompt": "1 + 1 =", "max_tokens": 8},
}
"""Requests that must be answered. Those without a prompt are chats."""


@dataclass
class Processes:
    """The server and its engine. samples: their resident bytes, once a second."""

    pids: dict[str, int]
    samples: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def read(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        for name, pid in self.pids.items():
            self.samples[name].append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page)

    def medians(self, name: str) -> list[int]:
        """Return the median of each fifth of the time."""
        samples, fifth = self.samples[name], max(1, len(self.samples[name]) // 5)
        return [int(statistics.median(samples[start : start + fifth])) for start in range(0, 5 * fifth, fifth)]

    def growth(self, name: str) -> int:
        """Return the bytes by which the last fifth is above the third; by then, every kind has come several times."""
        medians = self.medians(name)
        return medians[-1] - medians[2]


@dataclass
class Outcomes:
    """What the requests got. latencies: in seconds, of well-formed requests and of /health."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[str] = field(default_factory=Counter)
    hostile: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    health: Counter[str] = field(default_factory=Counter)


class Load:
    """Clients, attackers and the observer, which end at ``until``, in the time of `time.monotonic`."""

    def __init__(self, url: str, kinds: list[str], processes: Processes, seconds: float) -> None:
        self.url, self.kinds, self.processes = url, kinds, processes
        self.until = time.monotonic() + seconds
        self.outcomes = Outcomes()

    async def run(self, clients: int, attackers: int) -> None:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=self.url, timeout=600, trust_env=False, limits=limits) as client:
            await asyncio.gather(
                *(self.ask(client, number) for number in range(clients)),
                *(self.attack(client, number) for number in range(attackers)),
                self.observe(client),
            )

    async def ask(self, client: httpx2.AsyncClient, number: int) -> None:
        names = list(WELL_FORMED)
        while time.monotonic() < self.until:
            name, prompt = names[number % len(names)], PROMPTS[number % len(PROMPTS)]
            began = time.monotonic()
            try:
                await answered(client, WELL_FORMED[name], prompt)
            except Exception as error:  # of any kind: a request failed
                self.outcomes.failures[f"{name}: {error!r}"[:300]] += 1
            else:
                self.outcomes.latencies[name].append(time.monotonic() - began)
            number += 1

    async def attack(self, client: httpx2.AsyncClient, number: int) -> None:
        left = {name: KINDS[name].most for name in self.kinds}
        target = Target(self.url, client)
        for turn in range(number, sys.maxsize):
            if time.monotonic() > self.until:
                return
            name = self.kinds[turn % len(self.kinds)]
            if left[name] > 0:
                left[name] -= 1
                try:
                    got = await KINDS[name].send(target)
                except (OSError, httpx2.HTTPError) as error:
                    got = type(error).__name__
                self.outcomes.hostile[name][got] += 1
            await asyncio.sleep(PAUSE)

    async def observe(self, client: httpx2.AsyncClient) -> None:
        while time.monotonic() < self.until:
            self.processes.read()
            began = time.monotonic()
            try:
                reply = await client.get("/health", timeout=HEALTH_TIMEOUT)
                self.outcomes.health[str(reply.json()["status"])] += 1
            except (httpx2.HTTPError, ValueError, LookupError) as error:
                self.outcomes.health[type(error).__name__] += 1
            self.outcomes.latencies["/health"].append(time.monotonic() - began)
            await asyncio.sleep(1)


async def answered(client: httpx2.AsyncClient, request: dict[str, Any], prompt: Any) -> None:
    """Send a well-formed request. Raises where it is not answered to its end."""
    route = "/v1/completions" if "prompt" in request else "/v1/chat/completions"
    body = request if "prompt" in request else request | {"messages": prompt}
    reply = await client.post(route, json=body)
    if reply.status_code != 200:
        raise RuntimeError(f"{reply.status_code}: {reply.text[:200]}")
    events = reply.text.split("data:")[1:] if body.get("stream") else [reply.text]
    choices = [choice for event in events if "[DONE]" not in event for choice in json.loads(event).get("choices", [])]
    if not any(choice.get("finish_reason") for choice in choices):
        raise RuntimeError(f"cut off: {reply.text[-200:]}")


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """Register and serve a tiny random model in a project of its own; yield the address and the server's process."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-load-") as name:
        folder = Path(name)
        homes = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "CACHE", "STATE")}
        os.environ |= homes | {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        here = Path.cwd()
        os.chdir(folder)
        try:
            version = register()
            command = [TUNESMITH, "serve", version, "--port", "0"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                assert process.stdout
                line = process.stdout.readline()
                if "/v1 serves " not in line:
                    sys.exit(f"`tunesmith serve` did not start: {line}")
                yield line.partition("/v1 ")[0], process.pid
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()
        finally:
            os.chdir(here)


def register() -> str:
    """Register full random weights with their own greedy answers as probes; return the number of the version."""
    from tests import adapters, conftest, registered_versions
    from tunesmith.core import manifest
    from tunesmith.models.base import base_model
    from tunesmith.models.base_sources import Folder
    from tunesmith.registry.registered_models import Registry
    from tunesmith.serving import probes

    Path("params.yaml").write_text(
        "registry: {experiment: arithmetic, model: calculator}\nserve: {engine: transformers}\n"
    )
    tokenizer = conftest.make_tokenizer()
    tokenizer.save_pretrained("tiny")
    conftest.make_model(len(tokenizer)).save_pretrained("tiny")
    source = Folder(kind="folder", path=Path("tiny"), sha256=manifest.folder_digest(Path("tiny")), chat_template=None)
    base = Path("models/base")
    base_model.fetch(source, base)
    model = adapters.write_full(Path("models/sft-full"), base)
    own, of_base = (adapters.samples(folder, base, PROMPTS, {"sums": {}}) for folder in (model, base))
    again = [sample | {"time": 1} for sample in of_base]
    chosen = probes.choose("sft-full", own, of_base, again, count=8, dtype="float32")
    Registry.creates_database = True
    return registered_versions.register(Registry(), model, files={probes.NAME: json.dumps(chosen)})


def engine_of(server: int) -> dict[str, int]:
    """Return the process of the server's engine, its only child, if it is there."""
    children = [
        int(pid) for task in Path(f"/proc/{server}/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    return {"engine": children[0]} if children else {}


def report(load: Load, seconds: float) -> bool:
    """Print what happened. Returns whether all is well."""
    outcomes, well = load.outcomes, load.outcomes.latencies
    names = [name for name in well if name != "/health"]
    good, failed = sum(len(well[name]) for name in names), outcomes.failures.total()
    print(f"{good + failed} well-formed requests in {seconds:.0f} s, {good} answered; load {os.getloadavg()[0]:.1f}")
    for name in [*names, "/health"]:
        ordered = sorted(well[name])
        tail = ordered[int(0.95 * len(ordered))]
        median = statistics.median(ordered)
        print(f"  {name}: {len(ordered)}, median {median:.2f} s, 95% {tail:.2f} s, most {ordered[-1]:.2f} s")
    for failure, count in outcomes.failures.most_common(10):
        print(f"  failed {count} times: {failure}")
    wrong = 0
    for kind, answers in sorted(outcomes.hostile.items()):
        unexpected = {got: count for got, count in answers.items() if got not in KINDS[kind].answers}
        wrong += sum(unexpected.values())
        print(f"hostile, {kind}: {dict(answers)}{' NOT AS IT MUST BE' if unexpected else ''}")
    print(f"/health: {dict(outcomes.health)}")
    flat = True
    for name, samples in load.processes.samples.items():
        flat &= load.processes.growth(name) <= GROWTH
        medians = ", ".join(f"{size / 1e6:.0f}" for size in load.processes.medians(name))
        start, end, most = (f"{size / 1e6:.0f}" for size in (samples[0], samples[-1], max(samples)))
        print(f"{name}: {start} MB at the start, {end} at the end, {most} at most; medians of fifths {medians}")
    return not failed and not wrong and flat and set(outcomes.health) == {"serving"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", help="a server that runs; by default one is started")
    parser.add_argument("--pid", type=int, help="its process, where its memory is to be read")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--attackers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=list(KINDS), help="hostile kinds")
    options = parser.parse_args()

    def attack(url: str, server: int | None) -> bool:
        processes = Processes({"server": server, **engine_of(server)} if server else {})
        load = Load(url, options.only, processes, options.seconds)
        began = time.monotonic()
        asyncio.run(load.run(options.clients, options.attackers))
        return report(load, time.monotonic() - began)

    if options.url:
        sys.exit(not attack(options.url.rstrip("/"), options.pid))
    with serving() as (url, server):
        well = attack(url, server)
    sys.exit(not well)


if __name__ == "__main__":
    main()
