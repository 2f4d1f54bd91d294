"""Runs the real Envoy on the project's configuration, before servers on loopback addresses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

CONFIGURATION = Path(__file__).resolve().parents[1] / "deploy" / "envoy" / "envoy.yaml"

START_S = 30.0
"""Longest start: one takes half a second on an idle core."""

ENVOY = Path(sys.executable).with_name("envoy")


class Envoy:
    """Runs the proxy until the block is left, on a free port.

    Attributes:
        address: HOST:PORT for gRPC and gRPC-Web.
    """

    def __init__(self, servers: Sequence[str], folder: Path, *, origin: str | None = None) -> None:
        """Notes what to start.

        Args:
            servers: HOST:PORT of each server.
            folder: Where its files go.
            origin: The one origin of pages that may call; None leaves that of the file.
        """
        self._folder = folder
        self._admin = folder / "envoy-admin"
        configuration = yaml.safe_load(CONFIGURATION.read_text())
        for at in (configuration["admin"], configuration["static_resources"]["listeners"][0]):
            at["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": 0}
        cluster = configuration["static_resources"]["clusters"][0]
        endpoints = [_endpoint(*server.rsplit(":", 1)) for server in servers]
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
        if origin is not None:
            (filters,) = configuration["static_resources"]["listeners"][0]["filter_chains"]
            (host,) = filters["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
            cors = host["typed_per_filter_config"]["envoy.filters.http.cors"]
            cors["allow_origin_string_match"] = [{"exact": origin}]
        self._path = folder / "envoy.yaml"
        self._path.write_text(yaml.safe_dump(configuration))

    def __enter__(self) -> Self:
        command = [ENVOY, "-c", self._path, "--admin-address-path", self._admin, "--use-dynamic-base-id"]
        self._log = (self._folder / "envoy.log").open("wb")
        self._process = subprocess.Popen(
            [str(part) for part in command] + ["--concurrency", "1", "--log-level", "warning"],
            stdout=self._log,
            stderr=self._log,
        )
        try:
            self.wait_until(lambda: self._admin.exists() and self._admin.read_text() != "", "has an admin address")
            self.wait_until(lambda: bool(self._listeners()), "listens")
            bound = self._listeners()[0]["local_address"]["socket_address"]
            self.address = f"{bound['address']}:{bound['port_value']}"
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def counter(self, name: str) -> int:
        """Returns a statistic of the servers' cluster, such as `upstream_rq_retry`."""
        full = f"cluster.ferserve.{name}"
        lines = self._ask(f"/stats?filter=^{full.replace('.', '[.]')}$").splitlines()
        return int(lines[0].rpartition(":")[2])

    def in_rotation(self) -> set[str]:
        """Returns HOST:PORT of the servers that calls are sent to."""
        failing = {"failed_active_health_check", "failed_outlier_check"}
        return {_address_of(host) for host in self._hosts() if not host["health_status"].keys() & failing}

    def wait_for_servers(self, servers: Sequence[str]) -> None:
        """Waits until calls are sent to exactly these."""
        self.wait_until(lambda: self.in_rotation() == set(servers), f"sends calls to {', '.join(servers)}")

    def calls_to(self, server: str) -> int:
        """Returns the number of calls that were sent to a server so far."""
        found = [
            int(stat.get("value", 0))
            for host in self._hosts()
            for stat in host["stats"]
            if _address_of(host) == server and stat["name"] == "rq_total"
        ]
        return sum(found)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for a condition; fails with the log if the proxy ends or takes longer than `START_S`."""
        give_up_at = time.monotonic() + START_S
        while not condition():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > give_up_at:
                log = (self._folder / "envoy.log").read_text()[-3000:]
                raise AssertionError(f"Envoy {'ended' if ended else 'took too long'} before it {what}:\n{log}")
            time.sleep(0.05)

    def _hosts(self) -> list[dict[str, Any]]:
        clusters = json.loads(self._ask("/clusters?format=json"))["cluster_statuses"]
        return [host for each in clusters if each["name"] == "ferserve" for host in each.get("host_statuses", ())]

    def _listeners(self) -> list[dict[str, Any]]:
        statuses: list[dict[str, Any]] = json.loads(self._ask("/listeners?format=json"))["listener_statuses"]
        return statuses

    def _ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self._admin.read_text()}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text


def _endpoint(host: str, port: str) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}


def _address_of(host: dict[str, Any]) -> str:
    address = host["address"]["socket_address"]
    return f"{address['address']}:{address['port_value']}"
