"""What `Socket(…)` takes and refuses, and what its attributes say, without a failure on the way."""

from __future__ import annotations

import contextlib
import os
import socket as _native
import ssl
import sys
import tempfile
from typing import Any

import pytest
from pairs import connected, still_works
from peer import Peer
from world import (
    PATIENCE,
    Server,
    Socket,
    eventually,
    pair_of_sockets,
    raw_connection,
    raw_listener,
    serving,
    spawn,
    url_of,
)

import syncws

NOWHERE = "ws://127.0.0.1:1/"  # connecting would raise OSError

# -- bad arguments -----------------------------------------------------------------------------------------------

BAD_URLS = [
    "", "127.0.0.1", "//127.0.0.1/", "ftp://127.0.0.1/", "ws:", "ws:///path", "ws://127.0.0.1:65536/", "ws://127.0.0.1:x/",
    "ws://127.0.0.1:1/#fragment", "ws://127.0.0.1:1/\r\nX: y", "ws://127.0.0.1:1/\0", "ws://a b/", "ws://[::1/",
    "ws+unix:", "ws+unix::/target", "ws+unix:///a:/#x",
]  # fmt: skip
BAD_OPTIONS: list[tuple[dict[str, Any], Any]] = [
    *(({"protocols": value}, ValueError) for value in ("", "a b", "a,b", [""], ["a", "a"], ["a", "\u00e9"], ["a\r\n"])),
    ({"protocols": 5}, TypeError),
    ({"protocols": [5]}, TypeError),
    *(({"origin": f"http://a{char}"}, ValueError) for char in "\r\n\0"),
    *(({"headers": {"X": f"a{char}b"}}, ValueError) for char in "\r\n\0"),
    *(({"headers": [(f"X{char}", "a")]}, ValueError) for char in "\r\n\0 :"),
    ({"headers": {"": "a"}}, ValueError),
    ({"headers": 5}, TypeError),
    *(({name: 0}, ValueError) for name in ("handshake_timeout", "ping_interval", "ping_timeout", "max_queue")),
    *(({name: -1}, ValueError) for name in ("handshake_timeout", "close_timeout", "ping_interval", "ping_timeout")),
    *(({name: "1"}, TypeError) for name in ("handshake_timeout", "close_timeout", "ping_interval", "ping_timeout")),
    *(({name: float("nan")}, ValueError) for name in ("handshake_timeout", "close_timeout")),
    ({"close_timeout": None}, TypeError),
    *(({name: -1}, ValueError) for name in ("max_payload", "max_fragments", "max_queue")),
    *(({name: 1.5}, TypeError) for name in ("max_payload", "max_fragments", "max_queue")),
    *(({name: None}, TypeError) for name in ("max_payload", "max_fragments", "max_queue")),
    ({"compression": "yes"}, TypeError),
    ({"compression": None}, TypeError),
    ({"binaryType": "blob"}, ValueError),
    ({"generate_mask": b"1234"}, TypeError),
    ({"ssl": True}, TypeError),
    ({"sock": 5}, TypeError),
    *(({"protocols": value}, TypeError) for value in (b"a", {"a": 1})),
    ({"headers": [5]}, TypeError),
    ({"no_such_option": 1}, TypeError),
    ({"on_open": print}, TypeError),
    *(({name: 5}, TypeError) for name in ("onopen", "onmessage", "onclose", "onerror", "onping", "onpong")),
    *(({name: "x"}, TypeError) for name in ("onupgrade", "onredirect", "auto_pong", "skip_utf8_validation")),
    *(({"headers": value}, TypeError) for value in (0, "A: b", ["A: b"], [("A", "b", "c")])),
    *(({"protocols": value}, TypeError) for value in (0, False)),
    *(({name: 10**400}, ValueError) for name in ("handshake_timeout", "close_timeout", "ping_interval")),
]


async def promise(event: Any) -> None:
    pass


def test_a_coroutine_function_is_no_listener() -> None:
    for name in ("onopen", "onmessage", "onclose", "onerror", "generate_mask"):
        with pytest.raises(TypeError, match=f"{name} must be a plain function"):
            Socket(NOWHERE, **{name: promise})
    with connected() as (ws, peer):
        for refused in (
            lambda: setattr(ws, "onmessage", promise),
            lambda: ws.addEventListener("message", promise),
            lambda: ws.once("message", type("Object", (), {"handleEvent": promise})()),
        ):
            with pytest.raises(TypeError, match="must be a plain function"):
                refused()
        still_works(ws, peer)


def test_a_socket_that_is_no_connection_is_a_value_error_at_once() -> None:
    udp = (_native.AF_INET, _native.SOCK_DGRAM)
    with _native.socket() as fresh, _native.socket(*udp) as datagrams, raw_listener() as listener:
        for sock in (fresh, datagrams, listener):
            with pytest.raises(ValueError, match="sock must be a connected socket, not <"):
                Socket(NOWHERE, sock=sock)


@pytest.mark.parametrize("limit", [sys.maxsize - 1, sys.maxsize, sys.maxsize + 1, 10**30])
@pytest.mark.parametrize("compression", [True, False])
def test_a_limit_beyond_all_memory_is_none(limit: int, compression: bool) -> None:
    options = {"max_payload": limit, "max_fragments": limit, "max_queue": limit, "compression": compression}
    with serving(max_backlog=limit, **options) as server, Socket(url_of(server), **options) as ws:
        for size in (10, 5000, 100_000):
            ws.send("a" * size)
            assert ws.recv(PATIENCE) == "a" * size
        server.broadcast("all")
        assert ws.recv(PATIENCE) == "all"


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url_is_a_value_error_at_once(url: str, blocking: bool) -> None:
    with pytest.raises(ValueError):
        Socket(url, blocking=blocking)


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize(("options", "error"), BAD_OPTIONS, ids=[str(options) for options, _ in BAD_OPTIONS])
def test_a_bad_option_is_refused_at_once(options: dict[str, Any], error: Any, blocking: bool) -> None:
    with pytest.raises(error):
        Socket(NOWHERE, blocking=blocking, **options)


@pytest.mark.parametrize("url", [None, 5, b"ws://127.0.0.1:1/"])
def test_a_url_is_a_str(url: Any) -> None:
    with pytest.raises(TypeError):
        Socket(url)


def test_a_tls_context_without_tls_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        Socket(NOWHERE, ssl=ssl.create_default_context())


@pytest.mark.parametrize("blocking", [None, 1, "no"])
def test_blocking_is_true_or_false(blocking: Any) -> None:
    with pytest.raises(TypeError, match="blocking"):
        Socket(NOWHERE, blocking=blocking)


def test_a_close_timeout_below_zero_is_told_that_zero_will_do() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Socket(NOWHERE, close_timeout=-1)


def test_a_tls_context_may_be_for_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "https://127.0.0.1:1")
    with pytest.raises(OSError):
        Socket("ws://example.org/", ssl=ssl.create_default_context())


def test_after_the_first_two_arguments_there_are_names_only() -> None:
    with pytest.raises(TypeError):
        Socket(NOWHERE, None, True)


# -- what goes out -----------------------------------------------------------------------------------------------


def head_of(peer: Peer) -> dict[str, list[str]]:
    """The headers of the request, by lower-case name."""
    found: dict[str, list[str]] = {}
    for line in peer.head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        found.setdefault(name.lower(), []).append(value.strip())
    return found


def test_the_request_is_that_of_rfc_6455() -> None:
    with connected(compression=False) as (ws, peer):
        headers = head_of(peer)
        host = f"127.0.0.1:{ws.remote_address[1]}"
        assert peer.head.startswith(b"GET / HTTP/1.1\r\n")
        key = headers.pop("sec-websocket-key")[0]
        assert len(key) == 24
        assert headers == {
            "host": [host], "upgrade": ["websocket"], "connection": ["Upgrade"], "sec-websocket-version": ["13"],
        }  # fmt: skip


@pytest.mark.parametrize("as_pairs", [False, True])
def test_further_headers_are_sent_and_the_handshakes_own_stay(as_pairs: bool) -> None:
    given = {"X-One": "1", "Cookie": "a=b", "upgrade": "other", "Sec-WebSocket-Key": "mine", "CONNECTION": "close"}
    before = dict(given)
    with connected(headers=list(given.items()) if as_pairs else given, origin="http://a.example") as (_, peer):
        headers = head_of(peer)
        assert (headers["x-one"], headers["cookie"], headers["origin"]) == (["1"], ["a=b"], ["http://a.example"])
        assert (headers["upgrade"], headers["connection"]) == (["websocket"], ["Upgrade"])
        assert headers["sec-websocket-key"] != ["mine"]
        assert given == before


@pytest.mark.parametrize(
    ("compression", "offer"),
    [
        (False, None),
        (True, "permessage-deflate; client_max_window_bits"),
        (syncws.Deflate(server_no_context_takeover=True, client_max_window_bits=10),
         "permessage-deflate; server_no_context_takeover; client_max_window_bits=10"),
    ],
)  # fmt: skip
def test_compression_is_offered_as_the_caller_wants_it(compression: Any, offer: str | None) -> None:
    with connected(compression=compression) as (ws, peer):
        assert head_of(peer).get("sec-websocket-extensions") == (offer and [offer])
        assert ws.extensions == ""


@pytest.mark.parametrize(
    ("userinfo", "headers", "authorization"),
    [
        ("user:pass@", None, "Basic dXNlcjpwYXNz"),
        ("u%73er:p%61ss@", None, "Basic dXNlcjpwYXNz"),
        ("user:pass@", {"authorization": "Bearer x"}, "Bearer x"),
    ],
)
def test_userinfo_becomes_basic_authorization(userinfo: str, headers: Any, authorization: str) -> None:
    with raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        port = listener.getsockname()[1]
        ws = Socket(f"ws://{userinfo}127.0.0.1:{port}/", headers=headers)
        with accepting.result() as peer:
            assert head_of(peer)["authorization"] == [authorization]
            assert "pass" not in ws.url
        ws.terminate()


@pytest.mark.parametrize(
    ("scheme", "rest", "shown", "target"),
    [
        ("ws", "", "ws:{}/", "/"),
        ("http", "/a?b=c", "ws:{}/a?b=c", "/a?b=c"),
        ("WS", "/%20#", "ws:{}/%20", "/%20"),
    ],
)
def test_the_url_is_shown_as_the_w3c_has_it(scheme: str, rest: str, shown: str, target: str) -> None:
    with raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        where = f"//127.0.0.1:{listener.getsockname()[1]}"
        ws = Socket(f"{scheme}:{where}{rest}")
        with accepting.result() as peer:
            assert ws.url == shown.format(where)
            assert peer.head.startswith(f"GET {target} HTTP/1.1\r\n".encode())
        ws.terminate()


# -- ways to connect ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False])
def test_a_connected_socket_is_used_and_taken_over(blocking: bool) -> None:
    ours, theirs = pair_of_sockets()

    def accept() -> Peer:
        peer = Peer(theirs, client=False)
        peer.head = peer.read_head()
        peer.answer()
        return peer

    accepting = spawn(accept)
    ws = Socket("ws://example.org/", sock=ours, blocking=blocking)
    with accepting.result() as peer:
        assert head_of(peer)["host"] == ["example.org"]
        eventually(lambda: ws.readyState == syncws.OPEN)
        still_works(ws, peer)
        ws.terminate()
        peer.expect_end()


def test_small_frames_do_not_wait_for_acknowledgements() -> None:
    with raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        sock = raw_connection(listener.getsockname())
        twin = sock.dup()
        ws = Socket("ws://127.0.0.1/", sock=sock)
        with accepting.result(), contextlib.closing(twin):
            assert twin.getsockopt(_native.IPPROTO_TCP, _native.TCP_NODELAY)
        ws.terminate()


@pytest.mark.parametrize("empty_authority", [False, True])
def test_a_unix_socket_is_reached_by_its_path(empty_authority: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a socket")
        seen: list[Any] = []

        def accept(ws: Any, request: Any) -> None:
            seen.extend([request.target, request.headers["Host"]])
            ws.send(ws.recv(PATIENCE))

        with Server(accept, unix=path):
            authority = "//" if empty_authority else ""
            with Socket(f"ws+unix:{authority}{path.replace(' ', '%20')}:/a?b=c") as ws:
                ws.send("over it")
                assert ws.recv(PATIENCE) == "over it"
                assert ws.url == f"ws+unix:{path.replace(' ', '%20')}:/a?b=c"
        assert seen == ["/a?b=c", "localhost"]


@pytest.mark.parametrize("over_sock", [False, True])
def test_tls_is_verified_and_used(over_sock: bool, server_tls: Any, client_tls: Any) -> None:
    with serving(ssl=server_tls) as server:
        options = {"sock": raw_connection(("127.0.0.1", server.address()[1]))} if over_sock else {}
        with Socket(url_of(server, scheme="wss"), ssl=client_tls, **options) as ws:
            ws.send("a" * 100_000)
            assert ws.recv(PATIENCE) == "a" * 100_000
            assert ws.url.startswith("wss://")
        with pytest.raises(ssl.SSLCertVerificationError):
            Socket(url_of(server, scheme="https"))


# -- attributes --------------------------------------------------------------------------------------------------


def test_the_states_are_on_the_module_the_class_and_the_instance() -> None:
    with connected() as (ws, _):
        for holder in (syncws, Socket, ws):
            assert (holder.CONNECTING, holder.OPEN, holder.CLOSING, holder.CLOSED) == (0, 1, 2, 3)
        for name in ("CONNECTING", "OPEN", "CLOSING", "CLOSED", "readyState", "bufferedAmount", "is_paused"):
            with pytest.raises(AttributeError):
                setattr(ws, name, 5)


def test_an_open_socket_tells_all_of_the_handshake() -> None:
    extension = "permessage-deflate; client_no_context_takeover"
    answer = ("Sec-WebSocket-Protocol: b", f"Sec-WebSocket-Extensions: {extension}", "X-Extra: 1")
    with connected(answer=answer, protocols=["a", "b"]) as (ws, peer):
        assert (ws.readyState, ws.protocol, ws.extensions) == (syncws.OPEN, "b", extension)
        assert (ws.request.method, ws.request.target) == ("GET", "/")
        assert ws.request.headers["sec-websocket-protocol"] == "a, b"
        assert (ws.response.status, ws.response.headers["x-extra"]) == (101, "1")
        assert ws.remote_address == peer.sock.getsockname()
        assert ws.local_address == peer.sock.getpeername()
        assert (ws.close_code, ws.close_reason, ws.latency) == (None, "", None)
        assert (ws.protocol_version, ws.supports.binary) == (13, True)
        ws.anything = "the user's"
        assert ws.anything == "the user's"


def test_one_subprotocol_needs_no_list() -> None:
    with connected(answer=("Sec-WebSocket-Protocol: a",), protocols="a") as (ws, peer):
        assert head_of(peer)["sec-websocket-protocol"] == ["a"]
        assert ws.protocol == "a"
