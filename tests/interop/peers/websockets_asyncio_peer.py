"""`websockets` on asyncio, as client and server."""

from __future__ import annotations

import asyncio
from typing import Any

import control
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions import permessage_deflate as deflate

LIMITS: Any = {"max_size": None, "ping_interval": None, "compression": None}


class Peer:
    def __init__(self) -> None:
        self.ws: Any = None
        self.server: Any = None
        self.accepted: Any = asyncio.Queue()

    async def listen(self, compression: Any, protocols: Any, hello: str | None) -> int:
        async def handle(ws: Any) -> None:
            if hello is not None:
                await ws.send(hello)
            await self.accepted.put(ws)
            await ws.wait_closed()

        if self.server is not None:
            self.server.close()
        extensions = None if compression is None else [deflate.ServerPerMessageDeflateFactory(**compression)]
        self.server = await serve(
            handle, "127.0.0.1", 0, extensions=extensions, subprotocols=protocols, **LIMITS
        )
        return self.server.sockets[0].getsockname()[1]

    async def accept(self) -> Any:
        self.ws = await self.accepted.get()
        return self.agreed()

    async def connect(self, url: str, compression: Any, protocols: Any) -> Any:
        extensions = None if compression is None else [deflate.ClientPerMessageDeflateFactory(**compression)]
        self.ws = await connect(url, extensions=extensions, subprotocols=protocols, proxy=None, **LIMITS)
        return self.agreed()

    def agreed(self) -> Any:
        return {"protocol": self.ws.subprotocol or "", "compressed": bool(self.ws.protocol.extensions)}

    async def send(self, messages: Any) -> None:
        for message in messages:
            await self.ws.send(control.decode(message))

    async def send_fragments(self, pieces: Any) -> None:
        await self.ws.send(control.decode(piece) for piece in pieces)

    async def recv(self, count: int) -> Any:
        return [control.encode(await self.ws.recv()) for _ in range(count)]

    async def ping(self, data: str) -> str:
        await (await self.ws.ping(data))
        return data

    async def close(self, code: int, reason: str) -> Any:
        await self.ws.close(code, reason)
        return [self.ws.close_code, self.ws.close_reason]

    async def closed(self) -> Any:
        try:
            message = await self.ws.recv()
        except ConnectionClosed:
            return [self.ws.close_code, self.ws.close_reason]
        raise AssertionError(f"a message, not a Close: {message!r:.80}")


async def main() -> None:
    await control.run_async(Peer())


asyncio.run(main())
