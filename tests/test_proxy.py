"""HTTP and HTTPS proxies: what they are asked, what they may answer, and which one is taken."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import time
from typing import Any

import pytest
from gateway import CONSENT, gateway
from pairs import Journal, still_works
from secure import server_context
from world import PATIENCE, Socket, client_context, eventually, serving, socket, spawn, url_of

import syncws
from syncws import proxy as proxies
from syncws import url as urls
from syncws.runtime import Runtime

SECRET = "s3cr3t"
ROUTES = [(proxy, server) for proxy in ("http", "https") for server in ("ws", "wss")]
each_route = pytest.mark.parametrize(("outer", "inner"), ROUTES)


@pytest.fixture(autouse=True)
def no_proxy_around(monkeypatch: Any) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def asked_names(monkeypatch: Any) -> list[str]:
    """The names that are looked up from here on."""
    names: list[str] = []

    def note(self: Any, host: str, port: int) -> Any:
        names.append(host)
        return socket.getaddrinfo("127.0.0.1", port, 0, socket.SOCK_STREAM)

    for kind in (Runtime, *Runtime.__subclasses__()):
        monkeypatch.setattr(kind, "getaddrinfo", note)
    return names


@pytest.fixture
def far(authority: Any) -> Any:
    """A gateway, for the proxy at 127.0.0.1 and the server far.example, and the client's TLS context."""
    with gateway(server_context(authority.issue_cert("127.0.0.1", "far.example"))) as made:
        yield made, client_context(authority)


def context_for(outer: str, inner: str, context: Any) -> Any:
    return context if "https" in (outer, inner) or inner == "wss" else None


# -- what goes out ---------------------------------------------------------------------------------------------------


@each_route
@pytest.mark.parametrize("blocking", [True, False])
def test_a_server_is_reached_through_a_proxy(
    outer: str, inner: str, blocking: bool, far: Any, asked_names: list[str]
) -> None:
    door, context = far
    options = {"proxy": door.url(outer, "us%65r:s3cr3t@"), "ssl": context_for(outer, inner, context)}
    opening = spawn(Socket, f"{inner}://me:mine@far.example/a?b", blocking=blocking, **options)
    peer = door.open(secure=outer == "https", inner=inner == "wss")
    ws = opening.result()
    eventually(lambda: ws.readyState == syncws.OPEN)
    port = 443 if inner == "wss" else 80
    assert door.heads == [
        f"CONNECT far.example:{port} HTTP/1.1\r\nHost: far.example:{port}\r\n"
        "Proxy-Authorization: Basic dXNlcjpzM2NyM3Q="
    ]
    assert peer.head.startswith(b"GET /a?b HTTP/1.1\r\nHost: far.example\r\n")
    assert b"Authorization: Basic bWU6bWluZQ==" in peer.head
    assert b"Proxy" not in peer.head
    assert asked_names == []
    still_works(ws, peer)
    assert (ws.url, ws.remote_address[1]) == (f"{inner}://far.example/a?b", door.port)
    ws.terminate()
    peer.expect_end()


@each_route
def test_large_messages_go_both_ways_through_both_layers(outer: str, inner: str, far: Any) -> None:
    door, context = far
    options = {"proxy": door.url(outer), "ssl": context_for(outer, inner, context), "compression": False}
    opening = spawn(Socket, f"{inner}://far.example/", **options)
    peer = door.open(secure=outer == "https", inner=inner == "wss")
    ws = opening.result()
    large = os.urandom(1 << 20)
    for _ in range(2):
        sending = spawn(ws.send, large)
        assert peer.read().payload == large
        sending.result()
        sending = spawn(peer.send, 2, large)
        assert ws.recv(PATIENCE) == large
        sending.result()
    closing = spawn(peer.read)
    ws.close(4000)
    assert closing.result().code == 4000
    peer.send(8, b"\x0f\xa0")
    peer.close()
    assert ws.wait_closed(PATIENCE)
    assert ws.close_code == 4000


@pytest.mark.parametrize(
    ("host", "target"),
    [("[::1]:81", "[::1]:81"), ("[2001:DB8::0:1]", "[2001:db8::1]:80"), ("10.0.0.1:1", "10.0.0.1:1"),
     ("b\u00fccher.example", "xn--bcher-kva.example:80")],
)  # fmt: skip
def test_the_server_is_named_as_rfc_9110_has_it(host: str, target: str, asked_names: list[str]) -> None:
    with gateway() as door:
        opening = spawn(Socket, f"ws://{host}/", proxy=door.url())
        door.open()
        opening.result().terminate()
        assert door.heads == [f"CONNECT {target} HTTP/1.1\r\nHost: {target}"]
        assert asked_names == []


@pytest.mark.parametrize("who", ["proxy", "server"])
def test_the_certificates_of_both_are_verified(who: str, authority: Any) -> None:
    names = ["127.0.0.1"] if who == "server" else ["far.example"]
    with gateway(server_context(authority.issue_cert(*names))) as door:
        opening = spawn(Socket, "wss://far.example/", proxy=door.url("https"), ssl=client_context(authority))
        with pytest.raises((OSError, EOFError)):
            door.open(secure=True, inner=True)
        with pytest.raises(ssl.SSLCertVerificationError):
            opening.result()
        assert len(door.heads) == (1 if who == "server" else 0)


def test_a_proxy_by_name_is_looked_up(asked_names: list[str]) -> None:
    with gateway() as door:
        opening = spawn(Socket, "ws://far.example/", proxy=f"http://proxy.example:{door.port}/")
        door.open()
        opening.result().terminate()
        assert asked_names == ["proxy.example"]


def test_a_redirect_goes_through_the_proxy_too(far: Any) -> None:
    door, context = far
    opening = spawn(
        Socket, "ws://one.example/", proxy=door.url("http", "user:x@"), follow_redirects=True, ssl=context
    )
    sock = door.asked()
    sock.sendall(CONSENT)
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 301 Moved\r\nLocation: https://far.example/b\r\n\r\n")
    peer = door.open(inner=True)
    ws = opening.result()
    assert [head.split()[1] for head in door.heads] == ["one.example:80", "far.example:443"]
    assert all("Proxy-Authorization: Basic dXNlcjp4" in head for head in door.heads)
    assert b"Proxy" not in peer.head
    assert ws.url == "wss://far.example/b"
    ws.terminate()


# -- what comes back -------------------------------------------------------------------------------------------------

BAD = {
    "refused": (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\nX-Why: so\r\n\r\nwhy?", 407),
    "forbidden": (b"HTTP/1.0 403 Filtered\r\n\r\n<html>", 403),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", 302),
    "an upgrade": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", None),
    "only interim ones": (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, None),
    "interim ones without end": (b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, None),
    "a head without end": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000, None),
    "HTTP/0.9": (b"<html>hello</html>", None),
    "HTTP/2": (b"HTTP/2 200\r\n\r\n", None),
    "a control character": (b"HTTP/1.1 200 OK\x00\r\n\r\n", None),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x28", None),
    "half a head": (b"HTTP/1.1 200 OK\r\nX: ", None),
    "nothing": (b"", None),
}


@pytest.mark.parametrize(("answer", "status"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("blocking", [True, False])
def test_what_is_no_consent_is_a_proxy_error(answer: bytes, status: int | None, blocking: bool, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    with gateway() as door:
        proxy = door.url("http", f"user:{SECRET}@")
        opening = spawn(Socket, "ws://far.example/", proxy=proxy, blocking=blocking)
        sock = door.asked()
        with contextlib.suppress(OSError):
            sock.sendall(answer)
            sock.shutdown(socket.SHUT_WR)
        if blocking:
            with pytest.raises(syncws.ProxyError) as caught:
                opening.result()
            error = caught.value
        else:
            ws = opening.result()
            journal = Journal(ws, "redirect", "unexpected-response", "upgrade", "open", "error", "close")
            assert ws.wait_closed(PATIENCE)
            assert journal.told == ["error", "close"]
            error = journal.events[0].error
            assert isinstance(error, syncws.ProxyError)
        assert error.status == status
        assert (error.response is None) == (status is None)
        assert f"127.0.0.1:{door.port}" in str(error)
        if status == 407:
            assert (error.response.headers["x-why"], error.response.body) == ("so", b"why?")
        assert SECRET not in f"{error!r} {error} {vars(error)} {caplog.text}"
        with contextlib.suppress(ConnectionError):
            assert sock.recv(100) == b""


def test_what_came_behind_the_consent_is_the_servers(far: Any) -> None:
    early = b"HTTP/1.1 403 Early\r\nContent-Length: 0\r\n\r\n"
    with gateway() as door:
        opening = spawn(Socket, "ws://far.example/", proxy=door.url())
        sock = door.asked()
        sock.sendall(CONSENT + early)
        with pytest.raises(syncws.HandshakeError) as caught:
            opening.result()
        assert (caught.value.status, isinstance(caught.value, syncws.ProxyError)) == (403, False)
    door, context = far
    opening = spawn(Socket, "wss://far.example/", proxy=door.url(), ssl=context)
    sock = door.asked()
    sock.sendall(CONSENT + b"no TLS at all, and nothing else will come")
    with pytest.raises(ssl.SSLError):
        opening.result()


@pytest.mark.parametrize("consent", [
    b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 299 \r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + CONSENT, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
])  # fmt: skip
def test_a_consent_has_no_body_whatever_it_says(consent: bytes) -> None:
    with gateway() as door:
        opening = spawn(Socket, "ws://far.example/", proxy=door.url())
        peer = door.open(consent=consent)
        ws = opening.result()
        still_works(ws, peer)
        ws.terminate()


def test_the_body_of_a_refusal_is_not_waited_for_long(monkeypatch: Any) -> None:
    monkeypatch.setattr(proxies, "BODY_PATIENCE", 0.2)
    with gateway() as door:
        opening = spawn(Socket, "ws://far.example/", proxy=door.url())
        sock = door.asked()
        sock.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nha")
        with pytest.raises(syncws.ProxyError) as caught:
            opening.result()
        assert (caught.value.status, caught.value.response.body) == (403, b"ha")


def test_a_proxy_that_is_not_there_is_an_os_error() -> None:
    with gateway() as door:
        url = door.url()
    with pytest.raises(ConnectionRefusedError):
        Socket("ws://far.example/", proxy=url)


# -- how long, and until when ----------------------------------------------------------------------------------------

STAGES = {
    "the TLS of the proxy": ("https", lambda door: door.accept()),
    "the answer of the proxy": ("http", lambda door: door.asked()),
    "the TLS of the server": ("http", lambda door: answer(door, CONSENT)),
    "the answer of the server": ("https", lambda door: door.encrypt(answer(door, CONSENT, True))),
}
each_stage = pytest.mark.parametrize(("scheme", "get_there"), STAGES.values(), ids=STAGES)


def answer(door: Any, data: bytes, secure: bool = False) -> Any:
    sock = door.asked(secure=secure)
    sock.sendall(data)
    return sock


@each_stage
def test_all_stages_are_before_one_deadline(scheme: str, get_there: Any, far: Any) -> None:
    door, context = far
    began = time.monotonic()
    opening = spawn(Socket, "wss://far.example/", proxy=door.url(scheme), ssl=context, handshake_timeout=0.5)
    reached = spawn(get_there, door)
    with pytest.raises(TimeoutError, match=r"wss://far.example/ was not open within 0\.5 s"):
        opening.result()
    assert 0.5 <= time.monotonic() - began < 5
    reached.result()


@each_stage
@pytest.mark.parametrize("call", ["close", "terminate"])
def test_it_can_be_ended_at_every_stage(scheme: str, get_there: Any, call: str, far: Any) -> None:
    door, context = far
    ws = Socket("wss://far.example/", proxy=door.url(scheme), ssl=context, blocking=False)
    journal = Journal(ws)
    sock = get_there(door)
    getattr(ws, call)()
    assert ws.wait_closed(PATIENCE)
    assert journal.told == ["error", "close"]
    assert isinstance(journal.events[0].error, ConnectionAbortedError)
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):  # the client's part of TLS
            pass


# -- which one -------------------------------------------------------------------------------------------------------

BAD_PROXIES = [
    "", "http", "proxy:3128", "//proxy", "ftp://proxy", "ws://proxy", "http:proxy", "http://", "http://:80",
    "http://a b", "http://proxy:65536", "http://proxy:x", "http://proxy/path", "http://proxy?q", "http://proxy#f",
    "http://proxy\r\nX: y", "http://[::1", "http://u%0d%0a:p@proxy", "http://a%3ab:c@proxy", "socks5://u@proxy", "socks5://u:@proxy",
    "socks5://:p@proxy", f"socks5://{'u' * 256}:p@proxy", f"socks5://u:{'p' * 256}@proxy", "socks5://\u00fc:p@proxy",
    "socks4://u:p@proxy", "socks4://%00@proxy", "socks://proxy", "socks6://proxy", "http://pr\u00b2oxy\\x", "\\\\proxy",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_PROXIES)
def test_a_bad_url_of_a_proxy_is_a_value_error_that_hides_it(bad: str) -> None:
    with pytest.raises(ValueError) as caught:
        Socket("ws://127.0.0.1:1/", proxy=bad)
    assert len(bad) < 8 or bad not in str(caught.value)


@pytest.mark.parametrize("bad", [False, 5, b"http://proxy", ["http://proxy"], ("proxy", 80)])
def test_a_proxy_is_true_none_or_a_str(bad: Any) -> None:
    with pytest.raises(TypeError):
        Socket("ws://127.0.0.1:1/", proxy=bad)


def test_a_proxy_is_refused_where_there_can_be_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for url, more in (("ws://far.example/", {"sock": ours}), ("ws+unix:/tmp/none:/", {})):
            with pytest.raises(ValueError, match="proxy is of no use"):
                Socket(url, proxy="http://127.0.0.1:1", **more)


def test_a_context_is_of_use_for_an_https_proxy_only(client_tls: Any) -> None:
    with pytest.raises(ValueError, match="ssl is of no use"):
        Socket("ws://far.example/", proxy="http://127.0.0.1:1", ssl=client_tls)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://proxy", "http://proxy:80"), ("HTTPS://u:p@Proxy/", "https://proxy:443"),
        ("socks5h://[::1]", "socks5h://[::1]:1080"), ("socks4://u@10.0.0.1:9", "socks4://10.0.0.1:9"),
    ],
)  # fmt: skip
def test_a_proxy_is_shown_without_its_password(url: str, shown: str) -> None:
    proxy = proxies.parse_proxy(url)
    assert str(proxy) == shown
    assert "u" not in repr(proxy).replace("userinfo", "").replace("Proxy", "").replace("None", "")


P, Q = "http://p.example:1", "http://q.example:2"
ENVIRONMENTS = [
    ("ws://a.example/", {"http_proxy": P, "https_proxy": Q}, P),
    ("wss://a.example/", {"http_proxy": P, "https_proxy": Q}, Q),
    ("ws://a.example/", {"HTTP_PROXY": P}, P),
    ("wss://a.example/", {"HTTPS_PROXY": P}, P),
    ("ws://a.example/", {"http_proxy": P, "HTTP_PROXY": Q}, P),
    ("ws://a.example/", {"https_proxy": P}, None),
    ("wss://a.example/", {"http_proxy": P}, None),
    ("ws://a.example/", {"all_proxy": P}, P),
    ("wss://a.example/", {"ALL_PROXY": P, "https_proxy": Q}, Q),
    ("ws://a.example/", {"http_proxy": "", "all_proxy": ""}, None),
    ("ws://a.example/", {"http_proxy": "p.example:1"}, P),
    ("ws://a.example/", {"http_proxy": "p.example:1/"}, P),
    ("ws://a.example/", {"all_proxy": "socks5h://u:p@p.example"}, "socks5h://p.example:1080"),
    ("ws://a.example/", {"http_proxy": P, "no_proxy": "*"}, None),
    ("ws://a.example/", {"http_proxy": P, "no_proxy": "b.example, a.example"}, None),
    ("ws://a.example/", {"http_proxy": P, "NO_PROXY": "example"}, None),
    ("ws://a.example/", {"http_proxy": P, "no_proxy": ".Example"}, None),
    ("ws://xa.example/", {"http_proxy": P, "no_proxy": "a.example"}, P),
    ("ws://a.example:81/", {"http_proxy": P, "no_proxy": "a.example:81"}, None),
    ("ws://a.example:81/", {"http_proxy": P, "no_proxy": "a.example:82"}, P),
    ("ws://a.example/", {"http_proxy": P, "no_proxy": "a.example:80"}, None),
    ("ws://10.1.2.3/", {"http_proxy": P, "no_proxy": "10.1.2.3"}, None),
    ("ws://10.1.2.3/", {"http_proxy": P, "no_proxy": "x, 10.0.0.0/8"}, None),
    ("ws://11.1.2.3/", {"http_proxy": P, "no_proxy": "10.0.0.0/8,/,1/2"}, P),
    ("ws://[2001:db8::1]/", {"http_proxy": P, "no_proxy": "2001:db8::1"}, None),
    ("ws://[2001:db8::1]/", {"http_proxy": P, "no_proxy": "2001:db8::/32"}, None),
    ("ws://[2001:db9::1]/", {"http_proxy": P, "no_proxy": "2001:db8::/32"}, P),
    ("ws://[2001:db8::1]/", {"http_proxy": P, "no_proxy": "2001:0DB8::1"}, None),
    ("ws://[2001:db8::1]/", {"http_proxy": P, "no_proxy": "x, [2001:db8::]/32"}, None),
    ("ws://[2001:db8::1]/", {"http_proxy": P, "no_proxy": "2001:0DB8::2"}, P),
    ("ws://a.example/", {"http_proxy": P, "no_proxy": "x, *"}, None),
    ("ws://a.example./", {"http_proxy": P, "no_proxy": "a.example"}, None),
    *((f"ws://{host}/", {"http_proxy": P}, None) for host in ("localhost", "x.localhost", "127.0.0.9", "[::1]")),
    ("ws+unix:/tmp/a:/", {"http_proxy": P, "all_proxy": P}, None),
]  # fmt: skip


@pytest.mark.parametrize(("url", "environment", "expected"), ENVIRONMENTS)
def test_the_environment_is_obeyed(url: str, environment: dict[str, str], expected: Any, monkeypatch: Any) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxies.choose(urls.parse(url), True)
    assert (found and str(found)) == expected
    assert proxies.choose(urls.parse(url), None) is None


@pytest.mark.parametrize("bad", [f"ftp://u:{SECRET}@p", f"http://u:{SECRET}@p:99999", f"http://u:{SECRET}@/x y"])
def test_a_bad_value_in_the_environment_is_ignored_with_a_warning(bad: str, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setenv("http_proxy", bad)
    assert proxies.choose(urls.parse("ws://a.example/"), True) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert SECRET not in caplog.text


def test_a_proxy_of_the_environment_is_used_by_default_and_an_argument_wins(monkeypatch: Any) -> None:
    with gateway() as door, gateway() as other:
        monkeypatch.setenv("http_proxy", door.url())
        for gate, options in ((door, {}), (door, {"proxy": True}), (other, {"proxy": other.url()})):
            opening = spawn(Socket, "ws://far.example/", **options)
            gate.open()
            opening.result().terminate()
        assert (len(door.heads), len(other.heads)) == (2, 1)
        monkeypatch.setenv("no_proxy", "far.example")
        opening = spawn(Socket, "ws://far.example/", proxy=door.url())
        door.open()
        opening.result().terminate()


def test_the_loopback_is_proxied_only_if_one_says_so(monkeypatch: Any) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving() as server, Socket(url_of(server)) as ws:
        ws.send("direct")
        assert ws.recv(PATIENCE) == "direct"
        with pytest.raises(ConnectionRefusedError):
            Socket(url_of(server), proxy="http://127.0.0.1:1")
