"""syncws: `send` and `recv`, iteration, or a listener for messages."""

from __future__ import annotations

from typing import Any

import asking

options = asking.options(__doc__)
if options.gevent:
    from syncws.gevent import Socket
else:
    from syncws import Socket  # type: ignore[assignment]
ws = Socket(f"ws://127.0.0.1:{options.port}/", compression=False)


def listen() -> None:
    stopwatch = asking.Stopwatch(options)
    count, look = 0, stopwatch.stride

    def told(event: Any) -> None:
        nonlocal count, look
        event.data  # noqa: B018  what a listener is for
        count += 1
        if count == look:
            look += stopwatch.stride
            if stopwatch.over(count):
                ws.terminate()

    ws.onmessage = told
    ws.wait_closed()


if options.job == "echo":
    asking.request_reply(options, ws.send, ws.recv)
elif options.job == "flood":
    asking.read_flood(options, ws)
else:
    listen()
ws.terminate()
