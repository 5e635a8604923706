"""A certificate authority: trustme's, or where that cannot be had the same by the openssl command."""

from __future__ import annotations

import ipaddress
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

try:
    from trustme import CA
except ImportError:

    def _run(*command: object) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("neither trustme nor openssl")
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)

    class _Pem:
        def __init__(self, path: Path) -> None:
            self._path = path

        def bytes(self) -> Any:
            return self._path.read_bytes()

        def write_to_path(self, path: Any) -> None:
            Path(path).write_bytes(self._path.read_bytes())

    class _Certificate:
        def __init__(self, both: Path) -> None:
            self.private_key_and_cert_chain_pem = _Pem(both)
            self._both = both

        @property
        def private_key_pem(self) -> _Pem:
            return self.private_key_and_cert_chain_pem

        @property
        def cert_chain_pems(self) -> list[_Pem]:
            return [self.private_key_and_cert_chain_pem]

        def configure_cert(self, context: ssl.SSLContext) -> None:
            context.load_cert_chain(self._both)

    class CA:  # type: ignore[no-redef]
        """The part of `trustme.CA` that the tests use; certificates that have expired are not made."""

        def __init__(self) -> None:
            self._folder = Path(tempfile.mkdtemp(prefix="syncws-authority-"))
            self._issued = 0
            self._key, self._certificate = self._folder / "ca.key", self._folder / "ca.pem"
            _run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2,
                 "-subj", "/CN=the tests", "-keyout", self._key, "-out", self._certificate)  # fmt: skip

        def issue_cert(self, *names: str, **dates: Any) -> _Certificate:
            if dates:
                pytest.skip("the openssl command makes no certificates of the past")
            self._issued += 1
            key, request, certificate, both, extensions = (
                self._folder / f"{self._issued}.{kind}" for kind in ("key", "csr", "pem", "both", "ext")
            )
            extensions.write_text(f"subjectAltName={','.join(map(_alternative, names))}\n")
            _run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-subj", "/CN=a test", "-keyout", key, "-out", request)  # fmt: skip
            _run("x509", "-req", "-in", request, "-CA", self._certificate, "-CAkey", self._key, "-CAcreateserial",
                 "-days", 2, "-extfile", extensions, "-out", certificate)  # fmt: skip
            both.write_bytes(key.read_bytes() + certificate.read_bytes())
            return _Certificate(both)

        def configure_trust(self, context: ssl.SSLContext) -> None:
            context.load_verify_locations(self._certificate)

    def _alternative(name: str) -> str:
        try:
            return f"IP:{ipaddress.ip_address(name)}"
        except ValueError:
            return f"DNS:{name}"

