"""Which connections `upgrade` gets from a WSGI environ, and what it says where there is none to be had.

Real servers are in tests/hosts/; here are environs as they make them, over pairs of sockets.
"""

from __future__ import annotations

import io
import sys
import types
from typing import Any
from urllib.parse import unquote

import pytest
import world
from peer import CLOSE, TEXT, Peer, frame
from raw import KEY

import syncws

if world.GREEN:
    from syncws.gevent import upgrade
else:
    from syncws import upgrade

HINT = "start a syncws.Server on a port of its own"


def environ_of(**replaced: Any) -> dict[str, Any]:
    """The environ of an upgrade; names with `__` for a dot."""
    made = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/chat",
        "QUERY_STRING": "room=1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "someserver/1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": KEY,
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.input": io.BytesIO(),
    }
    return made | {name.replace("__", "."): value for name, value in replaced.items()}


@pytest.mark.parametrize("path", ["/a%b", "/a/b", "/a%2Fb", "/\xc3\xa4 ?#"])
def test_a_path_that_only_stands_there_decoded_is_encoded_again(path: str) -> None:
    seen: list[str] = []

    def look(info: Any) -> bool:
        seen.append(info.request.path)
        return False

    upgrade(world.echo, verify_client=look)(environ_of(PATH_INFO=path), Answer())
    assert [unquote(found, "latin-1") for found in seen] == [path]


class Answer:
    """`start_response`, and what it was told."""

    status = ""

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.status, self.headers = status, dict(headers)


@pytest.fixture
def pair():
    ours, theirs = world.pair_of_sockets()
    theirs.settimeout(world.PATIENCE)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture(autouse=True)
def nothing_complained_of(monkeypatch):
    monkeypatch.setattr("syncws.doorway._complaints", set())


def converse(environ: Any, sock: Any, **options: Any) -> Answer:
    """A session with a client at `sock`, which sends a message and a Close, and gets nothing after that."""
    app, answer = upgrade(world.echo, **options), Answer()
    serving = world.spawn(app, environ, answer)
    peer = Peer(sock, client=True)
    assert peer.read_head().startswith(b"HTTP/1.1 101 ")
    peer.send(TEXT, b"hello")
    assert peer.read().payload == b"hello"
    peer.send(CLOSE, b"\x03\xe8")
    peer.expect_close(1000, answer=False)
    peer.expect_end()
    peer.close()
    assert list(serving.result()) == []
    assert answer.status == "101 Switching Protocols"
    return answer


# -- where there is none ---------------------------------------------------------------------------------------


class WSGIBody:
    """As granian's: it can be read, and no more."""

    def read(self, size: int = -1) -> bytes:
        return b""

    readline = read


def waitress() -> Any:
    channel = types.SimpleNamespace(client_disconnected=None)
    return types.MethodType(lambda self: False, channel)


def uwsgi(**options: Any) -> Any:
    return types.SimpleNamespace(opt={name.replace("_", "-").encode(): b"" for name in options})


REFUSED = {
    "a body in memory": ({}, "wsgi.input is a _io.BytesIO"),
    "a body that can only be read": ({"wsgi__input": WSGIBody()}, "WSGIBody"),
    "no body": ({"wsgi__input": None}, "NoneType"),
    "HTTP/2": ({"SERVER_PROTOCOL": "HTTP/2", "gunicorn__socket": object()}, "RFC 8441"),
    "HTTP/2.0": ({"SERVER_PROTOCOL": "HTTP/2.0", "werkzeug__socket": object()}, "RFC 8441"),
    "gunicorn's sync": ({"gunicorn__socket": object(), "wsgi__multithread": False}, "-k gthread --threads N"),
    "waitress": ({"waitress__client_disconnected": waitress()}, "allow=['waitress']"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_who_gives_no_connection_up_answers_501_and_the_log_says_why_once(case, caplog):
    keys, why = REFUSED[case]
    app = upgrade(world.echo)
    for _ in range(3):
        answer = Answer()
        body = b"".join(app(environ_of(**keys), answer))
        assert answer.status.startswith("501 ")
        assert answer.headers["Content-Length"] == str(len(body))
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "cannot take over the connection" in record.getMessage()
    assert why in record.getMessage()
    caplog.expected_errors = 1


UWSGI = {
    "TLS of its own": ({"https_socket"}, "--https with --http-websockets"),
    "a router for HTTP only": ({"http"}, "--http-websockets only"),
}


@pytest.mark.parametrize("case", UWSGI)
def test_uwsgi_is_refused_by_its_options(case, caplog, monkeypatch):
    options, why = UWSGI[case]
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi(**dict.fromkeys(options)))
    answer = Answer()
    upgrade(world.echo)(environ_of(uwsgi__version=b"2"), answer)
    assert answer.status.startswith("501 ")
    assert why in caplog.text
    caplog.expected_errors = 1


def test_a_view_is_told_by_an_exception():
    with pytest.raises(syncws.UpgradeUnsupported, match=HINT):
        upgrade(world.echo).handle(environ_of())


@pytest.fixture(autouse=True)
def as_many_errors_as_there_are(caplog, request):
    if "view" in request.node.name or "client" in request.node.name:
        caplog.expected_errors = None


def test_werkzeug_s_test_client_gets_501():
    client = pytest.importorskip("werkzeug.test").Client(upgrade(world.echo))
    keys = environ_of()
    headers = {name[5:].replace("_", "-"): value for name, value in keys.items() if name.startswith("HTTP_")}
    response = client.get("/chat", headers=headers)
    assert response.status_code == 501
    assert client.get("/chat").status_code == 426


def test_django_s_test_client_is_told_by_an_exception():
    conf = pytest.importorskip("django.conf")
    if not conf.settings.configured:
        conf.settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"])
    from django.test import RequestFactory

    keys = {name: value for name, value in environ_of().items() if name.startswith("HTTP_")}
    request = RequestFactory(SERVER_NAME="127.0.0.1").get("/chat", **keys)
    with pytest.raises(syncws.UpgradeUnsupported, match="FakePayload"):
        upgrade(world.echo).handle(request.environ)


# -- where there is one ----------------------------------------------------------------------------------------


class Relay:
    """What looks like a socket, and is none of any known class."""

    def __init__(self, sock: Any) -> None:
        self._real = sock
        self.sent = b""

    def send(self, data: Any) -> int:
        count = self._real.send(data)
        self.sent += bytes(data[:count])
        return int(count)

    def __getattr__(self, name: str) -> Any:
        if name in ("recv", "settimeout", "gettimeout", "shutdown", "fileno"):
            return getattr(self._real, name)
        raise AttributeError(name)


@pytest.mark.parametrize("key", ["werkzeug.socket", "gunicorn.socket"])
def test_an_object_that_looks_like_a_socket_is_spoken_through(pair, key):
    """As platforms put one there, which watch for the 101."""
    relay = Relay(pair[0])
    converse(environ_of() | {key: relay}, pair[1])
    assert relay.sent.startswith(b"HTTP/1.1 101 ")
    assert b"hello" in relay.sent


def test_an_environ_that_was_copied_will_do(pair):
    body = pair[0].makefile("rb")
    converse(dict(environ_of(wsgi__input=body)), pair[1])
    body.close()


def test_wrappers_of_the_body_are_looked_through(pair):
    body = pair[0].makefile("rb")
    wrapped = types.SimpleNamespace(stream=types.SimpleNamespace(_read=body.read, close=print))
    converse(environ_of(wsgi__input=types.SimpleNamespace(input=wrapped)), pair[1])
    body.close()


def test_what_the_server_has_read_is_not_lost(pair):
    ours, theirs = pair
    body = ours.makefile("rb")
    theirs.sendall(b"GET / HTTP/1.1\r\n\r\n" + frame(TEXT, b"early", mask=b"\0\0\0\0"))
    while body.readline().strip():
        pass
    seen: list[Any] = []
    app = upgrade(lambda ws, request: seen.append(ws.recv(5)))
    serving = world.spawn(app, environ_of(wsgi__input=body), Answer())
    peer = Peer(theirs, client=True)
    peer.read_head()
    peer.expect_close(1000)
    peer.expect_end()
    peer.close()
    serving.result()
    assert seen == ["early"]
    body.close()


GIVEN = {
    "a pair": lambda sock, released: (sock, b""),
    "a Takeover": lambda sock, released: syncws.Takeover(sock, release=lambda: released.append(1)),
    "what makes one": lambda sock, released: lambda environ: syncws.Takeover(sock, b""),
}


@pytest.mark.parametrize("form", GIVEN)
def test_a_server_may_put_a_takeover_into_the_environ(pair, form):
    released: list[int] = []
    # It goes before all else, also before what speaks against it.
    keys = {"syncws.takeover": GIVEN[form](pair[0], released), "SERVER_PROTOCOL": "HTTP/1.1"}
    converse(environ_of() | keys, pair[1])
    assert released == ([1] if form == "a Takeover" else [])


def test_the_101_may_be_the_server_s_to_send(pair):
    announced: list[Any] = []

    def announce(start_response: Any, response: Any) -> None:
        announced.append(response.status)
        pair[0].sendall(b"HTTP/1.1 101 Mine\r\n\r\n")

    app = upgrade(lambda ws, request: None)
    takeover = syncws.Takeover(pair[0], announce=announce)
    serving = world.spawn(app, environ_of() | {"syncws.takeover": takeover}, Answer())
    peer = Peer(pair[1], client=True)
    assert peer.read_head() == b"HTTP/1.1 101 Mine"
    peer.send(CLOSE, b"\x03\xe8")
    peer.expect_close(1000, answer=False)
    peer.expect_end()
    peer.close()
    serving.result()
    assert announced == [101]


# -- further hosts ---------------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr("syncws.hosts._registered", [])


def test_a_registered_host_is_asked_first(pair, registry):
    syncws.register_host("mine", lambda environ: "mine" in environ, lambda environ: (environ["mine"], b""))
    converse(environ_of(mine=pair[0], werkzeug__socket=object()), pair[1])


def test_a_host_of_the_same_name_replaces_the_other(pair, registry):
    syncws.register_host("mine", lambda environ: True, lambda environ: 1 / 0)
    syncws.register_host("mine", lambda environ: True, lambda environ: syncws.Takeover(pair[0]))
    converse(environ_of(), pair[1])


def test_a_registered_host_may_refuse(registry, caplog):
    def take(environ: Any) -> Any:
        raise syncws.UpgradeUnsupported("not on Sundays")

    syncws.register_host("mine", lambda environ: True, take)
    answer = Answer()
    upgrade(world.echo)(environ_of(), answer)
    assert answer.status.startswith("501 ")
    assert "not on Sundays" in caplog.text
    caplog.expected_errors = 1


@pytest.mark.parametrize("arguments", [("mine", None, print), ("mine", print, 1)])
def test_a_host_is_two_functions(arguments, registry):
    with pytest.raises(TypeError, match="must be callable"):
        syncws.register_host(*arguments)


# -- what is to end more than the connection -----------------------------------------------------------------------


class Unwound(BaseException):
    """As greenlets are ended."""


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, Unwound])
@pytest.mark.parametrize("where", ["handler", "listener-style", "after the handler"])
def test_it_closes_with_1001_and_goes_on(pair, kind, where, monkeypatch):
    released: list[int] = []

    def hit(role: Any, deadline: Any) -> bool:
        raise kind

    def accept(ws: Any, request: Any) -> None:
        if where == "handler":
            ws.recv()
        else:
            ws.onmessage = print
        if where == "after the handler":
            monkeypatch.setattr(type(ws), "_step", lambda ws, *arguments: hit(*arguments))
            monkeypatch.setattr(type(ws), "_read_in_short", lambda ws, role: False)
            return
        raise kind

    answer = Answer()
    takeover = syncws.Takeover(pair[0], release=lambda: released.append(1))

    def run() -> str:
        try:
            upgrade(accept)(environ_of() | {"syncws.takeover": takeover}, answer)
        except kind as error:
            return type(error).__name__
        return "nothing"

    serving = world.spawn(run)
    peer = Peer(pair[1], client=True)
    peer.read_head()
    if where == "handler":
        peer.send(TEXT, b"now")
    peer.expect_close(1001)
    peer.expect_end()
    peer.close()
    assert serving.result() == kind.__name__
    assert released == [1]
    assert answer.status == ""
    with pytest.raises(OSError):
        for _ in range(2):
            pair[0].sendall(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")


def test_a_client_that_does_not_answer_that_holds_up_nobody_for_long(pair):
    def accept(ws: Any, request: Any) -> None:
        raise SystemExit

    def run() -> None:
        with pytest.raises(SystemExit):
            upgrade(accept)(environ_of() | {"syncws.takeover": (pair[0], b"")}, Answer())

    serving = world.spawn(run)
    serving.result(3)


STEPS = ("client.Socket._start_keepalive", "client.Socket._ensure_loop", "doorway.serve")


@pytest.mark.parametrize("step", STEPS)
def test_interrupted_between_the_101_and_the_session_the_server_says_no_more(pair, step, monkeypatch):
    sockets: list[Any] = []

    def interrupt(ws: Any, *_: Any, **__: Any) -> None:
        sockets.append(ws)
        raise Unwound

    monkeypatch.setattr(f"syncws.{step}", interrupt)
    with pytest.raises(Unwound):
        upgrade(world.echo)(environ_of() | {"syncws.takeover": (pair[0], b"")}, Answer())
    with pytest.raises(OSError):
        pair[0].sendall(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
    sockets[0].terminate()
    peer = Peer(pair[1], client=True)
    peer.read_head()
    peer.expect_end()
    peer.close()
