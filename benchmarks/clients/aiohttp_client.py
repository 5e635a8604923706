"""aiohttp on uvloop."""

from __future__ import annotations

import argparse
from array import array

import aiohttp
import asking
import uvloop

clock = asking.clock
options = asking.options(__doc__)


async def exchange(ws: aiohttp.ClientWebSocketResponse, end: float, latencies: array[float]) -> int:
    text = "x" * options.size
    count = 0
    now = clock()
    while now < end:
        await ws.send_str(text)
        await ws.receive()
        before, now = now, clock()
        latencies.append(now - before)
        count += 1
    return count


async def request_reply(ws: aiohttp.ClientWebSocketResponse, options: argparse.Namespace) -> None:
    await exchange(ws, clock() + options.warmup, array("d"))
    latencies = array("d")
    phase = asking.Phase(options.seconds)
    count = await exchange(ws, phase.end, latencies)
    asking.say(**phase.result(count, latencies))


async def read_flood(ws: aiohttp.ClientWebSocketResponse) -> None:
    stopwatch = asking.Stopwatch(options)
    count, look = 0, stopwatch.stride
    async for message in ws:
        message.data  # noqa: B018  what a reader is for
        count += 1
        if count == look:
            look += stopwatch.stride
            if stopwatch.over(count):
                return


async def main() -> None:
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(f"http://127.0.0.1:{options.port}/", compress=0)
        if options.job == "echo":
            await request_reply(ws, options)
        else:
            await read_flood(ws)
        ws._response.close()  # without the closing handshake, which would read the flood to its end


uvloop.run(main())
