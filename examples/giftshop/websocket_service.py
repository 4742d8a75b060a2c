"""Tells every connected browser what happens in the shop, as JSON over WebSocket, on GIFTSHOP_WEBSOCKET."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

import redis.asyncio
from redis.exceptions import RedisError

from app.config import settings
from app.errors import MailcrewError
from app.events import emit, start_logging, warn
from examples.giftshop import websocket
from examples.giftshop.config import address
from examples.giftshop.events import CHANNEL

HANDSHAKE_SECONDS = 10.0
#: A client is asked for a sign this often, and given up after twice as long without one.
PING_SECONDS = 20.0
#: Events that a slow client may be behind before it is dropped; it would only hold memory.
LONGEST_BACKLOG = 1000
REDIS_PAUSE = 1.0


class Service:
    """Clients and what is told them; `tell` is the one way in."""

    def __init__(self) -> None:
        self._clients: dict[asyncio.StreamWriter, asyncio.Queue[bytes]] = {}

    def tell(self, text: bytes) -> None:
        for writer, backlog in list(self._clients.items()):
            try:
                backlog.put_nowait(websocket.frame(websocket.TEXT, text))
            except asyncio.QueueFull:
                warn("client dropped: too slow", clients=len(self._clients))
                self._clients.pop(writer, None)
                writer.transport.abort()

    def close(self) -> None:
        for writer in self._clients:
            writer.write(websocket.closing(websocket.GOING_AWAY))
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, from its handshake to its end."""
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANDSHAKE_SECONDS)
            writer.write(websocket.accept(head))
            backlog: asyncio.Queue[bytes] = asyncio.Queue(LONGEST_BACKLOG)
            self._clients[writer] = backlog
            sender = asyncio.create_task(self._send(writer, backlog))
            try:
                await self._listen(reader, backlog)
            finally:
                sender.cancel()
        except websocket.NotWebSocket as refused:
            writer.write(refused.answer)
        except websocket.Broken as broken:
            writer.write(websocket.closing(broken.code))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            pass  # it hung up, said nothing, or too much of it
        finally:
            self._clients.pop(writer, None)
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader, backlog: asyncio.Queue[bytes]) -> None:
        silent = False
        while True:
            try:
                kind, content = await asyncio.wait_for(websocket.read_frame(reader), PING_SECONDS)
            except TimeoutError:
                if silent:
                    raise
                silent = True
                backlog.put_nowait(websocket.frame(websocket.PING))
                continue
            silent = False
            if kind == websocket.CLOSE:
                raise websocket.Broken(int.from_bytes(content[:2], "big") if len(content) > 1 else 1000)
            if kind == websocket.PING:
                backlog.put_nowait(websocket.frame(websocket.PONG, content))

    async def _send(self, writer: asyncio.StreamWriter, backlog: asyncio.Queue[bytes]) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(await backlog.get())
                await writer.drain()


async def relay(service: Service, url: str) -> None:
    """Pass on what is announced in Redis, for ever; what was announced while Redis was away is lost."""
    said = ""
    while True:
        client = redis.asyncio.Redis.from_url(url)
        try:
            async with client.pubsub() as channel:
                await channel.subscribe(CHANNEL)
                said = ""
                async for message in channel.listen():
                    if message["type"] == "message":
                        service.tell(message["data"])
        except (RedisError, OSError) as error:
            if str(error) != said:
                said = str(error)
                warn("Redis does not answer; trying again", reason=said)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()
        await asyncio.sleep(REDIS_PAUSE)


async def run() -> None:
    host, port = address("GIFTSHOP_WEBSOCKET", "127.0.0.1:8092")
    service = Service()
    server = await asyncio.start_server(service.serve, host, port, limit=8192)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    emit("WebSocket service listens", host=host, port=server.sockets[0].getsockname()[1])
    relaying = asyncio.create_task(relay(service, settings().redis_url))
    await stopping.wait()
    relaying.cancel()
    server.close()
    service.close()
    emit("WebSocket service ended")


def main() -> int:
    start_logging()
    try:
        asyncio.run(run())
    except (MailcrewError, OSError) as error:
        warn("WebSocket service cannot run", reason=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
