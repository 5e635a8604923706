"""The exception tree: who is to blame, what to answer, what is printed; and that all of it can be pickled."""

from __future__ import annotations

import copy
import pickle

import pytest

from syncws import errors
from syncws.errors import (
    BrokenStream,
    ConnectionClosed,
    EndOfStream,
    HandshakeError,
    InvalidData,
    InvalidStateError,
    MessageTooBig,
    PolicyError,
    ProtocolError,
    ProxyError,
    RedirectError,
    UpgradeUnsupported,
    WebSocketError,
)


class Answer:
    """Stands in for a response: all that counts here is its status."""

    def __init__(self, status: int) -> None:
        self.status = status

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and other.status == self.status

    __hash__ = None  # type: ignore[assignment]


class Redirected(HandshakeError):
    """As later modules derive theirs: with an argument of its own."""

    def __init__(self, message: str, *, url: str) -> None:
        super().__init__(message, status=302)
        self.url = url


def test_the_tree_is_the_documented_one() -> None:
    tree = {
        HandshakeError: WebSocketError,
        RedirectError: HandshakeError,
        ProxyError: HandshakeError,
        UpgradeUnsupported: HandshakeError,
        ProtocolError: WebSocketError,
        InvalidData: ProtocolError,
        MessageTooBig: ProtocolError,
        PolicyError: ProtocolError,
        ConnectionClosed: WebSocketError,
        BrokenStream: ConnectionClosed,
        EndOfStream: ConnectionClosed,
        InvalidStateError: WebSocketError,
        WebSocketError: Exception,
    }
    defined = [item for item in vars(errors).values() if isinstance(item, type)]
    assert {kind: kind.__bases__[0] for kind in defined if issubclass(kind, Exception)} == tree


@pytest.mark.parametrize(
    ("kind", "code"), [(ProtocolError, 1002), (InvalidData, 1007), (PolicyError, 1008), (MessageTooBig, 1009)]
)
def test_a_protocol_error_knows_the_code_to_answer(kind: type[ProtocolError], code: int) -> None:
    assert kind.close_code == code
    assert kind("why").close_code == code
    assert str(kind("why")) == "why"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionClosed(), "closed with 1006 (no Close frame came)"),
        (ConnectionClosed(1001, "bye"), "closed with 1001 (going away): 'bye'"),
        (ConnectionClosed(1005, "", True), "closed with 1005 (no code given)"),
        (ConnectionClosed(4000), "closed with 4000"),
        (ConnectionClosed(4000, "a\nb"), "closed with 4000: 'a\\nb'"),
    ],
)
def test_a_closed_connection_says_how_in_one_line(error: ConnectionClosed, text: str) -> None:
    assert str(error) == text


def test_a_closed_connection_is_unclean_unless_told() -> None:
    error = ConnectionClosed()
    assert (error.code, error.reason, error.wasClean) == (1006, "", False)
    assert ConnectionClosed(1000, "done", True).wasClean is True


def test_every_code_that_may_be_sent_or_reported_has_a_meaning() -> None:
    assert set(errors.CLOSE_MEANINGS) == {*range(1000, 1004), *range(1005, 1015)}


@pytest.mark.parametrize(
    ("error", "status", "phrase"),
    [
        (HandshakeError("x"), None, ""),
        (HandshakeError("x", status=403), 403, "Forbidden"),
        (HandshakeError("x", status=799), 799, ""),
        (HandshakeError("x", response=Answer(404)), 404, "Not Found"),  # type: ignore[arg-type]
        (HandshakeError("x", status=502, response=Answer(404)), 502, "Bad Gateway"),  # type: ignore[arg-type]
    ],
)
def test_a_handshake_error_has_a_status_if_there_was_an_answer(
    error: HandshakeError, status: int | None, phrase: str
) -> None:
    assert (error.status, error.phrase) == (status, phrase)
    assert str(error) == "x"


def test_a_handshake_error_keeps_its_own_copy_of_the_headers() -> None:
    headers = [("Allow", "GET")]
    error = HandshakeError("x", status=405, headers=iter(headers))
    assert error.headers == (("Allow", "GET"),)
    assert HandshakeError("x").headers == ()


@pytest.mark.parametrize("duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "error",
    [
        WebSocketError("x"),
        HandshakeError("x", status=405, headers=[("Allow", "GET")]),
        HandshakeError("x", response=Answer(404), request="request"),  # type: ignore[arg-type]
        Redirected("x", url="ws://localhost/"),
        ProtocolError("x"),
        InvalidData("x"),
        PolicyError("x"),
        MessageTooBig("x"),
        ConnectionClosed(1001, "bye", True),
        BrokenStream(1011, "why"),
        EndOfStream(1001, "over", True),
        InvalidStateError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_survives_pickling(error: WebSocketError, duplicate: object) -> None:
    assert callable(duplicate)
    twin = duplicate(error)
    assert type(twin) is type(error)
    assert (twin.args, str(twin), vars(twin)) == (error.args, str(error), vars(error))


def test_a_broken_stream_is_an_os_error_without_a_number() -> None:
    error = BrokenStream(1011, "why")
    assert isinstance(error, ConnectionError)
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert (error.code, error.reason, error.wasClean) == (1011, "why", False)
    assert str(error) == "closed with 1011 (internal error): 'why'"
    assert isinstance(EndOfStream(), EOFError)
