"""`aiohttp`, as client and server.

It sends no fragments. Of compression it can set one thing: the server's window, as a client.
"""

from __future__ import annotations

import asyncio
from typing import Any

import control
from aiohttp import ClientSession, WSMsgType, web


class Peer:
    def __init__(self) -> None:
        self.ws: Any = None
        self.runner: Any = None
        self.session: Any = None
        self.accepted: Any = asyncio.Queue()
        self.finished = asyncio.Event()

    async def listen(self, compression: Any, protocols: Any, hello: str | None) -> int:
        async def handle(request: Any) -> Any:
            ws: Any = web.WebSocketResponse(
                autoping=False, max_msg_size=0, protocols=protocols or (), compress=compression is not None
            )
            await ws.prepare(request)
            if hello is not None:
                await ws.send_str(hello)
            await self.accepted.put(ws)
            await finished.wait()
            return ws

        assert not compression, "its server has no parameters"
        if self.runner is not None:
            await self.runner.cleanup()
        finished = self.finished = asyncio.Event()
        application = web.Application()
        application.router.add_get("/", handle)
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return self.runner.addresses[0][1]

    async def accept(self) -> Any:
        self.ws = await self.accepted.get()
        return self.agreed()

    async def connect(self, url: str, compression: Any, protocols: Any) -> Any:
        bits = 0 if compression is None else compression.pop("server_max_window_bits", 15)
        assert not compression, "its client has no other parameters"
        self.session = self.session or ClientSession()
        self.ws = await self.session.ws_connect(
            url, autoping=False, max_msg_size=0, protocols=protocols or (), compress=bits
        )
        return self.agreed()

    def agreed(self) -> Any:
        protocol = self.ws.ws_protocol if isinstance(self.ws, web.WebSocketResponse) else self.ws.protocol
        return {"protocol": protocol or "", "compressed": bool(self.ws.compress)}

    async def send(self, messages: Any) -> None:
        for data in map(control.decode, messages):
            await (self.ws.send_str(data) if isinstance(data, str) else self.ws.send_bytes(data))

    async def recv(self, count: int) -> Any:
        return [await self.message() for _ in range(count)]

    async def message(self) -> Any:
        got = await self.receive()
        assert got.type in (WSMsgType.TEXT, WSMsgType.BINARY), got
        return control.encode(got.data)

    async def receive(self) -> Any:
        """The next message; pings are answered as `autoping` does."""
        while (got := await self.ws.receive()).type is WSMsgType.PING:
            await self.ws.pong(got.data)
        return got

    async def ping(self, data: str) -> str:
        await self.ws.ping(data.encode())
        got = await self.receive()
        assert got.type is WSMsgType.PONG, got
        return bytes(got.data).decode()

    async def close(self, code: int, reason: str) -> Any:
        await self.ws.close(code=code, message=reason.encode())
        self.finished.set()
        return [self.ws.close_code, None]

    async def closed(self) -> Any:
        got = await self.receive()
        self.finished.set()
        assert got.type is WSMsgType.CLOSE, got
        return [got.data or 1005, got.extra or ""]


async def main() -> None:
    await control.run_async(Peer())


asyncio.run(main())
