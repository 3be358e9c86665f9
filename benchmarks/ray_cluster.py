"""Run a project's stages on two Ray nodes of this machine, kill what works for them, and print what came out.

    python -m benchmarks.ray_cluster [--kills 10] [--nodes-lost 2] [--drivers-killed 1] [--workers 1] TARGET...

in a project with a DVC remote whose params.yaml has no `runtime`, which is put back in the end. First every TARGET runs
here and on the cluster, and the digests of their outputs are compared. Then the first TARGET, a training, runs again as
often as is asked, each time with a process of it, a node or `dvc` killed at a random moment.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from ray.cluster_utils import Cluster

from tunesmith.core import manifest
from tunesmith.core.layout import RERUN_VARIABLE

PARAMS = Path("params.yaml")
PORT = 6399
OTHERS = ("127.0.0.2", "127.0.0.3")
"""The addresses of the two nodes that work. The head has the machine's own, so that `dvc` is on it, and only keeps the
books: a node that is killed must not be the one through which `dvc` speaks.
"""
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 150 * 2**20}
AFTER_SECONDS = 5.0
"""Time after `dvc` is killed at which no process of the job may be left."""
STAGE, WORKER = r"-m stages\.train_", r"ray::RayTrainWorker"
"""What the processes of a training have in their command lines: the stage, and Ray's worker that started it."""
MARK = "TUNESMITH_BENCHMARK"
"""A variable with this process's ID, by which those that it started are known: no other may be killed."""
JOB = r"ray::(RayTrainWorker|TrainController|Desk|fit|run|_part|Checker)|-m stages\.\w+|tunesmith\.runtime "
"""What the processes of a job have in their command lines."""


def main(
    targets: list[str], kills: int, nodes_lost: int, drivers_killed: int, workers: int, longest: float, seed: int
) -> bool:
    generator, before = random.Random(seed), PARAMS.read_text()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    os.environ[MARK] = str(os.getpid())
    os.environ.setdefault("TUNESMITH_NODE_CACHE", str(Path(".dvc/tmp/node-cache").absolute()))
    head = {"gcs_server_port": PORT, "include_dashboard": False, "num_cpus": 0}
    cluster = Cluster(initialize_head=True, head_node_args=NODE | head)
    others = [cluster.add_node(**NODE, node_ip_address=address) for address in OTHERS]
    try:
        expected, seconds = {}, {}
        for target in targets:
            with runtime(before, engine="host", cpus=1):
                began = time.monotonic()
                repro(target, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
                expected[target], seconds[target] = outputs(target), time.monotonic() - began
        good = True
        with runtime(before, engine="ray", address=f"127.0.0.1:{PORT}", workers=workers, restarts=9):
            for target in targets:
                began = time.monotonic()
                text = repro(target)
                equal = outputs(target) == expected[target]
                good = good and equal
                here = f"{seconds[target]:.0f} s here"
                print(f"{target}: {time.monotonic() - began:.0f} s, {here}; outputs {verdict(equal)}", flush=True)
                print(*re.findall(r"  ray: .*", text), sep="\n", flush=True)
            plan = ["process"] * kills + ["node"] * nodes_lost + ["dvc"] * drivers_killed
            for number, what in enumerate(plan):
                said, again = killed(targets[0], what, generator, longest, cluster, others)
                others = [node for node in others if node in cluster.worker_nodes]
                lost = set(OTHERS) - {node.node_ip_address for node in others}
                others += [cluster.add_node(**NODE, node_ip_address=address) for address in lost]
                equal = outputs(targets[0]) == expected[targets[0]]
                good = good and equal and "left" not in said and "FAILED" not in again
                weights = "of the run before" if "FAILED" in again else verdict(equal)
                print(f"{number + 1}: {said}; then {again}; weights {weights}", flush=True)
        return good
    finally:
        PARAMS.write_text(before)
        cluster.shutdown()


@contextmanager
def runtime(before: str, **values: object) -> Iterator[None]:
    """Give params.yaml a section `runtime` while the block runs."""
    section = {"checkpoint_minutes": 0.03, **values}
    PARAMS.write_text(yaml.safe_dump(yaml.safe_load(before) | {"runtime": section}, sort_keys=False))
    yield
    PARAMS.write_text(before)


def start(target: str) -> "subprocess.Popen[str]":
    """Start a stage, whatever earlier run there is."""
    for early in ("fingerprint", "resolve_params"):
        subprocess.run(["dvc", "repro", "-q", early], check=True)
    return subprocess.Popen(
        ["dvc", "repro", "--force", "--single-item", target],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {RERUN_VARIABLE: "1"},
        start_new_session=True,
    )


def repro(target: str, **variables: str) -> str:
    """Run a stage to its end, and return what it printed."""
    os.environ |= variables
    with start(target) as process:
        text, _ = process.communicate()
    for name in variables:
        del os.environ[name]
    if process.returncode:
        sys.exit(text)
    return text


def killed(
    target: str, what: str, generator: random.Random, longest: float, cluster: Any, others: list[Any]
) -> tuple[str, str]:
    """Run a training, kill something of it within ``longest`` seconds of its start, and let it end; return what was
    killed, and how it went on.
    """
    process = start(target)
    while not processes(STAGE):
        time.sleep(0.1)
    wait = generator.uniform(4, longest)
    time.sleep(wait)
    at = f"{wait:.0f} s after the stage began"
    if what == "dvc":
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        time.sleep(AFTER_SECONDS)
        left = processes(JOB)
        found = f"{len(left)} processes left: {left}" if left else "none of its processes there"
        return f"`dvc` killed {at}: {AFTER_SECONDS:.0f} s later {found}", summary(repro(target))
    if what == "node":
        workspace = Path(f"/proc/{processes(STAGE)[0]}/cwd").readlink().name  # ends with the ID of its node
        (its,) = (node for node in others if workspace.endswith(node.node_id[:12]))
        cluster.remove_node(its, allow_graceful=False)
        said = f"its node killed {at}"
    else:
        kind = generator.choice(["stage", "worker"])
        said = f"it had ended {at}"
        for victim in processes(STAGE if kind == "stage" else WORKER):
            said = f"the {kind} killed {at}"
            os.kill(victim, signal.SIGKILL)
    text, _ = process.communicate()
    return said, summary(text) if process.returncode == 0 else f"FAILED: {text[-2000:]}"


def summary(text: str) -> str:
    """How a training went on, from what it printed."""
    steps = re.findall(r"going on from the checkpoint of step (\d+)", text)
    again = re.findall(r"started again (once|\d+ times)", text)
    return f"started again {again[0]}, from step {' and '.join(steps) or '0'}" if again else f"from step {steps or 0}"


def outputs(target: str) -> str:
    """The digest of a training's weights, of an evaluation's answers, or of a data set's rows."""
    stage, _, name = target.partition("@")
    if stage == "prepare_data":
        return "-".join(manifest.file_digest(path) for path in sorted(Path("data/ready", name).glob("*.jsonl")))
    if stage == "evaluate":
        return "-".join(
            manifest.file_digest(path) for path in sorted(Path("reports/evaluation").rglob("samples.jsonl"))
        )
    return manifest.read(Path("models", name)).weights_digest


def processes(pattern: str) -> list[int]:
    """The IDs of processes that this one started, directly or through Ray, whose command line has a pattern."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_text().replace("\0", " ")
            is_ours = f"{MARK}={os.getpid()}" in (path / "environ").read_text().split("\0")
        except (OSError, UnicodeDecodeError):  # gone, or somebody else's
            continue
        if is_ours and re.search(pattern, line) and "tied.py" not in line:
            found.append(int(path.name))
    return found


def verdict(equal: bool) -> str:
    return "equal" if equal else "DIFFER"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--nodes-lost", type=int, default=0)
    parser.add_argument("--drivers-killed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--longest", type=float, default=18, help="seconds into a training, at most, that it is killed")
    parser.add_argument("--seed", type=int, default=21)
    arguments = parser.parse_args()
    sys.exit(
        not main(
            arguments.targets,
            arguments.kills,
            arguments.nodes_lost,
            arguments.drivers_killed,
            arguments.workers,
            arguments.longest,
            arguments.seed,
        )
    )
