"""One connection between syncws and a peer program, whichever of them is the client."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import glue
import pytest
import world
from remote import RemotePeer

from syncws import ConnectionClosed, Deflate

WE_CONNECT = "we-connect"
THEY_CONNECT = "they-connect"


class Case(NamedTuple):
    """Who wants which compression, and whether a sender then finds an earlier message in its window."""

    ours: bool | Deflate
    theirs: dict[str, Any] | None
    agreed: bool = True
    client_remembers: bool = True
    server_remembers: bool = True


def _ours(**parameters: Any) -> Deflate:
    return Deflate(threshold=0, **parameters)


_BOTH_FORGET = {"server_no_context_takeover": True, "client_no_context_takeover": True}
_SMALL = {"server_max_window_bits": 9, "client_max_window_bits": 9}
_NEITHER = {"client_remembers": False, "server_remembers": False}

CASES = {
    "plain": Case(False, None, False),
    "only-they": Case(False, {}, False),
    "only-we": Case(_ours(), None, False),
    "deflate": Case(_ours(), {}),
    "we-forget": Case(_ours(**_BOTH_FORGET), {}, **_NEITHER),
    "they-forget": Case(_ours(), _BOTH_FORGET, **_NEITHER),
    "our-small-windows": Case(_ours(**_SMALL), {}, **_NEITHER),
    "their-small-windows": Case(_ours(), _SMALL, **_NEITHER),
    "their-small-server-window": Case(_ours(), {"server_max_window_bits": 9}, server_remembers=False),
}


class Link:
    """`ws` is ours; what `peer` does is told to it by commands."""

    def __init__(self, ws: Any, peer: RemotePeer, agreed: dict[str, Any], server: Any = None) -> None:
        self.ws = ws
        self.peer = peer
        self.agreed = agreed
        self.server = server  # of ours, if they connect

    def ours_arrive(self, *messages: str | bytes) -> None:
        """What we send comes out there, unchanged and in order."""
        sending = world.spawn(lambda: [self.ws.send(message) for message in messages])
        check_same(self.peer.recv_many(len(messages)), messages)
        sending.result()

    def theirs_arrive(self, *messages: str | bytes) -> None:
        sending = world.spawn(self.peer.send, *messages)
        check_same([self.ws.recv(timeout=world.PATIENCE) for _ in messages], messages)
        sending.result()

    def close_from_here(self, code: int | None = 1000, reason: str = "") -> None:
        """A clean close, of which they are to know the code and the reason."""
        self.ws.close(code, reason)
        assert self.peer.call("closed") == [code or 1005, reason]
        assert self.ws.wait_closed(world.PATIENCE)

    def close_from_there(self, code: int, reason: str) -> None:
        closing = world.spawn(self.peer.call, "close", code=code, reason=reason)
        with pytest.raises(ConnectionClosed) as caught:
            self.ws.recv(timeout=world.PATIENCE)
        assert (caught.value.code, caught.value.reason, caught.value.wasClean) == (code, reason, True)
        assert self.ws.wait_closed(world.PATIENCE)
        assert (self.ws.close_code, self.ws.close_reason) == (code, reason)
        answered = closing.result()
        if answered is not None:
            assert answered[0] == code
            assert answered[1] in (reason, None)


def check_same(got: Sequence[str | bytes], expected: Sequence[str | bytes]) -> None:
    """Equal in types and contents; no megabytes in the report if not."""
    for came, wanted in zip(got, expected, strict=True):
        assert type(came) is type(wanted)
        same = came == wanted
        assert same, f"{len(came)} of {len(wanted)}, beginning with {came[:40]!r}"


@contextlib.contextmanager
def linked(
    peer: RemotePeer,
    who: str,
    case: Case = CASES["plain"],
    *,
    our_protocols: Any = None,
    their_protocols: Any = None,
    hello: str | None = None,
    version: int = 13,
) -> Any:
    """An open Link; closed cleanly with 1000 if the test has not closed it.

    `hello`: what the server says first, in one segment with its 101. `version`: of the protocol, that the client wants.
    """
    with contextlib.ExitStack() as stack:
        try:
            open_link = _we_connect if who == WE_CONNECT else _they_connect
            link = open_link(stack, peer, case, our_protocols, their_protocols, hello, version)
            assert link.agreed["compressed"] is case.agreed
            assert link.ws.extensions.startswith("permessage-deflate") is case.agreed
            yield link
            if link.ws.readyState == link.ws.OPEN:
                link.close_from_here()
        except BaseException:
            peer.kill()
            raise


def _we_connect(
    stack: contextlib.ExitStack, peer: RemotePeer, case: Case, ours: Any, theirs: Any, hello: str | None, version: int
) -> Link:
    port = peer.call("listen", compression=case.theirs, protocols=theirs, hello=hello)
    if hello is not None:
        port = stack.enter_context(glue.one_segment(port, 2 + len(hello)))
    options: Any = {"compression": case.ours, "ping_interval": None, "protocol_version": version}
    ws = world.Socket(f"ws://127.0.0.1:{port}/", ours, **options)
    stack.callback(ws.terminate)
    return Link(ws, peer, peer.call("accept"))


def _they_connect(
    stack: contextlib.ExitStack, peer: RemotePeer, case: Case, ours: Any, theirs: Any, hello: str | None, version: int
) -> Link:
    accepted: list[Any] = []
    over = world.Event()

    def hold(ws: Any, request: Any) -> None:
        if hello is not None:
            ws.send(hello)
        accepted.append(ws)
        over.wait()

    options: Any = {"compression": case.ours, "protocols": ours, "ping_interval": None}
    server = stack.enter_context(world.serving(hold, **options))
    stack.callback(over.set)
    stack.callback(lambda: [ws.terminate() for ws in accepted])
    port = server.address()[1]
    if hello is not None:
        port = stack.enter_context(glue.one_segment(port, 2 + len(hello)))
    further = {} if version == 13 else {"version": version}
    agreed = peer.call("connect", url=f"ws://127.0.0.1:{port}/", compression=case.theirs, protocols=theirs, **further)
    world.eventually(lambda: accepted)
    return Link(accepted[0], peer, agreed, server)
