"""Checks the health of a server: `python -m ferserve_server.app.healthcheck [HOST:PORT]` exits 0 if it serves.

Without an address it checks the server that the FERSERVE_* variables describe, as in its own container: by the
probe on the metrics port, which needs neither TLS nor a certificate, or by gRPC if there is no such port.
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from ferserve_server.config.reading import SettingsError, load_settings
from ferserve_server.runtime.addresses import HostPort, ListenError, parse_address, sibling_address
from ferserve_server.services.health import ClientTls, check_health

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT_S = 3.0


def main(arguments: Sequence[str]) -> int:
    """Checks a server; returns the exit code, 0 if it serves."""
    parser = argparse.ArgumentParser(prog="ferserve_server.app.healthcheck", description=__doc__)
    parser.add_argument("address", nargs="?", help="HOST:PORT or unix:PATH of the gRPC service")
    parser.add_argument("--ca-file", type=Path, help="PEM authorities of the server's certificate; turns TLS on")
    parser.add_argument("--cert-file", type=Path, help="PEM certificate chain to show, if the server asks")
    parser.add_argument("--key-file", type=Path, help="PEM private key of that certificate")
    parser.add_argument("--server-name", help="name in the server's certificate, if the address is another")
    options = parser.parse_args(arguments)
    try:
        if options.address is None:
            return 0 if _is_own_server_serving() else 1
        files = (options.ca_file, options.key_file, options.cert_file)
        authorities, key, certificate = [path.read_bytes() if path else None for path in files]
        tls = None if authorities is None else ClientTls(authorities, key, certificate, options.server_name)
        serving = check_health(options.address, tls=tls)
    except (ListenError, OSError, SettingsError, ValueError) as error:
        sys.stderr.write(f"health cannot be checked: {error}\n")
        return 1
    return 0 if serving else 1


def _is_own_server_serving() -> bool:
    settings = load_settings([])
    listen, metrics = settings.server.listen, settings.server.metrics_listen
    if metrics != "off":
        return _is_ready(_loopback(sibling_address(metrics, listen, "--metrics-listen")))
    if settings.tls.tls_cert_file is not None:
        raise SettingsError("with TLS and without a metrics port, give the address and --ca-file")
    return check_health(_loopback(listen))


def _loopback(address: str) -> str:
    """Returns where this machine reaches an address; all addresses of it include its loopback."""
    parsed = parse_address(address)
    if isinstance(parsed, HostPort) and parsed.host in {"", "0.0.0.0", "::"}:
        return str(HostPort("127.0.0.1", parsed.port))
    return str(parsed)


def _is_ready(address: str) -> bool:
    # A proxy of the environment could not reach this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/readyz", timeout=_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
