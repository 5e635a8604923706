"""Floods of frames, huge announcements and bombs: what a server holds of them stays small, and others are served."""

from __future__ import annotations

import contextlib
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import world
from hixie import Hixie, framed
from malformed import deflated
from peer import BINARY, CONTINUE, PING, PONG, TEXT, Peer, frame
from program import Program
from raw import is_served

MEBI = 1 << 20
FLOOD = 50.0  # seconds
SERVER = """
import resource
from world import Event, Server, echo
def accept(ws, request):
    if request.path == "/sleep":
        Event().wait(600)
    elif request.path == "/peak":
        ws.send(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
    else:
        echo(ws, request)
options = {"compression": True, "max_payload": 1 << 23, "max_fragments": 0, "legacy": True}
server = Server(accept, host="127.0.0.1", port=0, **options)
server.on("listening", lambda: say(server.address()[1]))
server.serve_forever()
"""
EXTENSION = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


@pytest.fixture
def server() -> Iterator[Program]:
    with Program(SERVER) as program:
        # Twice, for what is allocated once.
        for _ in range(2):
            with Peer.connect(program, "/", EXTENSION) as peer:
                answered(peer)
                peer.send(BINARY, b"x" * 100_000)
                peer.read()
        yield program


def flood(peer: Peer, data: bytes) -> None:
    """Send much, and wait until it has been dealt with: on a machine that is busy that takes its time."""
    peer.sock.settimeout(FLOOD)
    peer.send_raw(data)
    answered(peer)
    peer.sock.settimeout(world.PATIENCE)


def answered(peer: Peer) -> None:
    """All that was sent before has been dealt with."""
    peer.send(PING, b"done?")
    while (got := peer.read()).opcode != PONG or got.payload != b"done?":
        pass


def peak(server: Program) -> int:
    with Peer.connect(server, "/peak") as peer:
        return int(peer.read().payload)


def pour(peer: Peer, data: bytes, times: int) -> None:
    """Send `data` over and over without reading, as long as it is taken."""
    peer.sock.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        for _ in range(times):
            peer.sock.sendall(data)
    peer.sock.settimeout(world.PATIENCE)


def test_what_is_announced_is_not_allocated(server: Program) -> None:
    before = peak(server)
    peers = [Peer.connect(server, "/", EXTENSION) for _ in range(20)]
    for index, peer in enumerate(peers):
        rsv = 4 if index % 4 == 0 else 0
        peer.send_raw(frame(TEXT if index % 2 else BINARY, b"x", mask=b"abcd", length=(1 << 23) - 1, rsv=rsv))
        assert is_served(server)
    assert peak(server) - before < 20 * 100_000 + MEBI
    for peer in peers:
        peer.close()


@world.untraced
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_fragments_cost_no_more_than_their_bytes_and_linear_time(server: Program, opcode: int) -> None:
    times = []
    for count in (30_000, 240_000):
        with Peer.connect(server, "/") as peer:
            peer.send(opcode, b"x", fin=False)
            start, before = server.processor_time(), server.resident()
            flood(peer, frame(CONTINUE, b"x", fin=False, mask=b"\0\0\0\0") * (count - 1))
            times.append(server.processor_time() - start)
            assert server.resident() - before < count + MEBI
            peer.send(CONTINUE)
            assert peer.read().payload == b"x" * count
    assert times[1] < 2.5**3 * times[0] + 0.2, times  # three times twice as many; a square would be 64 times


def test_empty_fragments_cost_nothing(server: Program) -> None:
    with Peer.connect(server, "/") as peer:
        peer.send(TEXT, fin=False)
        before = server.resident()
        flood(peer, frame(CONTINUE, fin=False, mask=b"\0\0\0\0") * 100_000)
        assert server.resident() - before < MEBI
        peer.send(CONTINUE, b"end")
        assert peer.read().payload == b"end"


LEGACY_FLOODS = {
    "a length without end": (b"\x80", b"\xff" * MEBI, 0),
    "a text without end": (b"\x00", b"x" * MEBI, 1 << 23),
    "a text of many planes without end": (b"\x00" + b"x" * MEBI, "🎉".encode() * (MEBI // 4), 1 << 23),
    "texts that nobody takes": (b"", framed("") * (MEBI // 2), 0),
}


@pytest.mark.parametrize(("begin", "data", "kept"), LEGACY_FLOODS.values(), ids=LEGACY_FLOODS)
def test_a_legacy_client_costs_no_more_than_a_message(server: Program, begin: bytes, data: bytes, kept: int) -> None:
    Hixie.connect(server).close()
    before = peak(server)
    with Hixie.connect(server, first="GET /sleep HTTP/1.1") as client:
        client.sock.settimeout(0.2)
        with contextlib.suppress(TimeoutError, ConnectionError):
            client.sock.sendall(begin)
            for _ in range(20):
                client.sock.sendall(data)
        assert peak(server) - before < kept + 2 * MEBI
    assert is_served(server)


def test_fragments_held_open_on_many_connections(server: Program) -> None:
    before = server.resident()
    peers = [Peer.connect(server, "/") for _ in range(30)]
    for peer in peers:
        peer.send(BINARY, b"x", fin=False)
        peer.send_raw(frame(CONTINUE, b"x", fin=False, mask=b"\0\0\0\0") * 5_000)
        answered(peer)
    assert server.resident() - before < 30 * (MEBI + 5_000)
    for peer in peers:
        peer.close()


def bomb(size: int) -> bytes:
    """Deflated zeros, made without making them."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    pieces = [compressor.compress(bytes(MEBI)) for _ in range(size // MEBI)]
    return b"".join([*pieces, compressor.flush(zlib.Z_SYNC_FLUSH)])[:-4]


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_a_zip_bomb_is_1009_before_it_goes_off(server: Program, opcode: int) -> None:
    data = bomb(256 * MEBI)
    before, start = peak(server), server.processor_time()
    with Peer.connect(server, "/", EXTENSION) as peer:
        peer.send(opcode, data, rsv=4)
        peer.expect_close(1009)
    # 8 MiB are allowed, and may exist as output, as pieces and as the whole.
    assert peak(server) - before < 3 * 8 * MEBI + 2 * MEBI
    assert server.processor_time() - start < 1.0
    assert is_served(server)


def test_a_bomb_in_fragments_and_one_of_many_messages(server: Program) -> None:
    data = deflated(bytes(4 * MEBI))
    with Peer.connect(server, "/", EXTENSION) as peer:
        for _ in range(3):  # each is allowed, and echoed
            peer.send(BINARY, data, rsv=4)
            assert peer.read().opcode == BINARY
        half = len(data) // 2
        peer.send(BINARY, data[:half], rsv=4, fin=False)
        peer.send(CONTINUE, data[half:] + b"\0\0\xff\xff", fin=False)
        peer.send(CONTINUE, deflated(bytes(5 * MEBI)))
        peer.expect_close(1009)
    assert is_served(server)


@pytest.mark.parametrize("path", ["/", "/sleep"], ids=["read", "unread"])
@pytest.mark.parametrize("payload", [b"", b"x" * 125], ids=["empty", "full"])
def test_ping_floods_of_a_peer_that_reads_no_pongs(server: Program, path: str, payload: bytes) -> None:
    with Peer.connect(server, path) as peer:
        before = server.resident()
        pour(peer, frame(PING, payload, mask=b"\0\0\0\0") * 1000, 100)
        assert is_served(server)
        assert server.resident() - before < 2 * MEBI
    assert is_served(server)


@pytest.mark.parametrize("path", ["/", "/sleep"], ids=["read", "unread"])
def test_pings_of_a_peer_that_reads_are_answered_in_the_end(server: Program, path: str) -> None:
    with Peer.connect(server, path) as peer:
        before = server.resident()
        sending = world.spawn(
            peer.send_raw, frame(PING, b"x", mask=b"\0\0\0\0") * 30_000 + frame(PING, b"last", mask=b"abcd")
        )
        while peer.read().payload != b"last":
            pass
        sending.result()
        assert server.resident() - before < 2 * MEBI


@pytest.mark.parametrize("path", ["/", "/sleep"], ids=["read", "unread"])
def test_pong_floods(server: Program, path: str) -> None:
    with Peer.connect(server, path) as peer:
        before = server.resident()
        for _ in range(100):
            peer.send_raw(frame(PONG, b"x" * 10, mask=b"\0\0\0\0") * 1000)
        answered(peer)
        assert server.resident() - before < MEBI
        assert is_served(server)


@pytest.mark.parametrize("payload", [b"", b"x" * 100], ids=["empty", "short"])
def test_messages_nobody_reads_stay_with_the_peer(server: Program, payload: bytes) -> None:
    with Peer.connect(server, "/sleep") as peer:
        before = server.resident()
        pour(peer, frame(TEXT, payload, mask=b"\0\0\0\0") * 1000, 300)
        assert is_served(server)
        assert server.resident() - before < 4 * MEBI
        start = server.processor_time()
        world.sleep(0.4)  # the measured time
        assert server.processor_time() - start < 0.15


def test_a_flood_of_handshakes_and_rubbish_leaves_nothing(server: Program) -> None:
    def round_of_rubbish(count: int) -> None:
        for index in range(count):
            with Peer.connect(server, "/", EXTENSION) as peer:
                peer.send(TEXT, b"x" * 2000)
                peer.send(3 if index % 2 else BINARY, b"\xff" * 100, rsv=0 if index % 2 else 4)
                peer.read_all()

    round_of_rubbish(200)
    before: Any = server.resident()
    round_of_rubbish(500)
    # Without the GIL the memory of a thread that ended is kept for others: it comes and goes by some MiB.
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert server.resident() - before < (2 if gil else 10) * MEBI


@world.untraced
@pytest.mark.parametrize("path", ["/", "/sleep"], ids=["read", "unread"])
def test_a_peer_that_takes_no_pongs_costs_the_attendant_no_time(server: Program, path: str) -> None:
    with Peer.connect(server, path) as peer, Peer.connect(server, "/sleep") as other:
        pour(peer, frame(PING, b"x" * 125, mask=b"\0\0\0\0") * 1000, 100)
        answered(other)  # which only the attendant minds
        costs = [_cost_of_a_while(server)]
        while costs[-1] >= 0.05 and len(costs) < 10:  # what came before may have to be seen to
            costs.append(_cost_of_a_while(server))
        assert costs[-1] < 0.05, costs


def _cost_of_a_while(server: Program) -> float:
    start = server.processor_time()
    world.sleep(0.3)  # the measured time
    return float(server.processor_time() - start)
