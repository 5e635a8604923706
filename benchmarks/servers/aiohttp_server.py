"""aiohttp on uvloop."""

from __future__ import annotations

import asyncio

import serving
import uvloop
from aiohttp import WSMsgType, web

options = serving.options(__doc__)


async def echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=options.compress, max_msg_size=serving.LARGEST)
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


async def main() -> None:
    application = web.Application()
    application.router.add_get("/", echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=511).start()
    serving.ready(runner.addresses[0][1])
    await asyncio.Event().wait()


uvloop.run(main())
