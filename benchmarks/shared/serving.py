"""What the server programs have in common: arguments, saying the port, and whom a broadcast goes to."""

from __future__ import annotations

import argparse
from typing import Any

LARGEST = 64 << 20  # bytes of one message that every server must take
CONTROL = "/control"  # who connects there names a length, and a text that long goes to all others


def options(description: str | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--job", choices=("echo", "broadcast"), default="echo")
    parser.add_argument("--compress", action="store_true")
    parser.add_argument("--size", type=int, default=32, help="bytes of each message (for those that parse nothing)")
    parser.add_argument("--cpu", type=int, help="syncws: the server's argument of that name")
    parser.add_argument("--gevent", action="store_true", help="syncws: on greenlets")
    parser.add_argument("--zlib-ng", action="store_true", help="syncws: with the library of that name")
    return parser.parse_args()


def ready(port: Any) -> None:
    """Tell the benchmark where to connect."""
    print(port, flush=True)


def text(length: str) -> str:
    """What a broadcast says."""
    return "x" * int(length)
