"""Finds the servers of a cluster, for clients and proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ray

from ferserve_ray.registry import Registry

if TYPE_CHECKING:
    from ferserve_ray.registry import Registration

NAMESPACE: Final = "ferserve"


def registry(name: str) -> ray.actor.ActorHandle:
    """Returns the registry of an application; the first one that asks starts it.

    It needs no processor of its own, survives those that use it, and is started again if its node is lost.
    """
    remote = ray.remote(Registry).options(
        name=f"registry-{name}",
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        max_task_retries=3,
        num_cpus=0,
    )
    return remote.remote()


def servers(name: str = "ferserve") -> list[Registration]:
    """Returns the servers of an application that answer calls, from anywhere in the cluster."""
    found: list[Registration] = ray.get(registry(name).servers.remote(), timeout=30.0)
    return found


def addresses(name: str = "ferserve") -> list[str]:
    """Returns HOST:PORT of each server that answers calls: the target of `EmotionClient`."""
    return [each.address for each in servers(name)]
