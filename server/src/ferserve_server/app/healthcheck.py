"""Checks the health of a server: `python -m ferserve_server.app.healthcheck [HOST:PORT]` exits 0 if it serves."""

from __future__ import annotations

import sys

from ferserve_server.services.health import check_health

if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    sys.exit(0 if check_health(address) else 1)
