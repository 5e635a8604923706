"""picows on uvloop. It hands out frames, not messages, and leaves checking text to its user: so does this program."""

from __future__ import annotations

from typing import Any

import serving
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

options = serving.options(__doc__)


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


async def main() -> None:
    def listener(_: Any) -> Echo:
        return Echo()

    server = await ws_create_server(listener, "127.0.0.1", 0, max_frame_size=serving.LARGEST, backlog=511)
    serving.ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()


uvloop.run(main())
