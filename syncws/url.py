"""WebSocket URLs: from text to the address to connect to and the target to ask for.

Rank 1: on `headers` for how text is shown. Nothing is repaired in silence: what is ambiguous is refused.
URLs: RFC 6455 section 3, RFC 3986, RFC 9110 section 4.2; `Address.url` as the W3C interface shows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from urllib.parse import quote, unquote, urljoin

from .headers import shown

DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

# A backslash is a slash to a browser and a letter to RFC 3986: two readings of where the host ends.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_HIERARCHY = re.compile(r"//([^/?]*)(.*)")
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{0,5}))?")
_HOST = re.compile(r"[a-z0-9._\-]+")
# The names of which the codec makes what they are.
_PLAIN_NAME = re.compile(r"(?:[A-Za-z0-9_\-]{1,63}\.)*[A-Za-z0-9_\-]{1,63}")
# Reserved characters of RFC 3986 and existing escapes stay; all else in a target is percent-encoded.
_SAFE_IN_TARGET = "%:/?[]@!$&'()*+,;="


@dataclass(frozen=True)
class Address:
    """Where a URL leads: a host and port or the path of a unix socket, and the target to ask for there.

    `host` is lower-case ASCII, an IPv6 address without brackets; `userinfo` is (user, password), decoded.
    """

    secure: bool
    host: str
    port: int
    target: str
    unix: str | None = None
    userinfo: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The normalised URL, without user and password: it may be logged."""
        if self.unix is not None:
            return f"ws+unix:{quote(self.unix, errors='surrogateescape')}:{self.target}"
        return f"{'wss' if self.secure else 'ws'}://{self.host_header}{self.target}"

    @property
    def host_header(self) -> str:
        """The value of the Host header: brackets around IPv6, the port unless it is the default one."""
        if self.unix is not None:
            return "localhost"
        return join_host(self.host, None if self.port == (443 if self.secure else 80) else self.port)


def parse(url: str) -> Address:
    """Take a `ws wss http https ws+unix` URL apart; ValueError for what is not one.

    Errors don't repeat the URL, which may hold a password.
    """
    check_characters(url)
    text, _, fragment = url.partition("#")
    if fragment:
        raise ValueError("a WebSocket URL has no fragment")
    scheme_match = _SCHEME.match(text)
    scheme = scheme_match.group(1).lower() if scheme_match else ""
    rest = text[len(scheme) + 1 :]
    if scheme == "ws+unix":
        return _unix_address(rest)
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"the scheme must be ws, wss, http, https or ws+unix, not {shown(scheme, 20)}")
    return _network_address(scheme, rest)


def check_characters(url: str) -> None:
    """ValueError for what no URL holds as it is: blanks, controls, a backslash. TypeError for what is no str."""
    if not isinstance(url, str):
        raise TypeError(f"a URL must be a str, not {type(url).__name__}")
    if bad := _FORBIDDEN.search(url):
        raise ValueError(f"character {bad.group()!r} at index {bad.start()} of the URL is not allowed")


def join(base: Address, location: str) -> Address:
    """Where the Location of an answer of `base` leads (RFC 9110 section 10.2.2); ValueError if to no WebSocket.

    A relative one stays at the unix socket it came from; none leads from elsewhere to one.
    """
    try:
        reference = location.encode("latin-1").decode("utf-8")  # a header's value is read as latin-1
    except UnicodeError:
        raise ValueError("it is not UTF-8") from None
    check_characters(reference)
    scheme = _SCHEME.match(reference)
    if scheme and scheme.group(1).lower() not in DEFAULT_PORTS:
        raise ValueError(f"the scheme must be ws, wss, http or https, not {shown(scheme.group(1), 20)}")
    network = replace(base, unix=None).url
    if scheme is None and reference.startswith("//"):
        return parse(network.partition("//")[0] + reference)
    if scheme is not None:
        return parse(reference)
    if reference.startswith("?"):  # urljoin takes an empty query for none (RFC 3986 section 5.2.2)
        return replace(base, target=parse(network.partition("?")[0] + reference).target)
    return replace(base, target=parse(urljoin(network, reference)).target)


def split_authority(text: str) -> tuple[tuple[str, str] | None, str, int | None]:
    """Split `[user[:password]@]host[:port]`: user and password decoded, host and port as in `split_host`."""
    userinfo, _, host_and_port = text.rpartition("@")
    return _userinfo(userinfo), *split_host(host_and_port)


def split_host(text: str) -> tuple[str, int | None]:
    """Split `host[:port]`; the host comes back normalised, IPv6 without brackets. Else ValueError."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise ValueError("expected a host, or a host and a port up to 65535")
    address, name, digits = match.groups()
    port = int(digits) if digits else None
    if port is not None and port > 65535:
        raise ValueError(f"the port must not be over 65535: {port}")
    return (str(IPv6Address(address)) if address else _host_name(name)), port


def join_host(host: str, port: int | None) -> str:
    """The inverse of `split_host`: brackets around an IPv6 address, the port if there is one."""
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port is None else f"{bracketed}:{port}"


def _network_address(scheme: str, rest: str) -> Address:
    match = _HIERARCHY.fullmatch(rest)
    if match is None:
        raise ValueError(f"expected {scheme}://host")
    authority, target = match.groups()
    userinfo, host, port = split_authority(authority)
    return Address(
        secure=scheme in ("wss", "https"),
        host=host,
        port=DEFAULT_PORTS[scheme] if port is None else port,
        target=_target(target),
        userinfo=userinfo,
    )


def _unix_address(rest: str) -> Address:
    # ws+unix:/path and, with an empty authority, ws+unix:///path
    if rest.startswith("//") and not rest.startswith("///"):
        raise ValueError("a ws+unix URL has a path and no host")
    escaped_path, _, target = rest.removeprefix("//").partition(":")
    path = unquote(escaped_path, errors="surrogateescape")
    if not path:
        raise ValueError("the path of the unix socket is empty")
    if _CONTROL.search(path):
        raise ValueError("the path of the unix socket holds a control character")
    return Address(secure=False, host="localhost", port=80, target=_target(target), unix=path)


def _target(text: str) -> str:
    """The request target: at least "/", and visible ASCII only (lone surrogates: ValueError)."""
    return quote(text if text.startswith("/") else "/" + text, safe=_SAFE_IN_TARGET)


def _host_name(name: str) -> str:
    # Before the codec, whose cost is not linear: no host name is longer (RFC 1035 section 2.3.4).
    if len(name) > 253:
        raise ValueError("the host name is longer than 253 characters")
    if _PLAIN_NAME.fullmatch(name):
        return name.lower()
    try:
        # Other ASCII names go through it too: connecting would refuse an empty or overlong label only later.
        host = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("not a host name") from None
    # After the codec: it turns full-width signs and odd blanks into the ASCII ones.
    if not _HOST.fullmatch(host):
        raise ValueError("a host name has letters, digits, '-', '_' and '.'")
    return host


def _userinfo(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    user, _, password = (unquote(part, errors="strict") for part in text.partition(":"))
    # RFC 7617 section 2: neither can be sent in Basic authorization.
    if ":" in user or _CONTROL.search(user + password):
        raise ValueError("the URL's user name holds ':', or its user name or password a control character")
    return user, password
