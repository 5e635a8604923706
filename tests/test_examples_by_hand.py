"""The examples for those who come from other libraries, run as they are: each does what its docstring says."""

from __future__ import annotations

import http.client
import re
import signal
from urllib.parse import urlsplit

import pytest
import world
from command import ROOT, Command, run, serving
from peer import CLOSE, PING, PONG, Peer
from world import PATIENCE, Socket

import syncws

pytestmark = world.threads_only  # processes of their own, which no test mode reaches


def ask(url, path="/", method="GET"):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def answer_to(message, url, **how):
    with Socket(url, **how) as ws:
        ws.send(message)
        return ws.recv(PATIENCE)


def status_of(url, **how):
    with pytest.raises(syncws.HandshakeError) as caught:
        Socket(url, **how)
    return caught.value.status


def test_an_http_server_has_its_page_and_our_echo_on_one_port():
    with serving("http_server.py", logs=True) as url:
        status, headers, page = ask(url)
        assert (status, headers["Content-Type"]) == (200, "text/html")
        assert b"new WebSocket(" in page
        assert answer_to("hello", url) == "hello"
        assert ask(url)[0] == 200


def test_two_paths_share_an_http_server():
    with serving("two_paths.py", logs=True) as url:
        assert answer_to("hello", f"{url}foo") == "foo: hello"
        assert answer_to("hello", f"{url}bar") == "bar: hello"
        assert status_of(f"{url}else") == 404


def test_without_a_token_there_is_no_connection():
    with serving("authentication.py") as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "ü"}):
            with pytest.raises(syncws.HandshakeError) as caught:
                Socket(url, headers=headers)
            assert (caught.value.status, caught.value.response.headers["WWW-Authenticate"]) == (401, "Bearer")
        for user in ("anna", "ben"):
            assert answer_to("hello", url, headers={"Authorization": f"Bearer {user}-secret"}) == f"{user}: hello"


def test_who_has_not_logged_in_is_answered_by_the_http_server():
    with serving("login.py", logs=True) as url:
        assert status_of(url) == status_of(url, headers={"Cookie": "session=guessed"}) == 401
        for number in (1, 2):
            status, headers, _ = ask(url, "/login", "POST")
            cookie = headers["Set-Cookie"].partition(";")[0]
            with Socket(url, headers={"Cookie": cookie}) as ws:
                assert (status, ws.recv(PATIENCE)) == (204, f"welcome, user {number}")


def test_a_message_reaches_all_or_all_but_its_sender():
    with serving("broadcast.py") as url:
        for path, own in (("all", ["to all"]), ("others", [])):
            with Socket(f"{url}{path}") as one, Socket(f"{url}{path}") as two, Socket(f"{url}{path}") as three:
                # Each has said something, so the server has them all, and two and three know of each other's last.
                one.send(f"to {path}")
                assert two.recv(PATIENCE) == three.recv(PATIENCE) == f"to {path}"
                two.send("last")
                assert one.recv(PATIENCE) == ("to all" if own else "last")


def test_the_round_trip_is_timed():
    with serving("echo_server.py") as url:
        status, said, complaints = run("round_trip.py", url)
    assert (status, complaints) == (0, [])
    assert [line.partition(":")[0] for line in said] == ["message", "message", "message", "ping"]
    assert all(re.fullmatch(r"\w+: \d+\.\d\d ms", line) for line in said)


def test_a_pipe_goes_through_the_server_and_back():
    text = "".join(f"line {number} ünd so fort\n" for number in range(20_000))
    with serving("echo_server.py") as url:
        status, said, complaints = run("pipe.py", url, given=text)
    assert (status, "\n".join(said) + "\n", complaints) == (0, text, [])


def test_a_pipe_that_tears_says_so():
    with world.serving(lambda ws, request: ws.close(1011)) as server:
        status, said, complaints = run("pipe.py", world.url_of(server), given="")
    assert (status, said, len(complaints)) == (1, [], 1)
    assert complaints[0].startswith("not all came")


FORWARDED = [
    ({}, (), "127.0.0.1"),
    ({"X-Forwarded-For": "1.2.3.4"}, (), "127.0.0.1"),  # by nobody that is known
    ({"X-Forwarded-For": "1.2.3.4"}, ("127.0.0.1",), "1.2.3.4"),
    ({"X-Forwarded-For": "6.6.6.6, 1.2.3.4"}, ("127.0.0.1",), "1.2.3.4"),  # the first is what the client says
    ({"X-Forwarded-For": "6.6.6.6, 1.2.3.4, 10.0.0.1"}, ("127.0.0.1", "10.0.0.1"), "1.2.3.4"),
    ({"X-Forwarded-For": "10.0.0.1"}, ("127.0.0.1", "10.0.0.1"), "10.0.0.1"),
    ({}, ("127.0.0.1",), "127.0.0.1"),
]


@pytest.mark.parametrize(("headers", "proxies", "address"), FORWARDED)
def test_the_address_is_the_clients_as_far_as_the_proxies_are_ours(headers, proxies, address):
    with serving("client_address.py", after=proxies) as url, Socket(url, headers=headers) as ws:
        assert ws.recv(PATIENCE) == f"you are {address}"


def test_the_server_drops_who_does_not_answer_its_pings_and_keeps_who_does():
    with Command(ROOT / "examples" / "heartbeat_server.py", 0, 0.5) as server:
        url = server.url()
        address = urlsplit(url)
        server.address = lambda: (address.hostname, address.port)
        with Socket(url, ping_interval=None) as ws, Peer.connect(server) as silent:
            ws.onmessage = print  # so it has a reader, who answers at once
            assert silent.read().opcode == PING
            assert server.line() == "gone: 1006"
            silent.read_all()
            pinged = world.Event()
            ws.onping = lambda event: pinged.set()
            assert pinged.wait(PATIENCE)
            assert ws.readyState == ws.OPEN
        assert server.line() == "gone: 1000"
        server.signal(signal.SIGINT)
        assert server.end() == (0, [], [])


def test_the_client_drops_a_server_whose_pings_stop():
    with world.raw_listener() as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        with Command(ROOT / "examples" / "heartbeat_client.py", url, 0.2) as client, Peer.accept(listener) as peer:
            for _ in range(3):
                peer.send(PING, b"here")
                assert peer.read()[2:] == (PONG, True, b"here")
            peer.expect_end()  # nothing more is sent, and it goes
            assert client.end() == (0, ["closed: 1006"], [])


def test_the_client_with_a_heartbeat_ends_when_the_server_closes():
    with world.serving(lambda ws, request: ws.close(1000)) as server:
        assert run("heartbeat_client.py", world.url_of(server)) == (0, ["closed: 1000"], [])


def test_handlers_stand_in_a_routing_table():
    with serving("routing.py", logs=True) as url:
        assert ask(url)[2] == b"WebSockets: /echo /count\n"
        assert answer_to("hello", f"{url}echo") == "hello"
        with Socket(f"{url}count", compression=True) as ws:
            ws.send("a")
            ws.send("b")
            assert [ws.recv(PATIENCE), ws.recv(PATIENCE)] == ["1", "2"]
            assert ws.extensions.startswith("permessage-deflate")
        assert status_of(f"{url}else") == 200


def test_messages_built_by_hand_are_answered():
    with serving("echo_server.py") as url:
        status, said, complaints = run("message.py", urlsplit(url).netloc)
    assert (status, complaints) == (0, [])
    assert said == [
        '1 27 {"by":"hand","kind":"text"}',
        r"2 3 b'\x00\x01\x02'",
        f"{CLOSE} 2 {(1000).to_bytes(2, 'big')!r}",
    ]


def test_what_is_refused_by_hand_is_said_in_a_line():
    with world.serving({"/elsewhere": world.echo}) as server:
        status, said, complaints = run("message.py", urlsplit(world.url_of(server)).netloc)
    assert (status, said, complaints) == (1, [], ["refused: 404 Not Found"])
