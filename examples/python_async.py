"""Sends many pictures at once: python python_async.py PICTURE... [--server HOST:PORT].

The server puts the faces of all calls into common batches, so that many small calls at once are fast.
"""

import argparse
import asyncio
from pathlib import Path

from ferserve_client import AsyncEmotionClient

CALLS_AT_ONCE = 16


async def main() -> None:
    """Analyses the pictures, one call for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--server", default="localhost:50051")
    options = parser.parse_args()
    slots = asyncio.Semaphore(CALLS_AT_ONCE)
    async with AsyncEmotionClient(options.server) as client:

        async def analyze(path: Path) -> None:
            picture = await asyncio.to_thread(path.read_bytes)
            async with slots:
                (analysis,) = await client.analyze([picture])
            print(path.name, [face.prediction.emotion for face in analysis.faces if face.prediction])

        await asyncio.gather(*(analyze(path) for path in options.pictures))


asyncio.run(main())
