"""A TCP proxy that makes a line long: every byte arrives DELAY ms later, in order, at any rate.

.venv/bin/python -m bench.proxy LISTEN_PORT TARGET_PORT DELAY_MS
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """One direction. What is read while something waits is not held up by it."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)

    arriving = asyncio.create_task(arrive())
    data = b"."
    while data:
        try:
            data = await reader.read(65536)
        except ConnectionError:
            data = b""
        under_way.put_nowait((loop.time() + delay, data))
    await arriving


async def serve(listen: int, target: int, delay: float) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        both: list[Coroutine[Any, Any, None]] = [carry(reader, far_writer, delay), carry(far_reader, writer, delay)]
        await asyncio.gather(*both)

    server = await asyncio.start_server(accept, "127.0.0.1", listen)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
