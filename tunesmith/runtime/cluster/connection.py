"""A connection to a Ray cluster, and whether its nodes can run a stage; every refusal with its reason and fix."""

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tunesmith.core import dvc_store, layout
from tunesmith.core.dvc_store import Store
from tunesmith.core.errors import ClusterError
from tunesmith.runtime.cluster import node_report, plan
from tunesmith.runtime.cluster.node_report import Report
from tunesmith.runtime.settings import Runtime

TOKEN = "RAY_AUTH_TOKEN"
"""The variable with the cluster's token. It is read by Ray alone, and stands in no file of a project."""
CONNECT_SECONDS = 10.0
"""Timeout for a first connection to the cluster."""
PROBE_SECONDS = 60.0
"""Timeout for the nodes' reports."""
STARTING = "docs/cluster.md shows how to start one"


class Capacity(TypedDict):
    """The CPUs and GPUs of a node, in use or not."""

    name: str
    cpus: float
    gpus: float


@contextmanager
def joined(runtime: Runtime, parcel: Path | None) -> Iterator[None]:
    """Stay connected to the cluster while the block runs; when it ends, so does all that it started there.

    parcel: an archive that becomes the working folder of the job's processes. Raises ClusterError where no cluster
    answers, or another version of Ray or Python.
    """
    address = str(runtime.address)
    environment = {"working_dir": str(parcel)} if parcel else {}
    check_port(address)
    try:
        ray.init(
            address=address, runtime_env=environment, namespace="tunesmith", log_to_driver=False, logging_level="ERROR"
        )
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, RpcError: Ray has no class for them
        raise explain(error, address) from None
    try:
        yield
    finally:
        ray.shutdown()


def check_port(address: str) -> None:
    """Raise ClusterError where nothing listens at an address: Ray itself would try for many minutes."""
    host, port = host_port(address)
    if not host or not port.isdecimal():
        return  # such as `auto`
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise explain(error, address) from None


def host_port(address: str) -> tuple[str, str]:
    """The host and the port of an address; empty where it has none."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return host, port


def explain(error: Exception, address: str) -> ClusterError:
    """The error to raise where Ray refused to connect."""
    text = " ".join(str(error).split())[:600]
    lower = text.lower()
    if "version mismatch" in lower or ("versions" in lower and "python" in lower):
        return ClusterError(
            f"the cluster at {address} runs another version: {text}",
            fix=f"install ray=={version('ray')} and Python {node_report.python()} on its nodes, or theirs here",
        )
    if "client connection timeout" in lower or "failed to connect to ray cluster" in lower:
        has = "set here: is it the cluster's?" if os.environ.get(TOKEN) else "not set here"
        return ClusterError(
            f"something listens at {address}, and does not let this machine in: {text}",
            fix=f"Ray does not say whether it wants a token: {TOKEN} is {has}",
        )
    if any(word in lower for word in ("unauthenticated", "authentication", "auth token", "unauthorized")):
        has = "is set here, and is not the cluster's" if os.environ.get(TOKEN) else "is not set here"
        return ClusterError(
            f"the cluster at {address} wants a token, and {TOKEN} {has}",
            fix=f"export {TOKEN} as it was when the nodes started; never write it into params.yaml",
        )
    if "can not find" in lower or "no node" in lower or "not found in the cluster" in lower:
        return ClusterError(
            f"the cluster at {address} answers, and this machine is no node of it: {text}",
            fix="`ray start --address=... --num-cpus=0` here, or give the address of its Ray client: ray://HOST:10001",
        )
    return ClusterError(
        f"no Ray cluster answers at {address} (runtime.address): {text}",
        fix=f"`nc -z {' '.join(host_port(address))}` must work here; {STARTING}",
    )


def describe(runtime: Runtime, root: Path) -> str:
    """Describe the nodes of a cluster, and the store that it shares with this machine.

    Raises ClusterError where it does not answer, is too small or has other versions, or where there is no store.
    """
    address = dvc_store.of_project(root, runtime.shared)
    Store(address, root=root)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, "parcel.zip")
        plan.write(archive, plan.node_files())
        with joined(runtime, archive):
            nodes = check(runtime, runtime.workers)
            has = ray.cluster_resources()
    sizes = f"{has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs"
    return f"{runtime.address} answers: {nodes} nodes, {sizes}, Ray {ray.__version__}; inputs go through {address.url}"


def check(runtime: Runtime, needed: int) -> int:
    """Check that the nodes can run a stage of ``needed`` workers; return how many nodes there are.

    Raises ClusterError where they have too few CPUs or GPUs, or other versions than this machine.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    check_capacity([_capacity(node) for node in alive], needed, runtime)
    check_versions(_reports(alive), node_report.report(), runtime.image)
    return len(alive)


def check_capacity(nodes: Sequence[Capacity], workers: int, runtime: Runtime) -> None:
    """Raise ClusterError where the nodes could never run so many workers at once, even with nothing else to do."""
    cpus, gpus = runtime.worker_cpus, runtime.gpus_per_worker
    fit = sum(int(min(node["cpus"] // cpus, node["gpus"] // gpus if gpus else node["cpus"] // cpus)) for node in nodes)
    if fit >= workers:
        return
    has = "; ".join(f"{node['name']}: {node['cpus']:g} CPUs, {node['gpus']:g} GPUs" for node in nodes) or "none"
    wants = f"{workers} workers of {cpus} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
    raise ClusterError(
        f"the cluster has room for {fit} workers, and the stage wants {wants} (its nodes: {has})",
        fix="lower runtime.workers, runtime.cpus or runtime.gpus_per_worker, or add nodes: those that an autoscaler "
        "would add count once they are there",
    )


def check_versions(nodes: Sequence[Report], here: Report, image: str | None) -> None:
    """Raise ClusterError where a node has another Python, Ray or Tunesmith than this machine, or runs another image."""
    for node in nodes:
        for name in ("python", "ray", "tunesmith"):
            theirs, ours = node[name], here[name]
            if theirs != ours and not (name == "tunesmith" and theirs is None):  # whose code travels, if need be
                raise ClusterError(
                    f"node {node['name']} has {name} {theirs or 'not installed'}, and this machine has {ours}",
                    fix=f"install the same on all: pip install 'tunesmith[all,ray]=={here['tunesmith']}'",
                )
        if image is not None and node["image"] != image:
            says = f"says that it runs in {node['image']}" if node["image"] else "does not say which image it runs in"
            raise ClusterError(
                f"params.yaml: runtime.image is {image}, and node {node['name']} {says}",
                fix=f"start its container from that image, with {layout.IMAGE_DIGEST_VARIABLE} set to that digest",
            )


def _reports(nodes: Sequence[dict[str, Any]]) -> list[Report]:
    """What each node says of itself. Raises ClusterError where one does not answer."""
    probe: Any = ray.remote(node_report.report)
    pending = [
        probe.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    ]
    try:
        found: list[Report] = ray.get(pending, timeout=PROBE_SECONDS)
    except (RayError, ImportError) as error:
        raise ClusterError(
            f"a node of the cluster cannot run Tunesmith: {' '.join(str(error).split())[-600:]}",
            fix=f"install it there: pip install 'tunesmith[all,ray]=={version('tunesmith')}'",
        ) from None
    return [{**each, "name": str(node["NodeManagerAddress"])} for each, node in zip(found, nodes, strict=True)]


def _capacity(node: dict[str, Any]) -> Capacity:
    has = node["Resources"]
    return {"name": node["NodeManagerAddress"], "cpus": has.get("CPU", 0.0), "gpus": has.get("GPU", 0.0)}
