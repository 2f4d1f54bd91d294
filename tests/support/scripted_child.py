"""Runs a scripted server in a process of its own, which a test may kill. Arguments: port, seconds per frame."""

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.scripted_server import serve

if __name__ == "__main__":
    with serve(port=int(sys.argv[1])) as server:
        server.frame_delay_s = float(sys.argv[2])
        sys.stdout.write(server.address + "\n")
        sys.stdout.flush()
        threading.Event().wait()
