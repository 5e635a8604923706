"""The two halves of an opening handshake as values: `Request` and `Response`.

Rank 1: on `headers`. Both sides use both; who builds one from outside gets it checked here.
HTTP messages: RFC 9112 sections 3 and 4.
"""

from __future__ import annotations

import re
from base64 import b64encode
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from .headers import Headers, HeaderSource, check_value, is_token, shown

_TARGET = re.compile(r"[\x21-\x7e]+")
_ABSOLUTE_FORM = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://([^/?]*)")

_PHRASES = {int(status): status.phrase for status in HTTPStatus}


class Request:
    """The client's half: `method target headers remote_address secure environ path query`.

    path: raw (not percent-decoded). query: as `urllib.parse.parse_qs` gives it. remote_address: as the module socket
    has it. secure: over TLS. environ: WSGI's, else None. Takes further attributes: what `verify_client` puts on it
    the handler finds there. ValueError for a method, target or header that HTTP cannot carry.
    """

    def __init__(
        self,
        method: str,
        target: str,
        headers: HeaderSource,
        *,
        remote_address: Any = None,
        secure: bool = False,
        environ: dict[str, Any] | None = None,
    ) -> None:
        for what, value in (("method", method), ("target", target)):
            if not isinstance(value, str):
                raise TypeError(f"the {what} must be str, not {value!r}")
        if not is_token(method):
            raise ValueError(f"the method must be a token, not {shown(method)}")
        if not _TARGET.fullmatch(target):
            raise ValueError("the target must be visible ASCII and not empty")
        self.method = method
        self.target = target
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.remote_address = remote_address
        self.secure = secure
        self.environ = environ
        _, self.path, query = split_target(target)
        self.query: dict[str, list[str]] = parse_qs(query) if query else {}

    def __repr__(self) -> str:
        # No query string: it often holds a secret.
        return f"<Request {shown(self.method, 20)} {shown(self.path)}>"


class Response:
    """The server's half. `reason` is the standard phrase unless given; `body` is bytes, else TypeError.

    ValueError for a status that has not three digits, a header or reason that HTTP cannot carry.
    """

    def __init__(
        self,
        status: int,
        headers: HeaderSource | None = None,
        body: bytes = b"",
        reason: str | None = None,
    ) -> None:
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError(f"a status is a whole number, not {status!r}")
        if not 100 <= status <= 999:
            raise ValueError(f"a status has three digits: {status}")
        if not isinstance(body, bytes):
            raise TypeError(f"body must be bytes, not {type(body).__name__}")
        self.status = status
        self.reason = check_value("reason", _PHRASES.get(status, "") if reason is None else reason)
        self.headers = headers if isinstance(headers, Headers) else Headers(headers or ())
        self.body = body

    def __repr__(self) -> str:
        return f"<Response {self.status} {shown(self.reason)}>"


def status_line(response: Response) -> str:
    """The status as HTTP and WSGI have it, "404 Not Found"."""
    return f"{response.status} {response.reason}"


def split_target(target: str) -> tuple[str | None, str, str]:
    """The authority (None unless the target is in absolute form), path and query of a request target.

    A server must take the absolute form from anybody, not only as a proxy (RFC 9112 section 3.2.2).
    """
    authority = None
    if absolute := _ABSOLUTE_FORM.match(target):
        authority, target = absolute.group(1), target[absolute.end() :]
    path, _, query = target.partition("?")
    return authority, (path if authority is None else path or "/"), query


def head_bytes(first_line: str, headers: Headers) -> bytes:
    """A head as it goes over the wire, blank line included.

    The first line is checked here once more: its parts are plain attributes, which anybody may have set.
    """
    lines = [check_value("first line", first_line), *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def basic_authorization(userinfo: tuple[str, str]) -> str:
    """User and password as the value of a header (RFC 7617 section 2)."""
    return "Basic " + b64encode(":".join(userinfo).encode()).decode("ascii")
