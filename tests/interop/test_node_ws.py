"""syncws and Node's `ws`, both as client and as server; see exchanges.py for what is done with every peer."""

from __future__ import annotations

import pytest
import world
from exchanges import MESSAGES, TEXT_OF_3_MB, Exchanges
from link import Case, linked

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
