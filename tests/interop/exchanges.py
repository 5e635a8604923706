"""What is done with every peer: the classes of the test modules inherit it, and say what their peer can.

Exact data are compared at both ends. Each link is closed cleanly with 1000 where a test does nothing else.
"""

from __future__ import annotations

import itertools
import random
from typing import Any, ClassVar

import pytest
import world
from link import CASES, WE_CONNECT, Case, check_same, linked

_random = random.Random(6455)

TEXTS = ["", "a", "grüße, 世界 🎉\x00\u2028\u2029", "é" * 62, "é" * 63, "x" * 125, "x" * 126, "🎉" * 16384]
BINARIES = [b"", b"\x00", bytes(range(256)) * 3, b"\xff" * 125, b"\x80" * 126]
BINARIES += [_random.randbytes(size) for size in (127, 65535, 65536, 65537)]
MESSAGES = [*TEXTS, *BINARIES]
#: does not compress to nothing, and is not found again in a window of 512 bytes
UNLIKE = "".join(_random.choices("0123456789abcdef", k=2000))
MEGABYTES = 3 << 20
TEXT_OF_3_MB = "".join(_random.choices("abc äöü 🎉\n", k=4096)) * 1024
TEXT_OF_3_MB = TEXT_OF_3_MB.encode()[:MEGABYTES].decode(errors="ignore")
BINARY_OF_3_MB = (_random.randbytes(64 << 10) + bytes(64 << 10)) * 24
LONGEST_REASON = "é" * 61 + "!"  # 123 bytes
CLOSES = [(1000, ""), (1001, "so long"), (1011, "grüße 🎉"), (3000, ""), (4999, LONGEST_REASON)]


SMALL_WINDOWS = [name for name in CASES if "small" in name]
in_pieces = pytest.mark.parametrize(
    "pieces", [["grü", "", "ße ", "🎉" * 30000], [b"\xff", b"\x00" * 70000, b""]], ids=["text", "binary"]
)


def only(*names: str) -> Any:
    """Restrict a test's cases to those named; "plain" is the peer's first one, the plainest it can do."""

    def mark(function: Any) -> Any:
        function.only = names
        return function

    return mark


class Exchanges:
    """Inherit as `class TestX(Exchanges)`, and set to None what the peer cannot do."""

    #: in peers/
    program: ClassVar[str]
    #: the CASES that the peer can be set to, the plainest first; none if it has no such side
    as_server: ClassVar[tuple[str, ...]] = tuple(CASES)
    as_client: ClassVar[tuple[str, ...]] = tuple(CASES)
    #: as a client, sees at once what came with the 101
    sees_what_came_early: ClassVar[bool] = True

    @staticmethod
    def answer(who: str, code: int, reason: str) -> tuple[int, str]:
        """What the peer answers to our Close: RFC 6455 section 5.5.1 says, the code it received."""
        return code, reason

    @classmethod
    def cases_of(cls, who: str) -> tuple[str, ...]:
        return cls.as_server if who == WE_CONNECT else cls.as_client

    def plainest(self, who: str) -> Case:
        return CASES[self.cases_of(who)[0]]

    def test_messages_arrive_as_they_were_sent(self, peer: Any, who: str, case: Case) -> None:
        with linked(peer, who, case) as link:
            link.ours_arrive(*MESSAGES)
            link.theirs_arrive(*MESSAGES)

    @only("plain", "deflate")
    def test_messages_of_3_mb_arrive(self, peer: Any, who: str, case: Case) -> None:
        with linked(peer, who, case) as link:
            link.ours_arrive(TEXT_OF_3_MB, BINARY_OF_3_MB)
            link.theirs_arrive(TEXT_OF_3_MB, BINARY_OF_3_MB)

    def test_what_is_corked_arrives_and_broadcasts_between(self, peer: Any, who: str, case: Case) -> None:
        """What is sent for all is not in our compressor's window, and is in theirs."""
        with linked(peer, who, case) as link:
            for message in (UNLIKE, *MESSAGES, UNLIKE):
                send = link.ws.send if link.server is None else link.server.broadcast
                sending = world.spawn(self.send_twice_corked, link.ws, UNLIKE)
                check_same(peer.recv_many(2), [UNLIKE, UNLIKE])
                sending.result()
                sending = world.spawn(send, message)
                check_same([peer.recv()], [message])
                sending.result()
            link.theirs_arrive("that was all")

    @staticmethod
    def send_twice_corked(ws: Any, message: str) -> None:
        with ws.cork():
            ws.send(message)
            ws.send(message)

    @only("deflate", "we-forget", "they-forget", *SMALL_WINDOWS)
    def test_windows_are_as_agreed(self, peer: Any, who: str, case: Case) -> None:
        """What a sender remembers costs next to nothing; what it must not remember costs the same again."""
        with linked(peer, who, case) as link:
            ours, theirs = [link.ws.bytes_sent], [link.ws.bytes_received]
            for _ in range(3):
                link.ours_arrive(UNLIKE)
                link.theirs_arrive(UNLIKE)
                ours.append(link.ws.bytes_sent)
                theirs.append(link.ws.bytes_received)
            sides = (ours, theirs) if who == WE_CONNECT else (theirs, ours)
            for counts, remembers in zip(sides, (case.client_remembers, case.server_remembers), strict=True):
                first, *others = (after - before for before, after in itertools.pairwise(counts))
                assert 800 < first < 1500  # four bits in eight, more or less
                assert all(size < 100 if remembers else abs(size - first) < 100 for size in others)

    def test_both_may_send_at_once(self, peer: Any, who: str) -> None:
        """More than the system buffers: while our sender is blocked, what a peer sends is read nevertheless."""
        ours, theirs = BINARY_OF_3_MB * 2, TEXT_OF_3_MB * 2
        with linked(peer, who, self.plainest(who)) as link:
            sending = world.spawn(link.ws.send, ours)
            peer.send(theirs)
            check_same([peer.recv()], [ours])
            sending.result()
            check_same([link.ws.recv(timeout=world.PATIENCE)], [theirs])

    @only("plain", "deflate", "we-forget")
    @in_pieces
    def test_our_fragments_are_one_message(self, peer: Any, who: str, case: Case, pieces: Any) -> None:
        with linked(peer, who, case) as link:
            for _ in range(2):
                sending = world.spawn(link.ws.send, iter(pieces))
                check_same([peer.recv()], [pieces[0][:0].join(pieces)])
                sending.result()

    @pytest.mark.usefixtures("quick_ticks")
    @only("plain", "deflate")
    def test_our_pings_between_fragments_are_answered(self, peer: Any, who: str, case: Case) -> None:
        with linked(peer, who, case) as link:
            pongs: list[bytes] = []
            link.ws.onpong = lambda event: pongs.append(event.data)

            def pieces() -> Any:
                for name in ("one", "two"):
                    yield name * 500
                    link.ws.ping(name.encode())

            sending = world.spawn(link.ws.send, pieces())
            assert peer.recv() == "one" * 500 + "two" * 500
            sending.result()
            peer.send("got it")
            assert link.ws.recv(timeout=world.PATIENCE) == "got it"
            world.eventually(lambda: pongs == [b"one", b"two"])

    @only("plain", "deflate", "they-forget")
    @in_pieces
    def test_their_fragments_are_one_message(self, peer: Any, who: str, case: Case, pieces: Any) -> None:
        with linked(peer, who, case) as link:
            for _ in range(2):
                sending = world.spawn(peer.send_fragments, pieces)
                check_same([link.ws.recv(timeout=world.PATIENCE)], [pieces[0][:0].join(pieces)])
                sending.result()

    @pytest.mark.usefixtures("quick_ticks")
    def test_our_pings_are_answered(self, peer: Any, who: str) -> None:
        with linked(peer, who, self.plainest(who)) as link:
            pongs: list[bytes] = []
            link.ws.onpong = lambda event: pongs.append(event.data)
            reading, receiving = world.spawn(link.ws.recv), world.spawn(peer.recv)
            for data in (b"", b"\x00\xff", b"p" * 125):
                link.ws.ping(data)
                world.eventually(lambda data=data: pongs and pongs[-1] == data)
            link.ws.send("over")
            assert receiving.result() == "over"
            peer.send("and out")
            assert reading.result() == "and out"
            assert len(pongs) == 3

    @pytest.mark.usefixtures("quick_ticks")
    def test_their_pings_are_answered(self, peer: Any, who: str) -> None:
        """Although nobody is in recv()."""
        with linked(peer, who, self.plainest(who)) as link:
            pings: list[bytes] = []
            link.ws.onping = lambda event: pings.append(event.data)
            for data in ("a", "grüße", "p" * 125):
                assert peer.call("ping", data=data) == data
            world.eventually(lambda: pings == [b"a", "grüße".encode(), b"p" * 125])

    @pytest.mark.parametrize(("code", "reason"), [*CLOSES, (None, "")])
    def test_our_close_arrives(self, peer: Any, who: str, code: int | None, reason: str) -> None:
        with linked(peer, who, self.plainest(who)) as link:
            closes: list[Any] = []
            link.ws.onclose = lambda event: closes.append((event.code, event.reason, event.wasClean))
            link.close_from_here(code, reason)
            answered = self.answer(who, code or 1005, reason)
            assert (link.ws.close_code, link.ws.close_reason) == answered
            world.eventually(lambda: closes)
            assert closes == [(*answered, answered[0] != 1006)]

    @pytest.mark.parametrize(("code", "reason"), CLOSES)
    def test_their_close_arrives(self, peer: Any, who: str, code: int, reason: str) -> None:
        with linked(peer, who, self.plainest(who)) as link:
            link.close_from_there(code, reason)

    def test_messages_before_a_close_arrive(self, peer: Any, who: str) -> None:
        with linked(peer, who, self.plainest(who)) as link:
            peer.send("1")
            peer.send(b"2")
            link.ws.send("3")
            link.ws.send(b"4")
            assert peer.recv() == "3"
            assert peer.recv() == b"4"
            closing = world.spawn(peer.call, "close", code=1000, reason="done")
            assert list(link.ws) == ["1", b"2"]
            closing.result()
            assert link.ws.wait_closed(world.PATIENCE)
            assert (link.ws.close_code, link.ws.close_reason) == (1000, "done")

    @pytest.mark.parametrize(
        ("ours", "theirs", "agreed"),
        [(None, None, ""), (["b"], ["b"], "b"), (["b", "c"], ["c"], "c"), (["c"], ["b", "c"], "c")],
    )
    def test_a_subprotocol_is_agreed_on(
        self, peer: Any, who: str, ours: Any, theirs: Any, agreed: str
    ) -> None:
        with linked(peer, who, self.plainest(who), our_protocols=ours, their_protocols=theirs) as link:
            assert link.ws.protocol == link.agreed["protocol"] == agreed

    def test_a_message_in_one_segment_with_the_101_arrives(self, peer: Any, who: str) -> None:
        with linked(peer, who, self.plainest(who), hello="here you are") as link:
            if who == WE_CONNECT:
                assert link.ws.recv(timeout=world.PATIENCE) == "here you are"
            else:
                if not self.sees_what_came_early:
                    link.ws.send("still there?")
                assert peer.recv() == "here you are"
                assert self.sees_what_came_early or peer.recv() == "still there?"
            link.ours_arrive("thanks")
            link.theirs_arrive("you are welcome")

    @only("plain", "deflate")
    def test_an_echo_by_iteration_or_listener(self, peer: Any, who: str, case: Case) -> None:
        """As a user would write it: our server iterates, our client listens."""
        if who == WE_CONNECT:
            port = peer.call("listen", compression=case.theirs, protocols=None, hello=None)
            with world.Socket(f"ws://127.0.0.1:{port}/", compression=case.ours) as ws:
                ws.onmessage = lambda event: ws.send(event.data)
                peer.call("accept")
                self.expect_echoes(peer)
                assert ws.wait_closed(world.PATIENCE)
                assert (ws.close_code, ws.close_reason) == (1000, "enough")
        else:
            with world.serving(world.echo, compression=case.ours) as server:
                peer.call("connect", url=world.url_of(server), compression=case.theirs, protocols=None)
                self.expect_echoes(peer)

    def expect_echoes(self, peer: Any) -> None:
        peer.send(*MESSAGES)
        check_same(peer.recv_many(len(MESSAGES)), MESSAGES)
        peer.call("close", code=1000, reason="enough")
