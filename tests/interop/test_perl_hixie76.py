"""syncws and a client of hixie-76 that somebody else wrote: Perl's Protocol::WebSocket."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import world
from remote import PEERS

CONNECTIONS = 50  # each has other keys
TEXTS = ["a", "grüße, 世界 🎉", "x" * 125, "é" * 70_000, "", "the end"]


@pytest.fixture(scope="module")
def perl() -> str:
    """The interpreter, if it has the library."""
    program = shutil.which("perl")
    if program is None or subprocess.run([program, "-MProtocol::WebSocket", "-e1"], capture_output=True).returncode:
        pytest.skip("perl and its Protocol::WebSocket (libprotocol-websocket-perl) are not here")
    return program


def test_it_is_served_from_the_handshake_to_the_end(perl: str, tmp_path: Path) -> None:
    seen: list[Any] = []
    closes: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        seen.append((ws.protocol_version, request.path, request.query))
        ws.onclose = lambda event: closes.append((event.code, event.reason, event.wasClean))
        world.echo(ws, request)

    (tmp_path / "in").write_text("".join(text.encode().hex() + "\n" for text in TEXTS), encoding="ascii")
    with world.serving(accept, legacy=True) as server:
        command = [perl, str(PEERS / "hixie76_peer.pl"), str(server.address()[1]), str(CONNECTIONS)]
        with (tmp_path / "in").open() as given, (tmp_path / "out").open("w") as got:
            process = subprocess.Popen(command, stdin=given, stdout=got)
        try:
            world.eventually(lambda: process.poll() is not None, 40)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0
        world.eventually(lambda: len(closes) == CONNECTIONS)
    lines = (tmp_path / "out").read_text(encoding="ascii").split("\n")
    assert lines == [*[text.encode().hex() for text in TEXTS], "ended"] * CONNECTIONS + [""]
    assert seen == [("hixie-76", "/a", {"b": ["c"]})] * CONNECTIONS
    assert closes == [(1000, "", True)] * CONNECTIONS
