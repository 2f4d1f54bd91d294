"""Serves with Ray Serve: every replica keeps a whole `ferserve-server`, which clients call directly."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from ferserve_ray.autoscaling import QUEUE_AGE
from ferserve_ray.discovery import registry
from ferserve_ray.registry import HEARTBEAT_S, Registration
from ferserve_ray.server import Server, ServerOptions

if TYPE_CHECKING:
    from ray.serve import Application


class Replica:
    """Starts, heals, registers and drains one server. Ray Serve makes one per replica."""

    def __init__(self, name: str, options: ServerOptions) -> None:
        """Starts the server and waits until it is ready.

        Args:
            name: Name of the application, under which servers are found.
            options: How the server is started.

        Raises:
            TimeoutError: It was not ready in time.
        """
        self._options = options
        self._registry = registry(name)
        self._id = serve.get_replica_context().replica_id.unique_id
        self._node_id = ray.get_runtime_context().get_node_id()
        self._stopping = threading.Event()
        self.server = Server(options, ray.util.get_node_ip_address())
        self.server.wait_ready()
        self._report()
        self._heartbeat = threading.Thread(target=self._report_on, name="heartbeat", daemon=True)
        self._heartbeat.start()

    def check_health(self) -> None:
        """Fails if the server was not ready for long; Ray Serve replaces the replica then.

        A server that has crashed is started again by this replica, on the same address, which takes less long.

        Raises:
            RuntimeError: It was not ready for `unready_timeout_s`.
        """
        if not self.server.is_ready() and self.server.unready_s() > self._options.unready_timeout_s:
            raise RuntimeError(f"the server was not ready for {self.server.unready_s():.0f} s")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Returns what `autoscaling.by_queue_age` decides by."""
        return {QUEUE_AGE: self.server.queue_age_s()}

    def __call__(self) -> str:
        """Returns HOST:PORT of the server."""
        return self.server.address

    def __del__(self) -> None:
        """Leaves the registry, drains the server and waits for its end."""
        if not hasattr(self, "server"):
            return
        self._stopping.set()
        ray.get(self._registry.report.remote(self._id, None), timeout=10.0)
        self.server.stop()

    def _report(self) -> None:
        pid = self.server.pid
        registration = None
        if pid is not None and self.server.is_ready():
            age_s = self.server.queue_age_s()
            registration = Registration(self.server.address, self._node_id, pid, self.server.start_count, age_s)
        if not self._stopping.is_set():
            ray.get(self._registry.report.remote(self._id, registration), timeout=10.0)

    def _report_on(self) -> None:
        while not self._stopping.wait(HEARTBEAT_S):
            try:
                self._report()
            except ray.exceptions.RayError:  # the registry is being moved; the next heartbeat finds it
                continue


def application(  # noqa: PLR0913 - named fields of a deployment
    options: ServerOptions,
    *,
    name: str = "ferserve",
    min_replicas: int = 1,
    max_replicas: int = 1,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    replica: type = Replica,
    autoscaling: dict[str, Any] | None = None,
) -> Application:
    """Returns an application for `serve.run`.

    Args:
        options: How the server of each replica is started.
        name: Name under which its servers are found; see `discovery.addresses`.
        min_replicas: Least number of servers.
        max_replicas: Greatest number of servers; the age of their queues decides between the two.
        num_cpus: Processors that Ray keeps for each.
        num_gpus: GPUs that Ray keeps for each, and shows to it.
        replica: The class of the replicas; `proxied.ProxiedReplica` answers calls through Ray's proxy too.
        autoscaling: Further fields of Ray's AutoscalingConfig, such as `upscale_delay_s`.
    """
    deployment = serve.deployment(
        replica,
        name=name,
        ray_actor_options={"num_cpus": num_cpus, "num_gpus": num_gpus},
        # The server has stopped by then, or is killed.
        graceful_shutdown_timeout_s=options.stop_timeout_s + 15.0,
        health_check_period_s=2.0,
        autoscaling_config=AutoscalingConfig(
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            policy=AutoscalingPolicy(policy_function="ferserve_ray.autoscaling:by_queue_age"),
            **(autoscaling or {}),
        ),
    )
    return deployment.bind(name, options)
