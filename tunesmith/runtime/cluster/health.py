"""Check that a cluster answers and could run the stages of a project, for `tunesmith doctor`."""

import tempfile
from pathlib import Path

import ray

from tunesmith.core import dvc_store
from tunesmith.core.dvc_store import Store
from tunesmith.runtime.cluster import connection, parcel
from tunesmith.runtime.settings import Runtime


def describe(runtime: Runtime, root: Path) -> str:
    """Describe the nodes of a cluster, and the store that it shares with this machine.

    Raises ClusterError where it does not answer, is too small or has other versions, or where there is no store.
    """
    address = dvc_store.of_project(root, runtime.shared)
    Store(address, root=root)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, "parcel.zip")
        parcel.write(archive, parcel.node_files())
        with connection.joined(runtime, archive):
            nodes = connection.check(runtime, runtime.workers)
            has = ray.cluster_resources()
    sizes = f"{has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs"
    return f"{runtime.address} answers: {nodes} nodes, {sizes}, Ray {ray.__version__}; inputs go through {address.url}"
