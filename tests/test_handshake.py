"""What both sides of the handshake share: the accept key, and heads cut off a stream of bytes."""

from __future__ import annotations

import time
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws.handshake import (
    Agreed,
    HeadBuffer,
    accept_key,
    connection_upgrades,
    event_headers,
    upgrades_to_websocket,
)

HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def test_the_accept_key_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_fields_of_an_event_are_spelled_as_they_came() -> None:
    event = h11.Response(status_code=200, headers=[(b"X-aB", b"\xe9"), (b"x-ab", b"2")])
    assert list(event_headers(event).items()) == [("X-aB", "\xe9"), ("x-ab", "2")]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["websocket"], True),
        (["WebSocket"], True),
        ([], False),
        ([""], False),
        (["h2c"], False),
        (["websocket, h2c"], False),
        (["websocket", "websocket"], False),
    ],
)
def test_upgrade_is_websocket_and_nothing_else(values: list[str], expected: bool) -> None:
    assert upgrades_to_websocket(list(values)) is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["Upgrade"], True),
        (["keep-alive, UPGRADE"], True),
        (["keep-alive", ",upgrade"], True),
        ([], False),
        (["keep-alive"], False),
        (["upgraded"], False),
        (["not upgrade"], False),
        (["upgrade", "a b"], False),
    ],
)
def test_connection_has_the_token_upgrade(values: list[str], expected: bool) -> None:
    assert connection_upgrades(list(values)) is expected


def test_agreed_is_nothing_by_default() -> None:
    assert Agreed() == Agreed(protocol="", deflate=None, extensions="")


@given(st.lists(st.integers(0, len(HEAD * 2) + 9), max_size=8))
def test_heads_do_not_depend_on_the_pieces(cuts: list[int]) -> None:
    stream = HEAD * 2 + b"\x81\x00\r\n\r\nrest"
    heads = HeadBuffer(1000)
    found: list[bytes] = []
    edges = [0, *sorted(cuts), len(stream)]
    for start, end in pairwise(edges):
        heads.add(stream[start:end])
        while len(found) < 2 and (head := heads.next_head()) is not None:
            found.append(head)
    assert found == [HEAD, HEAD]
    assert heads.rest() == b"\x81\x00\r\n\r\nrest"


def test_the_limit_is_exact() -> None:
    for behind in (b"", b"x", b"\r\n\r\n"):
        heads = HeadBuffer(len(HEAD))
        heads.add(HEAD + behind)
        assert heads.next_head() == HEAD
        heads = HeadBuffer(len(HEAD) - 1)
        heads.add(HEAD + behind)
        with pytest.raises(h11.RemoteProtocolError):
            heads.next_head()


def test_the_limit_is_for_all_heads_together() -> None:
    heads = HeadBuffer(2 * len(HEAD) + 5)
    heads.add(HEAD * 3)
    assert heads.next_head() == heads.next_head() == HEAD
    with pytest.raises(h11.RemoteProtocolError):
        heads.next_head()


@pytest.mark.parametrize(
    ("data", "status"), [(b"GET /" + b"a" * 200, 414), (b"GET / HTTP/1.1\r\n" + b"a" * 200, 431)]
)
def test_too_long_a_head_is_noticed_at_the_limit(data: bytes, status: int) -> None:
    heads = HeadBuffer(100)
    heads.add(data[:99])
    assert heads.next_head() is None
    heads.add(data[99:100])
    with pytest.raises(h11.RemoteProtocolError) as caught:
        heads.next_head()
    assert caught.value.error_status_hint == status


@pytest.mark.parametrize("control", [*range(9), 11, 12, *range(14, 32), 127])
@pytest.mark.parametrize("end", [b"", b"x", b"\r\n\r\n"])
def test_control_characters_are_noticed_at_once(control: int, end: bytes) -> None:
    for before in (b"", b"GET / HTTP/1.1\r\nA: b"):
        heads = HeadBuffer(1000)
        heads.add(before + bytes([control]) + end)
        with pytest.raises(h11.RemoteProtocolError, match="control character"):
            heads.next_head()


@pytest.mark.parametrize(
    "bad", [b"\n", b"a\nb", b"a\n\nb", b"a\rb", b"a\r\rb", b"a\r\r\nb", b"a\n\r\nb", b"a\r \n"]
)
def test_cr_and_lf_come_as_a_pair_only(bad: bytes) -> None:
    for pieces in ([bad], [bytes([byte]) for byte in bad]):
        heads = HeadBuffer(1000)
        with pytest.raises(h11.RemoteProtocolError, match="control character"):
            for piece in pieces:
                heads.add(piece)
                assert heads.next_head() is None


def test_a_cr_may_wait_for_its_lf() -> None:
    heads = HeadBuffer(1000)
    heads.add(b"A: b\r")
    assert heads.next_head() is None
    heads.add(b"\n\r\n")
    assert heads.next_head() == b"A: b\r\n\r\n"


def test_tab_and_obs_text_are_allowed_and_what_follows_is_not_looked_at() -> None:
    heads = HeadBuffer(1000)
    heads.add(b"A:\tb\xff\x80\r\n\r\n\x00\n\x7f")
    assert heads.next_head() == b"A:\tb\xff\x80\r\n\r\n"
    assert heads.rest() == b"\x00\n\x7f"


@pytest.mark.parametrize("filler", [b"a", b"\r\n", b"\r\nA: b", b" ", b"a\r\n:"])
def test_single_bytes_cost_linear_time(filler: bytes) -> None:
    data = b"GET / HTTP/1.1" + (b"\r\n" if filler[:1] == b"a" else b"") + filler * (1 << 18)
    heads = HeadBuffer(1 << 18)
    start = time.process_time()
    try:
        for index in range(1 << 18):
            heads.add(data[index : index + 1])
            heads.next_head()
    except h11.RemoteProtocolError:
        pass
    # Measured: 0.3 s for 256 KiB. Searching from the start each time: minutes.
    assert time.process_time() - start < 5
