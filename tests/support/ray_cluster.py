"""Runs a Ray cluster of several nodes on this machine, in the environment of deploy/ray, by commands on stdin.

Usage: ray_cluster.py OPTIONS, as JSON: `command`, `flags` and `environment` of the servers, `min_replicas`,
`max_replicas`, `node_count`, and `proxy` (port of Ray's gRPC proxy, or 0). Each command is a line, and each answer
a line of JSON: `servers`, `kill NODE_ID`, `stop`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.config import gRPCOptions

from ferserve_ray.deployment import application
from ferserve_ray.discovery import servers
from ferserve_ray.proxied import SERVICERS, ProxiedReplica
from ferserve_ray.server import ServerOptions

PACE = {
    "upscale_delay_s": 2.0,
    "downscale_delay_s": 4.0,
    "metrics_interval_s": 0.5,
    "look_back_period_s": 2.0,
}


def start(options: dict[str, Any]) -> Cluster:
    """Starts the nodes and the application; each node has room for two replicas, the head for none."""
    memory = 80 * 2**20
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": memory, "include_dashboard": False},
    )
    for _ in range(options["node_count"]):
        cluster.add_node(num_cpus=2, object_store_memory=memory)
    cluster.wait_for_nodes()
    ray.init(cluster.address, log_to_driver=False)
    grpc_options = (
        gRPCOptions(port=options["proxy"], grpc_servicer_functions=SERVICERS) if options["proxy"] else None
    )
    serve.start(proxy_location="HeadOnly" if options["proxy"] else "Disabled", grpc_options=grpc_options)
    server = ServerOptions(tuple(options["command"]), tuple(options["flags"]), options["environment"])
    serve.run(
        application(
            server,
            min_replicas=options["min_replicas"],
            max_replicas=options["max_replicas"],
            replica=ProxiedReplica,
            autoscaling=PACE,
        ),
        name="ferserve",
        route_prefix="/ferserve",
    )
    return cluster


def main() -> None:
    """Starts, and obeys until `stop` or the end of stdin."""
    cluster = start(json.loads(sys.argv[1]))
    _tell("ready")
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "servers":
            _tell([asdict(each) for each in servers()])
        elif command == "kill":
            (node,) = [each for each in cluster.worker_nodes if each.node_id == argument]
            cluster.remove_node(node, allow_graceful=False)
            _tell("killed")
        elif command == "stop":
            break
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()
    _tell("stopped")


def _tell(answer: object) -> None:
    print("@" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
