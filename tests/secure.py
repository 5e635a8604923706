"""TLS for the strict peer: a wire that encrypts over a plain socket, and certificates gone wrong."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
from typing import Any

import pytest
import world
from authority import CA
from peer import Peer

try:
    import trustme
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError:  # see authority
    trustme = None

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)


class Wire:
    """What `Peer` needs of a socket, over TLS in memory. `heard` is the plain text, `taken` what was on the wire."""

    def __init__(self, sock: Any, context: ssl.SSLContext, *, server_side: bool, host: str | None = None) -> None:
        self.sock = sock
        self.heard = bytearray()
        self.taken = bytearray()
        self.notified = False  # the peer's close_notify came
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=host)

    def handshake(self) -> Wire:
        try:
            self._wait_for(self.tls.do_handshake)
        finally:
            self._flush()  # an alert, if it failed
        return self

    def _wait_for(self, call: Any) -> Any:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return call()
            self._flush()
            data = self.sock.recv(65536)
            self.taken += data
            if not data:
                raise EOFError("the TCP connection ended")
            self._incoming.write(data)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self.sock.sendall(data)

    def recv(self, count: int) -> bytes:
        """Plain text; b"" at the end, with or without a close_notify: see `notified`."""
        try:
            data: bytes = self._wait_for(lambda: self.tls.read(count))
        except EOFError:
            return b""
        except ssl.SSLZeroReturnError:  # what read answers once both sides have said it
            data = b""
        self.notified = not data
        self.heard += data
        return data

    def sendall(self, data: bytes) -> None:
        self.tls.write(data)
        self._flush()

    def setsockopt(self, *option: Any) -> None:
        self.sock.setsockopt(*option)

    def shutdown(self, how: int) -> None:
        """The end of TCP, in that direction."""
        self.sock.shutdown(how)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def records(self, data: bytes) -> bytes:
        """The ciphertext of `data`, not sent."""
        self.tls.write(data)
        return self._outgoing.read()

    def notify(self) -> None:
        """Send a close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self._flush()

    def close(self) -> None:
        """The end of TCP, without a close_notify."""
        self.sock.close()


def tls_accept(listener: Any, context: ssl.SSLContext) -> Wire:
    """A server's side of TCP, before the TLS handshake."""
    sock, _ = listener.accept()
    sock.settimeout(world.PATIENCE)
    return Wire(sock, context, server_side=True)


def tls_peer(listener: Any, context: ssl.SSLContext, extra: bytes = b"") -> Peer:
    """A server that accepted, shook hands twice, and sent `extra` right behind the 101."""
    peer = Peer(tls_accept(listener, context).handshake(), client=False)
    peer.head = peer.read_head()
    peer.answer(extra=extra)
    return peer


def tls_client(server: Any, context: ssl.SSLContext, room: int | None = None) -> Peer:
    """A client of a syncws server."""
    sock = world.raw_connection(server.address(), room)
    wire = Wire(sock, context, server_side=False, host="127.0.0.1").handshake()
    peer = Peer(wire, client=True)
    wire.sendall(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    peer.head = peer.read_head()
    assert peer.head.startswith(b"HTTP/1.1 101 "), peer.head
    return peer


def server_context(certificate: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def expired(authority: Any) -> ssl.SSLContext:
    return server_context(authority.issue_cert("127.0.0.1", not_before=PAST, not_after=PAST.replace(year=2002)))


def for_another_host(authority: Any) -> ssl.SSLContext:
    return server_context(authority.issue_cert("example.org", "127.0.0.2"))


def of_a_stranger(authority: Any) -> ssl.SSLContext:
    return server_context(CA().issue_cert("127.0.0.1"))


def self_signed(authority: Any) -> ssl.SSLContext:
    if trustme is None:
        pytest.skip("no trustme")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = builder.add_extension(x509.SubjectAlternativeName([address]), False).sign(key, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return server_context(trustme.LeafCert(key.private_bytes(*form), pem, []))


def only(version: ssl.TLSVersion, context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = version
    return context


@contextlib.contextmanager
def connected(server_tls: Any, client_tls: Any, *, extra: bytes = b"", **options: Any) -> Any:
    """An open client, and the peer that is its server."""
    with world.raw_listener() as listener:
        accepting = world.spawn(tls_peer, listener, server_tls, extra)
        ws = world.Socket(f"wss://127.0.0.1:{listener.getsockname()[1]}/", ssl=client_tls, **options)
        peer = accepting.result()
        try:
            yield ws, peer
        finally:
            ws.terminate()
            peer.close()
