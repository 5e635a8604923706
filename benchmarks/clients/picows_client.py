"""picows on uvloop; each payload is taken as text."""

from __future__ import annotations

from array import array

import asking
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

clock = asking.clock
options = asking.options(__doc__)


class RequestReply(WSListener):
    """Warms up, then measures; each reply sends the next request."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.text = b"x" * options.size
        self.warm, self.phase, self.count = clock() + options.warmup, None, 0
        self.latencies: array[float] = array("d")
        self.began = clock()
        transport.send(WSMsgType.TEXT, self.text)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        frame.get_payload_as_utf8_text()
        now = clock()
        if self.phase is not None:
            self.latencies.append(now - self.began)
            self.count += 1
            if now >= self.phase.end:
                asking.say(**self.phase.result(self.count, self.latencies))
                transport.disconnect(graceful=False)
                return
        elif now >= self.warm:
            self.phase = asking.Phase(options.seconds)
        self.began = now
        transport.send(WSMsgType.TEXT, self.text)


class Flood(WSListener):
    """Counts until the time is over."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.stopwatch = asking.Stopwatch(options)
        self.count, self.look = 0, self.stopwatch.stride

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        frame.get_payload_as_utf8_text()
        self.count += 1
        if self.count == self.look:
            self.look += self.stopwatch.stride
            if self.stopwatch.over(self.count):
                self.look = 0
                transport.disconnect(graceful=False)


async def main() -> None:
    listener = RequestReply if options.job == "echo" else Flood
    transport, _ = await ws_connect(listener, f"ws://127.0.0.1:{options.port}/")
    await transport.wait_disconnected()


uvloop.run(main())
