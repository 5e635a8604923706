"""Everything at once: many threads (greenlets) on one socket, whatever the peer does. No hang, no torn frame.

Few rounds by default; SYNCWS_STRESS=full for thousands (then marked `stress`: -m stress). See stress_rounds.
"""

from __future__ import annotations

import pytest
import stress_calls
import stress_rounds
from stress_rounds import repeated, rounds

pytestmark = stress_rounds.marks()

each_side = pytest.mark.parametrize("side", ["client", "server"])
OPTIONS = [{}, {"compression": True}, {"buffers": stress_rounds.SMALL}]
each_stream = pytest.mark.parametrize("stream", ["tcp", "tls"])


def share(stream: str) -> int:
    """Of all rounds, those of one side: TLS takes longer."""
    return rounds(6, 1000) if stream == "tcp" else rounds(2, 250)


@each_stream
@each_side
@pytest.mark.parametrize("options", OPTIONS, ids=["", "deflate", "small"])
def test_any_calls_at_once_end_in_one_close_with_the_right_code(arena, side, stream, options):
    count = share(stream) // (1 if not options else 2)
    name = f"calls {side} {stream} {sorted(options)}"
    with arena(**options) as place:
        for number in range(count):
            with repeated(name, number, count) as rng:
                stress_calls.play(place, rng, None, rng.choice((None, "close", "close", "terminate")))
        place.closed_once()


@each_stream
@each_side
@pytest.mark.parametrize("options", [{}, {"buffers": stress_rounds.SMALL}], ids=["", "small"])
def test_whatever_the_peer_does_meanwhile(arena, side, stream, options):
    count = 2 * share(stream) // (1 if not options else 2)
    name = f"evil {side} {stream} {sorted(options)}"
    with arena(**options) as place:
        for number in range(count):
            with repeated(name, number, count) as rng:
                evil = ("close", "end", "reset", "garbage", "cut")[number % 5]
                stress_calls.play(place, rng, evil, rng.choice((None, None, "close")))
        place.closed_once()
