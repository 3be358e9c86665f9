"""Two nodes of a Ray cluster on this machine, of one CPU each: python tests/ray_nodes.py PORT, until it is ended."""

import signal
import sys
import time

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 150 * 2**20}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    head = NODE | {"gcs_server_port": int(sys.argv[1]), "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(**NODE)
        print("started", flush=True)
        while True:
            time.sleep(1)
    finally:
        cluster.shutdown()
