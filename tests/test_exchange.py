"""Request and Response as values."""

from __future__ import annotations

import pytest

from syncws.exchange import Request, Response, head_bytes, split_target
from syncws.headers import Headers

INJECTIONS = ["\r", "\n", "\0", "\x7f", "\x1b", "\u010d", "\u2028", "\ud800"]


@pytest.mark.parametrize(
    ("target", "authority", "path", "query"),
    [
        ("/", None, "/", ""),
        ("/a%20b?c=d", None, "/a%20b", "c=d"),
        ("/a?b?c", None, "/a", "b?c"),
        ("//h/a", None, "//h/a", ""),
        ("/http://h/a", None, "/http://h/a", ""),
        ("http://h:80/a?b", "h:80", "/a", "b"),
        ("HTTPS://h?b", "h", "/", "b"),
        ("http://", "", "/", ""),
        ("*", None, "*", ""),
        ("h:80", None, "h:80", ""),
    ],
)
def test_targets_are_taken_apart(target: str, authority: str | None, path: str, query: str) -> None:
    assert split_target(target) == (authority, path, query)
    assert Request("GET", target, {}).path == path


def test_a_request_has_path_and_query_of_its_target() -> None:
    request = Request(
        "GET", "/a%2Fb?x=1&x=2&y=%C3%A9&z=", [("Host", "h")], remote_address=("::1", 5), secure=True
    )
    assert (request.method, request.target) == ("GET", "/a%2Fb?x=1&x=2&y=%C3%A9&z=")
    assert request.path == "/a%2Fb"
    assert request.query == {"x": ["1", "2"], "y": ["é"]}
    assert request.headers["host"] == "h"
    assert request.remote_address == ("::1", 5)
    assert request.secure is True
    assert request.environ is None


def test_a_request_takes_further_attributes() -> None:
    request = Request("GET", "/", {}, environ={"a": 1})
    request.user = "me"  # type: ignore[attr-defined]
    assert request.user == "me"  # type: ignore[attr-defined]
    assert request.environ == {"a": 1}


def test_given_headers_are_kept_as_they_are() -> None:
    headers = Headers({"A": "b"})
    assert Request("GET", "/", headers).headers is headers
    assert Response(200, headers).headers is headers


def test_repr_of_a_request_keeps_secrets_and_is_escaped() -> None:
    request = Request("GET", "/a?token=secret", {"Cookie": "secret"})
    assert repr(request) == "<Request 'GET' '/a'>"
    assert len(repr(Request("A" * 9999, "/" + "b" * 9999, {}))) < 150


@pytest.mark.parametrize("bad", [*INJECTIONS, " ", "\t", "\x85", "é"])
def test_a_request_line_cannot_be_broken(bad: str) -> None:
    for method, target in [
        (f"G{bad}", "/"),
        (f"{bad}G", "/"),
        ("GET", f"/{bad}"),
        ("GET", f"{bad}/"),
        ("GET", f"/{bad}a"),
    ]:
        with pytest.raises(ValueError, match="must be") as caught:
            Request(method, target, {})
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(("method", "target"), [("", "/"), ("GET", ""), ("G(T", "/")])
def test_method_and_target_have_their_grammar(method: str, target: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Request(method, target, {})


@pytest.mark.parametrize(
    ("status", "reason"),
    [(101, "Switching Protocols"), (404, "Not Found"), (299, ""), (999, ""), (100, "Continue")],
)
def test_a_response_has_the_standard_reason(status: int, reason: str) -> None:
    response = Response(status)
    assert (response.status, response.reason, response.body, len(response.headers)) == (
        status,
        reason,
        b"",
        0,
    )


def test_a_response_says_what_it_is() -> None:
    response = Response(403, {"A": "b"}, b"no", "Go\taway")
    assert (response.headers["a"], response.body, response.reason) == ("b", b"no", "Go\taway")
    assert repr(response) == r"<Response 403 'Go\taway'>"


@pytest.mark.parametrize("status", [-1, 0, 99, 1000])
def test_a_status_has_three_digits(status: int) -> None:
    with pytest.raises(ValueError, match="three digits"):
        Response(status)


@pytest.mark.parametrize("status", ["200", 403.0, 403.5, True, None])
def test_a_status_is_a_whole_number(status: object) -> None:
    with pytest.raises(TypeError, match="a status is a whole number"):
        Response(status)  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "target"), [("GET", b"/"), (b"GET", "/"), (None, "/")])
def test_a_request_is_of_text(method: object, target: object) -> None:
    with pytest.raises(TypeError, match="must be str, not"):
        Request(method, target, {})  # type: ignore[arg-type]


def test_a_body_is_bytes() -> None:
    with pytest.raises(TypeError, match="must be bytes, not str"):
        Response(403, body="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", INJECTIONS)
def test_a_status_line_cannot_be_broken(bad: str) -> None:
    with pytest.raises(ValueError, match="reason"):
        Response(403, reason=f"a{bad}b")
    with pytest.raises(ValueError, match="first line"):
        head_bytes(f"HTTP/1.1 403 a{bad}b", Headers())


def test_a_head_ends_in_a_blank_line() -> None:
    assert (
        head_bytes("GET / HTTP/1.1", Headers([("A", "é"), ("a", "")]))
        == b"GET / HTTP/1.1\r\nA: \xe9\r\na: \r\n\r\n"
    )
    assert head_bytes("GET / HTTP/1.1", Headers()) == b"GET / HTTP/1.1\r\n\r\n"
