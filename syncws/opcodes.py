"""The numbers in the header of a frame: opcodes, flags, marks of a longer length.

Rank 1: names for bytes, used by `frames` and its hot half, `pure`.
Source: RFC 6455 section 5.2 (base framing), section 5.5 (control frames).
"""

from __future__ import annotations

from typing import Final

CONTINUE: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

MAX_CONTROL_PAYLOAD: Final = 125

BytesLike = bytes | bytearray | memoryview

# The first byte.
FIN: Final = 0x80
RSV1: Final = 0x40
RSV23: Final = 0x30
OPCODE: Final = 0x0F

# The second byte: the mask bit and a length, or one of two marks for a length in 16 or 64 bits behind it.
MASKED: Final = 0x80
LENGTH: Final = 0x7F
LENGTH_16: Final = 126
LENGTH_64: Final = 127

KEY_SIZE: Final = 4
