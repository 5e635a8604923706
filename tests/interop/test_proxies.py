"""Through proxies that people run: CONNECT with a password, over TLS too, and SOCKS."""

from __future__ import annotations

import os
from typing import Any

import proxies
import pytest
from world import PATIENCE, Socket, echo, raw_listener, serving

import syncws

KNOWN = f"{proxies.USER}:{proxies.PASSWORD}@"
# Without socks4a, which none of these serves: see test_socks.py.
ROUTES = [
    ("tinyproxy", "http", KNOWN),
    ("squid", "http", KNOWN),
    ("squid", "https", KNOWN),
    ("danted", "socks4", ""),
    ("danted", "socks5", ""),
    ("danted", "socks5h", ""),
    ("danted", "socks5h", KNOWN),
    ("microsocks", "socks5", KNOWN),
    ("microsocks", "socks5h", KNOWN),
]
each_route = pytest.mark.parametrize(("program", "scheme", "userinfo"), ROUTES)


@pytest.fixture(scope="module")
def running(authority: Any) -> Any:
    """By program: call it to have one."""
    started: dict[str, Any] = {}

    def get(program: str) -> Any:
        if program in ("danted", "microsocks"):
            pytest.importorskip("python_socks", reason="*** python-socks IS NOT HERE ***")
        if program not in started:
            started[program] = proxies.start(program, authority.issue_cert("localhost"))
        return started[program]

    yield get
    for proxy in started.values():
        proxy.stop()


@each_route
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_a_session_goes_through(
    program: str, scheme: str, userinfo: str, secure: bool, running: Any, server_tls: Any, client_tls: Any
) -> None:
    proxy = running(program)
    needs_context = secure or scheme == "https"
    with serving(echo, ssl=server_tls if secure else None, compression=True) as server:
        url = f"{'wss' if secure else 'ws'}://localhost:{server.address()[1]}/"
        with Socket(url, proxy=proxy.url(scheme, userinfo), ssl=client_tls if needs_context else None) as ws:
            large = os.urandom(1 << 20)
            for message in ("hello", large, "", "a" * 70000):
                ws.send(message)
                assert ws.recv(PATIENCE) == message
            assert ws.remote_address[1] in proxy.ports
        assert (ws.close_code, ws.readyState) == (1000, ws.CLOSED)


@pytest.mark.parametrize(("program", "scheme"), [(p, s) for p, s, known in ROUTES if known and p != "danted"])
@pytest.mark.parametrize("userinfo", ["", f"{proxies.USER}:wrong@"])
def test_a_stranger_is_refused(program: str, scheme: str, userinfo: str, running: Any, client_tls: Any) -> None:
    proxy = running(program)
    with serving() as server, pytest.raises(syncws.ProxyError) as caught:
        url = f"ws://localhost:{server.address()[1]}/"
        Socket(url, proxy=proxy.url(scheme, userinfo), ssl=client_tls if scheme == "https" else None)
    assert "wrong" not in str(caught.value)
    if scheme.startswith("http"):
        assert caught.value.status in (401, 407)
        assert caught.value.response.body


@each_route
def test_a_server_that_is_not_there_is_told(
    program: str, scheme: str, userinfo: str, running: Any, client_tls: Any
) -> None:
    proxy = running(program)
    with raw_listener() as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(syncws.ProxyError) as caught:
        Socket(url, proxy=proxy.url(scheme, userinfo), ssl=client_tls if scheme == "https" else None)
    if scheme.startswith("http"):
        assert caught.value.status >= 500
