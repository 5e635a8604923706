"""What the peer programs in Python have in common: commands in, answers out, a JSON object on each line.

A peer is started with the port to connect to for its commands. One command is at work at a time, on one
WebSocket connection. It ends when the command connection does, so it cannot outlive the tests.

    listen(compression, protocols, hello) -> port    `hello`: a text to send to whoever connects
    accept() -> {protocol, compressed}               the connection that came
    connect(url, compression, protocols)             -> the same
    send(messages), send_fragments(pieces)
    recv(count) -> that many messages
    ping(data) -> the payload of the pong
    close(code, reason) -> [code, reason] or null    starts the closing handshake, and what it was answered
    closed() -> [code, reason]                       waits for the other side's Close; 1005: it had no code

A message is {"text": ...} or {"binary": base64}; compression is null, or permessage-deflate's parameters.
What a library does not tell is null.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import sys
from typing import Any

PATIENCE = 15.0  # seconds
LINE_LIMIT = 1 << 26  # bytes of one command


def encode(message: str | bytes) -> dict[str, str]:
    if isinstance(message, str):
        return {"text": message}
    return {"binary": base64.b64encode(message).decode("ascii")}


def decode(message: dict[str, str]) -> str | bytes:
    return message["text"] if "text" in message else base64.b64decode(message["binary"])


def answer_line(outcome: Any) -> bytes:
    if isinstance(outcome, Exception):
        return json.dumps({"error": f"{type(outcome).__name__}: {outcome}"}).encode() + b"\n"
    return json.dumps({"result": outcome}).encode() + b"\n"


def run(peer: Any) -> None:
    """Obey until the tests end."""
    stream = socket.create_connection(("127.0.0.1", int(sys.argv[1]))).makefile("rwb")
    for line in stream:
        command = json.loads(line)
        outcome: Any
        try:
            outcome = getattr(peer, command.pop("do"))(**command)
        except Exception as error:
            outcome = error
        stream.write(answer_line(outcome))
        stream.flush()
    os._exit(0)  # whatever threads there are


async def run_async(peer: Any) -> None:
    """The same for coroutines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), limit=LINE_LIMIT)
    while line := await reader.readline():
        command = json.loads(line)
        outcome: Any
        try:
            outcome = await asyncio.wait_for(getattr(peer, command.pop("do"))(**command), PATIENCE)
        except Exception as error:
            outcome = error
        writer.write(answer_line(outcome))
        await writer.drain()
    os._exit(0)
