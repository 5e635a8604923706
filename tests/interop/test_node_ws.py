"""syncws and Node's `ws`, both as client and as server; see exchanges.py for what is done with every peer."""

from __future__ import annotations

import pytest
import world
from exchanges import MESSAGES, TEXT_OF_3_MB, Exchanges, only
from link import THEY_CONNECT, Case, linked
from remote import PeerError

from syncws import Deflate

# The first test may have to install `ws`; what can hang in a test has limits of its own.
pytestmark = pytest.mark.timeout(200)


class TestNodeWs(Exchanges):
    program = "node_ws_peer.js"

    @pytest.mark.parametrize("side", ["server_max_window_bits", "client_max_window_bits"])
    def test_windows_of_8_bits(self, peer, who, side):
        """The smallest of RFC 7692, which zlib compresses with in name only."""
        for case in (Case(Deflate(threshold=0, **{side: 8}), {}), Case(Deflate(threshold=0), {side: 8})):
            with linked(peer, who, case) as link:
                link.ours_arrive(*MESSAGES, TEXT_OF_3_MB[:200_000])
                link.theirs_arrive(*MESSAGES, TEXT_OF_3_MB[:200_000])

    @only("plain", "deflate")
    def test_version_8_of_the_protocol(self, peer, who, case):
        with linked(peer, who, case, version=8) as link:
            assert link.ws.protocol_version == 8
            assert who == THEY_CONNECT or link.agreed["version"] == "8"
            link.ours_arrive(*MESSAGES)
            link.theirs_arrive(*MESSAGES)
            link.close_from_here(3000, "done")

    def test_the_origin_of_a_page_that_speaks_version_8_is_looked_at(self, peer):
        good, seen = "https://good.example", []
        arguments = {"compression": None, "protocols": None, "version": 8}
        options = {"origins": [good], "verify_client": lambda info: seen.append(info.origin) or True}
        with world.serving(world.echo, **options) as server:
            with pytest.raises(PeerError, match="403"):
                peer.call("connect", url=world.url_of(server), origin="https://evil.example", **arguments)
            peer.call("connect", url=world.url_of(server), origin=good, **arguments)
            assert peer.call("close", code=1000, reason="") == [1000, ""]
        assert seen == [good]

    def test_their_close_without_a_code_arrives(self, peer, who):
        with linked(peer, who) as link:
            link.close_from_there(1005, "")

    def test_the_loss_of_the_connection_is_1006_here(self, peer, who):
        with linked(peer, who) as link:
            peer.call("terminate")
            assert link.ws.wait_closed(world.PATIENCE)
            assert (link.ws.close_code, link.ws.close_reason) == (1006, "")

    def test_the_loss_of_the_connection_is_1006_there(self, peer, who):
        with linked(peer, who) as link:
            link.ws.terminate()
            assert peer.call("closed") == [1006, ""]
