"""A broadcast between compressed messages of a connection: what a peer's zlib makes of them, whatever was agreed."""

from __future__ import annotations

import random
import re
import zlib
from typing import Any

import pytest
from crowd import crowd
from peer import CONTINUE, TEXT, Peer

from syncws import Deflate, framing

OFFERS = [
    "",
    "permessage-deflate",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=8",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; server_max_window_bits=9; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=12; client_max_window_bits=10",
    "permessage-deflate; server_max_window_bits=15; client_no_context_takeover",
]
OURS = [
    Deflate(threshold=100),
    Deflate(threshold=0, server_max_window_bits=15, level=9, mem_level=9),
    Deflate(threshold=0, server_max_window_bits=10),
    Deflate(threshold=1, server_no_context_takeover=True, level=1),
]
WORDS = [f"{number:06x}" for number in random.Random(7692).sample(range(1 << 24), 400)]


class Inflating:
    """Reads messages as a peer does that keeps to what was agreed, and to nothing more."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        head = peer.head.decode()
        self.deflates = "permessage-deflate" in head
        bits = re.search("server_max_window_bits=([0-9]+)", head)
        self._bits = -int(bits[1]) if bits else -15
        self._forgets = "server_no_context_takeover" in head
        self._inflater = zlib.decompressobj(self._bits)
        self.size = 0  # of the payloads of the last message

    def read(self) -> str:
        frames = [self._peer.read()]
        while not frames[-1].fin:
            frames.append(self._peer.read())
        first, *others = frames
        assert first.opcode == TEXT
        assert first.rsv in ((0, 4) if self.deflates else (0,))
        assert {(frame.rsv, frame.opcode) for frame in others} <= {(0, CONTINUE)}
        payload = b"".join(frame.payload for frame in frames)
        self.size = len(payload)
        if first.rsv:
            payload = self._inflater.decompress(payload + b"\0\0\xff\xff")
            if self._forgets:
                self._inflater = zlib.decompressobj(self._bits)
        return payload.decode()


def offering(offer: str) -> tuple[str, ...]:
    return (f"Sec-WebSocket-Extensions: {offer}",) if offer else ()


@pytest.mark.parametrize("ours", OURS, ids=["usual", "large", "small", "forgetful"])
def test_all_inflate_their_own_messages_and_those_for_all(ours: Deflate) -> None:
    rng = random.Random(13)

    def speech(words: int) -> str:
        return " ".join(rng.choices(WORDS, k=words))

    with crowd(compression=ours) as place:
        ends = [(ws, Inflating(peer)) for ws, peer in (place.join(*offering(offer)) for offer in OFFERS)]
        assert sum(end.deflates for _, end in ends) == len(OFFERS) - 1
        for number in range(150):
            kind = number % 3 and rng.randrange(6)
            text = speech(rng.choice((0, 1, 5, 40, 400, 3000)))
            if kind == 0:
                place.server.broadcast(text)
            for ws, end in ends:
                if kind == 1:
                    ws.send(text)
                elif kind == 2:
                    ws.send(text, compress=rng.choice((True, False)))
                elif kind == 3:
                    middle = len(text) // 2
                    ws.send([text[:middle], text[middle:]])
                elif kind == 4:
                    with ws.cork():
                        ws.send(text)
                elif kind == 5:
                    ws.send("", fin=False, compress=True)
                    place.server.broadcast("first", to=[ws])
                    ws.send(text)
                assert end.read() == text
                if kind == 5:
                    assert end.read() == "first"


def test_only_a_compressed_one_costs_a_connection_what_it_remembers() -> None:
    text = " ".join(WORDS)
    with crowd(compression=Deflate(threshold=1000)) as place:
        ws, peer = place.join(*offering("permessage-deflate"))
        end = Inflating(peer)

        def costs() -> int:
            ws.send(text)
            assert end.read() == text
            return end.size

        whole, again = costs(), costs()
        assert again < whole / 10
        place.server.broadcast("short, so it goes plain")
        assert end.read()
        assert costs() < whole / 10
        place.server.broadcast(text[::-1])
        assert end.read() == text[::-1]
        assert end.size < len(text)
        assert costs() == whole
        assert costs() == again


def test_it_is_compressed_once_for_all_who_agreed_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    framed = []
    encode = framing.encode
    monkeypatch.setattr(framing, "encode", lambda *arguments: framed.append(arguments[3]) or encode(*arguments))
    with crowd(compression=Deflate(threshold=0)) as place:
        ends = [Inflating(place.join(*offering(offer))[1]) for offer in OFFERS for _ in range(3)]
        for count in (1, 2):
            place.server.broadcast("x" * 5000)
            assert [end.read() for end in ends] == ["x" * 5000] * len(ends)
            # Plain, for those who deflate not at all or with too small a window; windows of 9 bits; those of 12.
            assert sorted(framed) == sorted([False, True, True] * count)


def test_the_threshold_is_that_of_each_server() -> None:
    with crowd(compression=Deflate(threshold=0)) as low, crowd(compression=Deflate(threshold=5000)) as high:
        ends = [Inflating(place.join(*offering("permessage-deflate"))[1]) for place in (low, high)]
        low.server.broadcast("x" * 4000, to=low.sockets + high.sockets)
        assert [end.read() for end in ends] == ["x" * 4000] * 2
        assert [end.size < 100 for end in ends] == [True, False]


def test_what_waits_is_in_the_order_of_the_compressor() -> None:
    """Queued behind a message that is open: compressed before its rest, and sent behind it."""
    text: Any = " ".join(WORDS)
    with crowd(compression=Deflate(threshold=0)) as place:
        ws, peer = place.join(*offering("permessage-deflate"))
        end = Inflating(peer)
        ws.send(text)
        ws.send(text, fin=False)
        place.server.broadcast(text)
        place.server.broadcast(text[::-1])
        ws.send(text)
        ws.send(text)
        assert [end.read() for _ in range(5)] == [text, text + text, text, text[::-1], text]
