"""Proxies: which one is to be used, and how to get through it to a host and a port.

Rank 5: on `punctual`, `answer`, `url`, `exchange`. CONNECT (RFC 9110 section 9.3.6) is ours, SOCKS is
python-socks's; the environment is read by `urllib.request`, and whom it excepts too.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from .answer import BODY_PATIENCE, AnswerReader
from .errors import ProxyError
from .exchange import Response, basic_authorization, head_bytes
from .headers import Headers, shown
from .punctual import Punctual
from .url import Address, check_characters, join_host, split_authority

logger = logging.getLogger("syncws")

_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_READ_SIZE = 4096
# What a SOCKS proxy says of the server, or of itself: a general failure, net or host not reached, nobody there, too far
# (RFC 1928 section 6); SOCKS 4 has one reply for all such. Not: forbidden, or unknown to the proxy.
_PASSING_REPLIES = {1, 3, 4, 5, 6, 0x5B}


@dataclass(frozen=True)
class Proxy:
    """What a proxy's URL says; `userinfo` is (user, password), decoded, and is not shown."""

    scheme: str
    host: str
    port: int
    userinfo: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def secure(self) -> bool:
        """Whether one talks to it over TLS."""
        return self.scheme == "https"

    @property
    def looks_names_up(self) -> bool:
        """Whether it is told names; if not, addresses."""
        return self.scheme not in ("socks4", "socks5")

    def __str__(self) -> str:
        return f"{self.scheme}://{join_host(self.host, self.port)}"


#: what the argument `proxy` may have become: True is the environment's
Choice = Proxy | Literal[True] | None


def checked(given: Any) -> Choice:
    """The argument `proxy`; TypeError or ValueError for a bad one, ProxyError if it needs what is not installed."""
    if given is None or given is True:
        return given
    if not isinstance(given, str):
        raise TypeError(f"proxy must be True, None or a URL, not {type(given).__name__}")
    proxy = parse_proxy(given)
    if proxy.scheme.startswith("socks"):
        _python_socks()
    return proxy


def parse_proxy(url: str) -> Proxy:
    """Take the URL of a proxy apart. ValueError, which doesn't repeat the URL: it may hold a password."""
    check_characters(url)
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _PORTS:
        raise ValueError(f"the URL of a proxy must begin with {', '.join(_PORTS)} and ://")
    userinfo, host, port = split_authority(rest.removesuffix("/"))
    if userinfo is not None and scheme.startswith("socks"):
        _check_socks_userinfo(scheme, *userinfo)
    return Proxy(scheme, host, _PORTS[scheme] if port is None else port, userinfo)


def choose(address: Address, choice: Choice) -> Proxy | None:
    """The proxy to go through to `address`, None for the direct way."""
    if address.unix is not None:
        return None
    return _from_environment(address) if choice is True else choice


def open_tunnel(proxy: Proxy, line: Punctual, host: str, port: int) -> bytes:
    """Have the proxy at the other end of `line` connect to `host`: the bytes that came behind its consent.

    ProxyError if it does not consent.
    """
    if proxy.scheme.startswith("socks"):
        _ask_socks(proxy, line, host, port)
        return b""
    return _ask_http(proxy, line, host, port)


def _ask_http(proxy: Proxy, line: Punctual, host: str, port: int) -> bytes:
    target = join_host(host, port)
    headers = Headers([("Host", target)])
    if proxy.userinfo is not None:
        headers.add("Proxy-Authorization", basic_authorization(proxy.userinfo))
    line.sendall(head_bytes(f"CONNECT {target} HTTP/1.1", headers))
    answer = AnswerReader("CONNECT", _consents, lambda text: ProxyError(f"the proxy {proxy}: {text}"))
    while (response := answer.receive(line.recv(_READ_SIZE))) is None:
        if answer.response is not None:
            line.be_brief(BODY_PATIENCE)
    if not _consents(response):
        told = f"{response.status} {shown(response.reason)}"
        raise ProxyError(f"the proxy {proxy} answered {told} to CONNECT {target}", response=response)
    return answer.rest


def _consents(response: Response) -> bool:
    return 200 <= response.status < 300


# -- SOCKS -------------------------------------------------------------------------------------------------------


def _ask_socks(proxy: Proxy, line: Punctual, host: str, port: int) -> None:
    if proxy.scheme.startswith("socks4") and ":" in host:
        raise _failure(f"the proxy {proxy}: SOCKS 4 does not know IPv6, and {host} is such an address")
    try:
        # All names are told to the proxy: what is to be looked up here comes here as an address.
        _python_socks(proxy, forward=_Forward(line), rdns=True).connect(host, port)
    except TimeoutError as error:
        raise error.__cause__ or error from None  # ours says more
    except (ProxyError, OSError):
        raise
    except Exception as error:
        # Those of python-socks, and what comes of reading bytes that it did not expect.
        may_pass = line.ended or getattr(error, "error_code", None) in _PASSING_REPLIES
        raise _failure(f"the proxy {proxy}: {error}", may_pass) from error


def _failure(text: str, may_pass: bool = False) -> ProxyError:
    error = ProxyError(text)
    error._may_pass = may_pass
    return error


class _Forward:
    """Takes the place of a proxy before the proxy, which python-socks lets connect: so the connection is ours."""

    def __init__(self, line: Punctual) -> None:
        self._line = line

    def connect(self, dest_host: str, dest_port: int, timeout: float | None = None) -> Punctual:
        return self._line


def _python_socks(proxy: Proxy | None = None, **options: Any) -> Any:
    """A `python_socks.sync.Proxy`, of no use without `proxy`; ProxyError if there is no python-socks."""
    try:
        # Only now: nobody else needs it, and it need not be there.
        library, names = importlib.import_module("python_socks.sync"), importlib.import_module("python_socks")
        proxy = proxy or Proxy("socks5", "localhost", 1080)
        kind = names.ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else names.ProxyType.SOCKS5
        options.setdefault("forward", None)
        return library.Proxy(kind, proxy.host, proxy.port, *(proxy.userinfo or ()), **options)
    except (ImportError, TypeError):  # not there, or of a version before there was `forward`
        raise _failure("SOCKS proxies need python-socks 3: pip install 'syncws[socks]'") from None


def _check_socks_userinfo(scheme: str, user: str, password: str) -> None:
    """ValueError for what the protocol, or python-socks, would cut or leave out."""
    if not (user + password).isascii():
        raise ValueError("user name and password for a SOCKS proxy must be ASCII")
    if len(user) > 255 or len(password) > 255:  # RFC 1929 section 2
        raise ValueError("user name and password for a SOCKS proxy have at most 255 characters")
    if scheme.startswith("socks5") and not (user and password):
        raise ValueError("a SOCKS 5 proxy takes user name and password, or neither")
    if scheme.startswith("socks4") and password:
        raise ValueError("a SOCKS 4 proxy takes a user name and no password")


# -- the environment ---------------------------------------------------------------------------------------------


def _from_environment(address: Address) -> Proxy | None:
    if _is_loopback(address.host):
        return None
    from urllib.request import getproxies  # dear to import, and needed here only

    told = getproxies()
    url = told.get("https" if address.secure else "http") or told.get("all")
    if not url or _is_excepted(address, told):
        return None
    try:
        return parse_proxy(url if "://" in url else f"http://{url}")
    except ValueError as error:
        logger.warning("a proxy is named in the environment, and ignored: %s", error)
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_excepted(address: Address, told: Mapping[str, str]) -> bool:
    from urllib.request import proxy_bypass

    # With the port for entries that have one, and without for IPv6, which stands there without brackets.
    names, host = dict(told), address.host.removesuffix(".")
    if any(proxy_bypass(name, names) for name in (join_host(host, address.port), host)):
        return True
    return any(entry.strip() == "*" or _is_in(host, entry) for entry in told.get("no", "").split(","))


def _is_in(host: str, network: str) -> bool:
    """Whether an address is in a network, or is the address that stands there, however both are written."""
    with contextlib.suppress(ValueError):  # a name, or neither
        return ip_address(host) in ip_network(network.strip().replace("[", "").replace("]", ""), strict=False)
    return False
