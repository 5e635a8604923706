"""`upgrade` in each server that it knows, over real connections, plain and with TLS.

After each test nobody is left in the server, and its log tells of nothing that the test did not ask for: see `host` in
conftest.py.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import time
from collections import Counter

import pytest
import raw
import world
from launch import MATRIX
from peer import BINARY, CLOSE, CONTINUE, TEXT, Peer, close_payload, frame

pytestmark = [
    world.threads_only,
    pytest.mark.parametrize("running", MATRIX, indirect=True, scope="session"),
]

ZEROS = b"\0\0\0\0"  # a mask that leaves bytes legible


def ours(opcode, payload=b"", **how):
    """A client's frame."""
    return frame(opcode, payload, mask=ZEROS, **how)


def request(target, *further, **replaced):
    return raw.head(*further, first=f"GET {target} HTTP/1.1", **replaced)


def answered(sock):
    """A peer on a connection that others have used, which has read a head."""
    peer = Peer(sock, client=True)
    peer.head = peer.read_head()
    return peer


def needs(able, what):
    if not able:
        pytest.skip(what)


# -- messages ----------------------------------------------------------------------------------------------------


def test_text_and_binary_come_back(host):
    large = os.urandom(3_000_000)
    with host.client("/echo") as ws:
        for message in ("häuser", b"\0\1", "", large):
            ws.send(message)
            assert ws.recv(world.PATIENCE) == message
    assert ws.close_code == 1000


def test_fragments_are_one_message(host):
    with host.client("/echo") as ws:
        ws.send(iter(["one ", "two ", "three"]))
        assert ws.recv(world.PATIENCE) == "one two three"


def test_messages_are_compressed(host):
    with host.client("/echo", compression=True) as ws:
        ws.send("x" * 100_000)
        assert ws.recv(world.PATIENCE) == "x" * 100_000
        assert "permessage-deflate" in ws.extensions
        assert ws.bytes_received < 10_000


def test_listeners_are_told(host):
    with host.client("/listen") as ws:
        for number in range(20):
            ws.send(f"{number}")
            assert ws.recv(world.PATIENCE) == f"{number}"
    assert ws.close_code == 1000


def test_a_subprotocol_and_headers_are_in_the_answer(host):
    with host.client("/echo", protocols=["chat"]) as ws:
        assert ws.protocol == "chat"
        assert ws.response.headers["X-Extra"] == "yes"


def test_another_thread_sends_beside_the_handler(host):
    with host.client("/push") as ws:
        for number in range(200):
            ws.send(f"echoed {number}")
        got = Counter(ws.recv(world.PATIENCE).split()[0] for _ in range(400))
    assert got == {"pushed": 200, "echoed": 200}


# -- how it begins -----------------------------------------------------------------------------------------------

BEGINNINGS = {
    "one-frame": [ours(TEXT, b"early")],
    "several-frames": [ours(TEXT, b"one"), ours(TEXT, b"two"), ours(BINARY, b"three")],
    "larger-than-a-buffer": [ours(BINARY, bytes(range(250)) * 80)],
    "fragments": [ours(TEXT, b"be", fin=False), ours(CONTINUE, b"gin")],
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_frames_may_come_with_the_request(host, beginning):
    needs(host.kind.early, "it loses them")
    frames = BEGINNINGS[beginning]
    with host.peer(request("/echo") + b"".join(frames)) as peer:
        echoed = [peer.read() for _ in range(1 if beginning == "fragments" else len(frames))]
        assert b"".join(got.payload for got in echoed) == b"".join(data[data.index(ZEROS) + 4 :] for data in frames)
        end(peer)


def test_a_frame_may_be_cut_by_the_end_of_the_request_s_segment(host):
    needs(host.kind.early, "it loses the first part")
    message = ours(TEXT, b"in two halves")
    with host.peer(request("/echo") + message[:9]) as peer:
        peer.send_raw(message[9:])
        assert peer.read().payload == b"in two halves"
        end(peer)


def test_a_close_may_come_with_the_request(host):
    needs(host.kind.early, "it loses it")
    with host.peer(request("/echo") + ours(CLOSE, close_payload(3000, "soon"))) as peer:
        peer.expect_close(3000, answer=False)
        peer.expect_end()


def test_a_request_may_come_byte_by_byte(host):
    with host.connect() as sock:
        for byte in request("/echo"):
            sock.sendall(bytes([byte]))
        peer = answered(sock)
        assert peer.head.startswith(b"HTTP/1.1 101 ")
        end(peer)


def test_middleware_may_copy_the_environ_and_wrap_start_response(host):
    needs(not host.name.startswith("http.server"), "it has neither")
    with host.peer(request("/wrapped") + (ours(TEXT, b"early") if host.kind.early else b"")) as peer:
        if host.kind.early:
            assert peer.read().payload == b"early"
        end(peer)


def test_header_values_may_be_in_any_case(host):
    with host.peer(request("/echo", Upgrade="WebSocket", Connection="keep-alive, upgrade")) as peer:
        assert peer.head.startswith(b"HTTP/1.1 101 ")
        end(peer)


@pytest.mark.parametrize("pipelined", [False, True], ids=["in-turn", "pipelined"])
def test_other_requests_may_come_first_on_the_connection(host, pipelined):
    needs(host.kind.keeps, "it serves one request to a connection")
    plain = b"GET /plain HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    upgrade = request("/echo") + ours(TEXT, b"after")
    with host.connect() as sock:
        sock.sendall(plain + upgrade if pipelined else plain)
        peer = answered(sock)
        assert peer.head.startswith(b"HTTP/1.1 200 ")
        assert peer._take(5) == b"plain"
        if not pipelined:
            peer.send_raw(upgrade)
        peer.head = peer.read_head()
        assert peer.head.startswith(b"HTTP/1.1 101 ")
        assert peer.read().payload == b"after"
        end(peer)


# -- how it ends ---------------------------------------------------------------------------------------------------


def end(peer, code=1000):
    """A closing handshake of ours, and the end of the stream at once, with nothing before it."""
    peer.send(CLOSE, close_payload(code))
    peer.expect_close(code, answer=False)
    began = time.monotonic()
    peer.expect_end()
    assert time.monotonic() - began < 1


def test_a_client_s_close_is_answered_and_tcp_ended(host):
    with host.peer(request("/echo")) as peer:
        end(peer, 4001)


def test_a_handler_s_close_arrives_with_code_and_reason(host):
    with host.peer(request("/bye")) as peer:
        assert peer.read().payload == b"x"
        assert peer.expect_close(3001).payload[2:] == b"bye"
        began = time.monotonic()
        peer.expect_end()
        assert time.monotonic() - began < 1


def test_a_handler_that_returns_closes_with_1000(host):
    with host.peer(request("/once")) as peer:
        peer.send(TEXT, b"x")
        assert peer.read().payload == b"x"
        peer.expect_close(1000)
        peer.expect_end()


def test_a_handler_that_raises_closes_with_1011(host):
    with host.peer(request("/fail")) as peer:
        peer.expect_close(1011)
        peer.expect_end()
    host.failures = 1


@pytest.mark.parametrize("when", ["with-the-close", "afterwards"])
def test_what_comes_behind_a_close_is_never_a_request(host, when):
    evil = b"GET /evil HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    close = ours(CLOSE, close_payload(1000))
    with host.peer(request("/echo")) as peer:
        peer.send_raw(close + evil if when == "with-the-close" else close)
        peer.expect_close(1000, answer=False)
        if when == "afterwards":
            try:
                peer.send_raw(evil)
            except OSError:
                return  # it is over already
        peer.expect_end()
    assert host.state()["evil"] == []


_LOGGING = ("http.server", "werkzeug", "gunicorn-gthread", "gunicorn-gevent", "pywsgi", "eventlet")


def test_the_log_tells_of_one_response_and_of_the_right_one(host):
    needs(host.name.partition("+")[0] in _LOGGING, "its log says nothing of the kind, or not so")
    lines = re.compile(r"GET /once HTTP/1\.1\S* (\d+)")  # with or without colours
    before = len(lines.findall(host.log()))
    with host.peer(request("/once")) as peer:
        peer.send(TEXT, b"x")
        peer.read()
        peer.expect_close(1000)
        peer.expect_end()
    world.eventually(lambda: len(lines.findall(host.log())) > before)
    assert lines.findall(host.log())[before:] == ["101"]


def test_who_goes_on_sending_behind_a_close_holds_nobody_up(host):
    with host.peer(request("/echo")) as peer:
        try:
            peer.send_raw(ours(CLOSE, close_payload(1000)) + b"x" * 2_000_000)
            peer.expect_close(1000, answer=False)
            peer.expect_end()
        except ConnectionError:
            pass  # reset


VANISHING = {
    "end": b"",
    "end-in-a-frame": ours(TEXT, b"never finished")[:9],
    "end-in-a-header": b"\x81",
}


@pytest.mark.parametrize("what", VANISHING)
def test_a_client_may_vanish(host, what):
    with host.peer(request("/echo")) as peer:
        peer.send(TEXT, b"x")
        assert peer.read().payload == b"x"
        peer.send_raw(VANISHING[what])
        peer.end()
        with contextlib.suppress(ssl.SSLError):  # an alert: the end came without one
            assert [got.opcode for got in peer.read_all()] in ([], [CLOSE])


@pytest.mark.parametrize("target", ["/echo", "/listen"])
def test_a_client_may_reset_the_connection(host, target):
    peer = host.peer(request(target))
    peer.send(TEXT, b"x")
    assert peer.read().payload == b"x"
    peer.send_raw(b"\x81")
    peer.reset()


@pytest.mark.parametrize("target", ["/flood", "/cut"])
def test_a_sender_that_nobody_reads_from_is_freed(host, target):
    """By its time-out, and by `terminate`."""
    needs(host.kind.crowd, "it serves nobody beside, of whom it could be asked")
    with host.connect(room=4096) as sock:
        sock.sendall(request(target))
        peer = answered(sock)
        peer.read()
        told = len(host.state()["outcomes"])
        peer.send(TEXT, b"now")
        world.eventually(lambda: len(host.state()["outcomes"]) > told)
    assert host.state()["outcomes"][-1] == ("TimeoutError" if target == "/flood" else "ConnectionClosed")


# -- refusals ------------------------------------------------------------------------------------------------------

_OWN_UPGRADE = ("wsgiref", "django", "waitress")  # they let no application set this header
REFUSALS = {
    "no-upgrade": (b"GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 426, b""),
    "version": (request("/echo", Sec_WebSocket_Version="12"), 400, b""),
    "no-key": (request("/echo", Sec_WebSocket_Key=None), 400, b""),
    "bad-key": (request("/echo", Sec_WebSocket_Key="c2hvcnQ="), 400, b""),
    "origin": (request("/echo", "Origin: http://elsewhere.example"), 403, b""),
    "path": (request("/nowhere"), 404, b""),
    "body": (request("/echo", "Content-Length: 5") + b"hello", 400, b""),
    "chunked": (request("/echo", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n", 400, b""),
    "verifier": (request("/locked"), 401, b""),
    "verifier's own": (request("/teapot"), 418, b"short and stout"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_who_is_not_let_in_gets_an_ordinary_response(host, case):
    data, status, body = REFUSALS[case]
    with host.socket() as sock:
        sock.sendall(data)
        with http.client.HTTPResponse(sock) as answer:
            answer.begin()
            assert answer.status == status
            assert body in answer.read()
    if status == 426 and not host.name.startswith(_OWN_UPGRADE):
        assert answer.getheader("Upgrade") == "websocket"
    if case == "version":
        assert answer.getheader("Sec-WebSocket-Version") == "13, 8"


def test_the_connection_of_who_is_refused_goes_on(host):
    needs(host.kind.keeps and not host.name.startswith("http.server"), "it serves one request to a connection")
    with host.http() as connection:
        for path, status in (("/echo", 426), ("/plain", 200)):
            connection.request("GET", path)
            with connection.getresponse() as answer:
                answer.read()
                assert answer.status == status


def test_http_1_0_is_refused(host):
    needs(not host.name.startswith("eventlet"), "it does not say which version it was")
    with host.connect() as sock:
        sock.sendall(raw.head(first="GET /echo HTTP/1.0"))
        assert b" 400 " in raw.read_to_end(sock).partition(b"\r\n")[0]


# -- the server beside it --------------------------------------------------------------------------------------------


def test_requests_are_served_beside_connections(host):
    needs(host.kind.crowd, "it serves one at a time")
    with host.client("/echo") as ws:
        assert host.get("/plain") == (200, b"plain")
        ws.send("still here")
        assert ws.recv(world.PATIENCE) == "still here"
    with host.http() as connection:
        connection.request("POST", "/post", b"x" * 10_000)
        with connection.getresponse() as answer:
            assert answer.read() == b"10000 bytes"


def test_fifty_at_once(host):
    needs(host.kind.crowd, "it serves one at a time")
    clients = [host.client("/echo") for _ in range(50)]
    for number, ws in enumerate(clients):
        ws.send(f"{number}")
    assert [ws.recv(world.PATIENCE) for ws in clients] == [f"{number}" for number in range(50)]
    assert host.get("/plain") == (200, b"plain")
    for ws in clients:
        ws.close(1000)
    for ws in clients:
        assert ws.wait_closed(world.PATIENCE)
        assert ws.close_code == 1000


def test_descriptors_and_threads_come_back(host):
    def held():
        state = host.state()
        # A pool of threads that grows while it is used says nothing.
        threads = 0 if "gthread" in host.name else state["threads"]
        return Counter(state["descriptors"]) + Counter(threads=threads)

    def some(count):
        for number in range(count):
            with host.peer(request(("/echo", "/listen")[number % 2])) as peer:
                end(peer)

    some(10)
    before = held()
    some(30 if host.tls else 200)
    world.eventually(lambda: held() <= before)


def test_an_idle_connection_outlives_the_server_s_time_outs(host):
    """cheroot's, and a class attribute of `http.server`'s handlers, are 1 s here."""
    needs(host.idler is not None, "it serves one at a time")
    time.sleep(max(0.0, host.idler_since + 1.5 - time.monotonic()))
    host.idler.send("awake")
    assert host.idler.recv(world.PATIENCE) == "awake"
    host.idler.close(1000)
    assert host.idler.wait_closed(world.PATIENCE)


# -- the end of more than the connection: the last, for some servers end with it ---------------------------------------

INTERRUPTS = {
    "threads": ["SystemExit"],
    "gevent": ["GreenletExit", "Timeout", "SystemExit"],
    "eventlet": ["Timeout", "SystemExit"],
}


def test_what_interrupts_the_server_closes_with_1001(host):
    host.doomed = True
    for kind in INTERRUPTS[host.kind.world]:
        with host.peer(request(f"/interrupt?{kind}")) as peer:
            if kind == "SystemExit":
                peer.send(TEXT, b"now")
            got = peer.read()
            assert (got.opcode, got.code) == (CLOSE, 1001), kind
            peer.send(CLOSE, got.payload)
            peer.expect_end()
