"""A peer program (peers/) from the tests' side: started once, told what to do, gone when the tests are.

It runs in a process of its own, so nothing that is patched here touches it. Commands: see peers/control.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket as _native
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import world
from peers.control import decode, encode

PEERS = Path(__file__).parent / "peers"
START = 40.0  # seconds for an interpreter and its imports, on a machine that has other things to do
PATIENCE = 20.0  # seconds for one command


class PeerError(AssertionError):
    """The peer says that it could not do what it was told."""


class RemotePeer:
    """One running peer program."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        # No proxy stands between two ends of the loopback.
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        listener = world.raw_listener()
        port = str(listener.getsockname()[1])
        self.process = subprocess.Popen([*command, port], env={**env, **(environment or {})})
        try:
            self._socket = self._await_call(listener)
        except BaseException:
            self._kill_process()
            raise
        finally:
            listener.close()
        self._socket.settimeout(PATIENCE)
        self._buffer = bytearray()
        self.alive = True

    def _await_call(self, listener: Any) -> Any:
        """The peer's connection; at once an error if it has died instead."""
        deadline = time.monotonic() + START
        listener.settimeout(0.5)
        while True:
            try:
                return listener.accept()[0]
            except TimeoutError:
                assert self.process.poll() is None, f"the peer ended with status {self.process.returncode}"
                assert time.monotonic() < deadline, f"the peer did not call within {START} s"

    @classmethod
    def python(cls, program: str) -> RemotePeer:
        return cls([sys.executable, str(PEERS / program)])

    def call(self, do: str, **arguments: Any) -> Any:
        """The result of a command; PeerError if it failed, and the end of the peer if it does not answer."""
        try:
            self._socket.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            answer = json.loads(self._line())
        except BaseException:
            self.kill()
            raise
        if "error" in answer:
            raise PeerError(f"{do}: {answer['error']}")
        return answer["result"]

    def send(self, *messages: str | bytes) -> None:
        self.call("send", messages=[encode(message) for message in messages])

    def send_fragments(self, pieces: list[str] | list[bytes]) -> None:
        self.call("send_fragments", pieces=[encode(piece) for piece in pieces])

    def recv(self) -> str | bytes:
        return self.recv_many(1)[0]

    def recv_many(self, count: int) -> list[str | bytes]:
        return [decode(message) for message in self.call("recv", count=count)]

    def stop(self) -> None:
        """It ends by itself when its commands do; AssertionError if not, and then it is killed."""
        if not self.alive:
            return
        self.alive = False
        self._socket.shutdown(_native.SHUT_RDWR)
        self._socket.close()
        try:
            world.eventually(lambda: self.process.poll() is not None)
        finally:
            self._kill_process()
        assert self.process.returncode == 0

    def kill(self) -> None:
        """After a failure: nothing is known about its state."""
        self.alive = False
        self._socket.close()
        self._kill_process()

    def _kill_process(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def _line(self) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            data = self._socket.recv(1 << 18)
            assert data, "the peer has died"
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line
