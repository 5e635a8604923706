"""`serve_forever` and the signals that end it, each in a process of its own."""

from __future__ import annotations

import signal
import time

import pytest
import world
from peer import TEXT, Peer
from program import Program
from raw import is_served

GENEROUS = 3.0  # seconds, on a machine with much else to do

FOREVER = """
from world import Server, echo
server = Server(echo, host="127.0.0.1", port=0, close_timeout=float(sys.argv[1]))
server.on("listening", lambda: say(server.address()[1]))
server.on("close", lambda: say("closed", len(server.clients)))
def stay(ws, request):
    ws.recv()
server.serve_forever()
say("left")
"""


@pytest.mark.parametrize(
    ("number", "answers", "close_timeout"),
    [(signal.SIGINT, True, 30), (signal.SIGTERM, True, 30), (signal.SIGINT, False, 30), (signal.SIGTERM, False, 0.3)],
    ids=["SIGINT", "SIGTERM", "SIGINT-mute", "SIGTERM-mute"],
)
def test_signals_end_serve_forever_cleanly(number: int, answers: bool, close_timeout: float) -> None:
    with Program(FOREVER, close_timeout) as program:
        peers = [Peer.connect(program) for _ in range(100)]
        for peer in peers:
            peer.send(TEXT, b"x")
            assert peer.read().payload == b"x"
        start = time.monotonic()
        program.signal(number)
        for peer in peers:
            peer.expect_close(1001, answer=answers)
            if answers:
                peer.close()
        assert program.end() == (0, "closed 0\nleft\n", "")
        assert time.monotonic() - start < 2
        for peer in peers:
            peer.close()


def test_a_second_ctrl_c_changes_nothing() -> None:
    with Program(FOREVER, 0.5) as program:
        peer = Peer.connect(program)
        program.signal(signal.SIGINT)
        peer.expect_close(1001, answer=False)
        program.signal(signal.SIGINT)
        peer.expect_end()
        peer.close()
        assert program.end(GENEROUS) == (0, "closed 0\nleft\n", "")


STUCK = FOREVER.replace(
    "server.serve_forever()",
    """
import time
def stick():
    while True:
        time.sleep(0.1)  # not in one go: a signal that comes just before it is heard after it
server.on("close", stick)
server.serve_forever()
""",
)


@world.threads_only  # a hub that sleeps in time.sleep() is interrupted at once, or never
def test_a_third_ctrl_c_interrupts() -> None:
    with Program(STUCK, 0.5) as program, Peer.connect(program) as peer:
        program.signal(signal.SIGINT)
        peer.expect_close(1001, answer=False)
        program.signal(signal.SIGINT)
        assert program.line() == "closed 0"
        program.signal(signal.SIGINT)
        assert program.end(GENEROUS) == (0, "left\n", "")


OWN_HANDLER = """
import signal, threading
from world import Server, echo
signal.signal(signal.SIGTERM, lambda *_: say("mine"))
server = Server(echo, host="127.0.0.1", port=0)
server.on("listening", lambda: say(server.address()[1]))
server.serve_forever()
"""


def test_a_handler_of_sigterm_that_is_there_is_left_alone() -> None:
    with Program(OWN_HANDLER) as program:
        program.address()
        program.signal(signal.SIGTERM)
        assert program.line() == "mine"
        assert is_served(program)


@world.threads_only
def test_a_signal_that_another_thread_is_hit_by_is_noticed() -> None:
    # As one that comes just before the main thread begins to wait: it is not woken by either.
    program = """
import signal, threading, time
from world import Server, echo
def strike():
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL or not waiting():
        time.sleep(0.001)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
def waiting():
    caller = sys._current_frames()[threading.main_thread().ident].f_back
    return caller is not None and caller.f_code.co_name == "heeding_signals"
server = Server(echo, host="127.0.0.1", port=0)
server.on("listening", lambda: threading.Thread(target=strike, daemon=True).start())
server.serve_forever()
say("left")
"""
    with Program(program) as ended:
        assert ended.end(GENEROUS) == (0, "left\n", "")
