"""Redirects: when they are followed and where to, what goes along, what is told, and where they end."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
import time
from typing import Any

import pytest
from pairs import Journal, still_works
from peer import Peer
from secure import Wire, server_context
from world import PATIENCE, Event, Socket, client_context, eventually, raw_listener, socket, spawn

import syncws

SECRETS = {"Authorization": "Bearer x", "Cookie": "a=b", "Proxy-Authorization": "Basic y"}


class Hops:
    """Servers that send a client on: each answer by a listener of its own, or by the last one's again."""

    def __init__(self, stack: contextlib.ExitStack, server_tls: Any = None) -> None:
        self.heads: list[str] = []
        self.socks: list[Any] = []
        self._stack = stack
        self._tls = server_tls
        self.listener = self.another()

    def another(self) -> Any:
        return self._stack.enter_context(raw_listener())

    def url(self, rest: str = "/", scheme: str = "ws", listener: Any = None) -> str:
        return f"{scheme}://127.0.0.1:{(listener or self.listener).getsockname()[1]}{rest}"

    def answer(self, text: str, listener: Any = None, secure: bool = False) -> Any:
        """Read a request, send `text`, and keep the connection."""
        peer = self.accept(listener, secure)
        peer.send_raw(text.encode("latin-1"))
        return peer

    def accept(self, listener: Any = None, secure: bool = False) -> Peer:
        listener = listener or self.listener
        sock, _ = listener.accept()
        self._stack.callback(sock.close)
        sock.settimeout(PATIENCE)
        self.socks.append(sock)
        peer = Peer(Wire(sock, self._tls, server_side=True).handshake() if secure else sock, client=False)
        peer.head = peer.read_head()
        self.heads.append(peer.head.decode("latin-1"))
        return peer

    def open(self, listener: Any = None, secure: bool = False) -> Peer:
        peer = self.accept(listener, secure)
        peer.answer()
        return peer


def moved(location: str, status: int = 302, more: str = "Content-Length: 0\r\n") -> str:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\n{more}\r\n"


@pytest.fixture
def hops(server_tls: Any) -> Any:
    with contextlib.ExitStack() as stack:
        yield Hops(stack, server_tls)


def fields(head: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in head.split("\r\n")[1:])  # type: ignore[misc]


def follow(url: str, **options: Any) -> Any:
    return Socket(url, follow_redirects=True, **options)


# -- where to --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_if_asked_for(status: int, hops: Any) -> None:
    opening = spawn(follow, hops.url("/a"))
    first = hops.answer(moved("/b?c=d", status))
    peer = hops.open()
    ws = opening.result()
    first.expect_end()
    assert [head.split("\r\n")[0] for head in hops.heads] == ["GET /a HTTP/1.1", "GET /b?c=d HTTP/1.1"]
    keys = [fields(head)["Sec-WebSocket-Key"] for head in hops.heads]
    assert keys[0] != keys[1]
    assert (ws.url, ws.request.target, ws.response.status) == (hops.url("/b?c=d"), "/b?c=d", 101)
    still_works(ws, peer)
    ws.terminate()


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/other", "/other"), ("other", "/a/other"), ("../up", "/up"), ("?x=1", "/a/b?x=1"), ("?", "/a/b?"),
        ("./", "/a/"), ("", "/a/b"),
        ("//127.0.0.1:{}/net", "/net"), ("ws://127.0.0.1:{}", "/"), ("http://127.0.0.1:{}/h", "/h"), ("/a b", None),
        ("/caf\u00c3\u00a9", "/caf%C3%A9"), ("/%41?u=http://x/", "/%41?u=http://x/"), ("/a:b", "/a:b"),
    ],
)  # fmt: skip
def test_a_location_is_resolved_against_the_url(location: str, target: str | None, hops: Any) -> None:
    location = location.format(hops.listener.getsockname()[1])
    opening = spawn(follow, hops.url("/a/b"))
    hops.answer(moved(location))
    if target is None:
        with pytest.raises(syncws.RedirectError):
            opening.result()
        return
    hops.open()
    ws = opening.result()
    assert hops.heads[1].startswith(f"GET {target} HTTP/1.1\r\n")
    assert ws.url == hops.url(target)
    ws.terminate()


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1/", "file:///etc/passwd", "ws+unix:/tmp/x:/", "unix:/tmp/x", "javascript:alert(1)",
        "mailto:a@b", "ws:", "ws:/a", "ws:///a", "///a", "//", "ws://127.0.0.1:99999/", "ws://[::1/", "/a#b", "#b",
        "/a\tb", "/a\\b", "\\\\h\\x",
        "/caf\u00e9", "ws://a b/", "ws://a%0d%0a/", "ws://x:y:z%0a@h/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("blocking", [True, False])
def test_a_bad_location_is_a_redirect_error(location: str, blocking: bool, hops: Any) -> None:
    opening = spawn(follow, hops.url(), blocking=blocking)
    server = hops.answer(moved(location))
    if blocking:
        with pytest.raises(syncws.RedirectError) as caught:
            opening.result()
        error = caught.value
    else:
        ws = opening.result()
        journal = Journal(ws, "redirect", "unexpected-response", "error", "close")
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["error", "close"]
        error = journal.events[0].error
        assert isinstance(error, syncws.RedirectError)
    assert (error.status, error.response.headers["location"]) == (302, location)
    assert location not in str(error) or len(location) < 4
    server.expect_end()


def test_a_repeated_location_is_a_redirect_error(hops: Any) -> None:
    opening = spawn(follow, hops.url())
    hops.answer(moved("/a", more="Location: /b\r\n"))
    with pytest.raises(syncws.RedirectError):
        opening.result()


OTHERS = [
    "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    moved("/a", 304, ""),
    *(moved("/a", status) for status in (200, 300, 305)),
]


@pytest.mark.parametrize("answer", OTHERS)
def test_other_answers_stay_unexpected(answer: str, hops: Any) -> None:
    ws = follow(hops.url(), blocking=False)
    journal = Journal(ws, "redirect", "unexpected-response", "error", "close")
    hops.answer(answer)
    assert ws.wait_closed(PATIENCE)
    assert journal.told == ["unexpected-response", "error", "close"]
    assert not isinstance(journal.events[1].error, syncws.RedirectError)


def test_a_redirect_is_not_waited_out(hops: Any) -> None:
    opening = spawn(follow, hops.url())
    first = hops.answer(moved("/b", more="Content-Length: 1000\r\n") + "half")
    hops.open()
    ws = opening.result()
    first.expect_end()
    ws.terminate()


def test_none_is_followed_by_default(hops: Any) -> None:
    opening = spawn(Socket, hops.url())
    hops.answer(moved("/b"))
    with pytest.raises(syncws.HandshakeError) as caught:
        opening.result()
    assert caught.value.status == 302 and not isinstance(caught.value, syncws.RedirectError)


# -- how many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, 3])
def test_more_than_max_redirects_are_an_error(most: int, hops: Any) -> None:
    opening = spawn(follow, hops.url(), max_redirects=most)
    peers = [hops.answer(moved("/")) for _ in range(most + 1)]  # it goes round in a circle
    with pytest.raises(syncws.RedirectError, match=f"no more than {most} ") as caught:
        opening.result()
    assert caught.value.response.status == 302
    for peer in peers:
        peer.expect_end()


def test_max_redirects_may_be_used_up(hops: Any) -> None:
    opening = spawn(follow, hops.url(), max_redirects=2)
    hops.answer(moved("/1"))
    hops.answer(moved("/2"))
    hops.open()
    opening.result().terminate()


def test_there_is_one_deadline_for_all_of_them(hops: Any) -> None:
    began = time.monotonic()
    opening = spawn(follow, hops.url(), handshake_timeout=0.4, max_redirects=1000)
    with contextlib.suppress(OSError, EOFError):
        while not opening.done:
            hops.listener.settimeout(0.05)
            peer = hops.accept()
            Event().wait(0.1)  # the pace of it
            peer.send_raw(moved("/").encode())
    with pytest.raises(TimeoutError):
        opening.result()
    assert 0.4 <= time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"follow_redirects": 1}, TypeError),
        ({"follow_redirects": None}, TypeError),
        ({"max_redirects": -1}, ValueError),
        ({"max_redirects": 1.0}, TypeError),
        ({"max_redirects": True}, TypeError),
        ({"max_redirects": None}, TypeError),
    ],
)
def test_bad_arguments_are_refused_at_once(options: Any, error: Any) -> None:
    with pytest.raises(error):
        Socket("ws://127.0.0.1:1/", **options)


def test_a_socket_of_the_callers_cannot_be_redirected() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="sock"):
        follow("ws://127.0.0.1/", sock=ours)


# -- what goes along -------------------------------------------------------------------------------------------------

SAME, PORT, HOST = "same", "port", "host"


@pytest.mark.parametrize(
    ("before", "after", "where", "kept", "host_kept"),
    [
        ("ws", "ws", SAME, True, True),
        ("ws", "ws", PORT, False, False),
        ("ws", "ws", HOST, False, False),
        ("ws", "wss", SAME, True, True),
        ("wss", "wss", SAME, True, True),
        ("wss", "wss", PORT, False, False),
        ("wss", "ws", SAME, False, True),
        ("wss", "ws", HOST, False, False),
    ],
)
@pytest.mark.parametrize("by", ["headers", "userinfo"])
def test_credentials_stay_with_their_origin(
    before: str, after: str, where: str, kept: bool, host_kept: bool, by: str, hops: Any, client_tls: Any
) -> None:
    listener = hops.another() if where == PORT else hops.listener
    target = hops.url("/b", after, listener)
    if where == HOST:
        target = target.replace("127.0.0.1", "localhost")
    url, headers = hops.url("/a", before), {"X-Other": "stays", "Host": "mine.example"}
    if by == "headers":
        headers |= SECRETS
    else:
        url = url.replace("//", "//user:pass@")
    opening = spawn(follow, url, headers=headers, ssl=client_tls)
    hops.answer(moved(target), secure=before == "wss")
    hops.open(listener, secure=after == "wss")
    ws = opening.result()
    first, second = map(fields, hops.heads)
    names = set(SECRETS) if by == "headers" else {"Authorization"}
    assert names <= set(first)
    assert names & set(second) == (names if kept else set())
    assert (second["X-Other"], second["Host"] == "mine.example") == ("stays", host_kept)
    assert ws.url == target
    assert headers["Host"] == "mine.example" and "Upgrade" not in headers
    ws.terminate()


def test_what_was_dropped_does_not_come_back(hops: Any) -> None:
    other = hops.another()
    opening = spawn(follow, hops.url(), headers=SECRETS)
    hops.answer(moved(hops.url("/", listener=other)))
    hops.answer(moved(hops.url("/back")), other)
    hops.open()
    opening.result().terminate()
    assert not set(SECRETS) & set(fields(hops.heads[2]))


@pytest.mark.parametrize(
    ("mine", "expected"),
    [("", "Basic dGhlaXJzOng="), ("me:y@", "Basic bWU6eQ==")],
)
def test_credentials_in_a_location_never_replace_mine(mine: str, expected: str, hops: Any) -> None:
    opening = spawn(follow, hops.url().replace("//", f"//{mine}"))
    hops.answer(moved(hops.url("/b").replace("//", "//theirs:x@")))
    hops.open()
    ws = opening.result()
    assert fields(hops.heads[1])["Authorization"] == expected
    assert ws.url == hops.url("/b")
    ws.terminate()


def test_the_new_host_is_the_one_that_is_verified(authority: Any) -> None:
    with contextlib.ExitStack() as stack:
        hops = Hops(stack, server_context(authority.issue_cert("localhost")))
        opening = spawn(follow, hops.url("/", "wss").replace("127.0.0.1", "localhost"), ssl=client_context(authority))
        hops.answer(moved(hops.url("/", "wss")), secure=True)
        refused = spawn(hops.accept, None, True)
        with pytest.raises(ssl.SSLCertVerificationError):
            opening.result()
        with pytest.raises((OSError, EOFError)):
            refused.result()
    assert len(hops.heads) == 1


# -- unix sockets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relative", [True, False])
def test_from_a_unix_socket_a_redirect_stays_there_or_goes_to_the_network(relative: bool, hops: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local:
        path = os.path.join(folder, "s")
        local.bind(path)
        local.listen(5)
        opening = spawn(follow, f"ws+unix:{path}:/a", headers=SECRETS)
        hops.answer(moved("/b" if relative else hops.url("/b")), local)
        hops.open(local if relative else None)
        ws = opening.result()
        assert ws.url == (f"ws+unix:{path}:/b" if relative else hops.url("/b"))
        assert bool(set(SECRETS) & set(fields(hops.heads[1]))) is relative
        ws.terminate()


# -- what is told ----------------------------------------------------------------------------------------------------


def test_each_redirect_is_told_before_it_is_followed(hops: Any) -> None:
    seen: list[Any] = []

    def note(event: Any) -> None:
        seen.append((event.type, event.url, event.response.status, event.target.url, event.target.readyState))

    opening = spawn(follow, hops.url(), onredirect=note)
    hops.answer(moved("/1", 301))
    hops.answer(moved(hops.url("/2").replace("//", "//u:p@"), 307))
    hops.open()
    ws = opening.result()
    assert seen == [
        ("redirect", hops.url("/1"), 301, hops.url(), syncws.CONNECTING),
        ("redirect", hops.url("/2"), 307, hops.url("/1"), syncws.CONNECTING),
    ]
    assert ws.onredirect is note
    ws.terminate()


@pytest.mark.parametrize("call", ["close", "terminate"])
@pytest.mark.parametrize("blocking", [True, False])
def test_a_listener_may_end_it(call: str, blocking: bool, hops: Any) -> None:
    other = hops.another()
    opening = spawn(follow, hops.url(), blocking=blocking, onredirect=lambda event: getattr(event.target, call)())
    if not blocking:
        ws = opening.result()
        journal = Journal(ws)
    server = hops.answer(moved(hops.url(listener=other)))
    if blocking:
        with pytest.raises(ConnectionAbortedError):
            opening.result()
    else:
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["error", "close"]
        assert isinstance(journal.events[0].error, ConnectionAbortedError)
        assert journal.events[1].code == 1006
    server.expect_end()
    other.settimeout(0.05)
    with pytest.raises(TimeoutError):
        other.accept()


def test_a_listener_that_raises_changes_nothing(hops: Any, caplog: Any) -> None:
    caplog.expected_errors = 1
    opening = spawn(follow, hops.url(), onredirect=lambda event: 1 / 0)
    hops.answer(moved("/1"))
    hops.open()
    opening.result().terminate()


def test_it_may_be_ended_while_the_next_server_is_asked(hops: Any) -> None:
    ws = follow(hops.url(), blocking=False)
    journal = Journal(ws)
    hops.answer(moved("/1"))
    second = hops.accept()
    ws.terminate()
    assert ws.wait_closed(PATIENCE)
    assert journal.told == ["error", "close"]
    second.expect_end()


def test_the_failure_of_a_later_server_is_told_as_its_own(hops: Any) -> None:
    opening = spawn(follow, hops.url())
    hops.answer(moved("/1"))
    hops.answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(syncws.HandshakeError) as caught:
        opening.result()
    assert (caught.value.status, caught.value.request.target) == (403, "/1")


def test_no_descriptor_is_left_of_earlier_servers(hops: Any) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    opening = spawn(follow, hops.url())
    hops.open()
    opening.result().terminate()  # whatever is opened once is open
    before = count() - len(hops.socks)
    opening = spawn(follow, hops.url())
    for number in range(9):
        hops.answer(moved(f"/{number}"))
    hops.open()
    ws = opening.result()
    assert count() - len(hops.socks) == before + 1
    ws.terminate()
    assert ws.wait_closed(PATIENCE)
    eventually(lambda: count() - len(hops.socks) == before)
