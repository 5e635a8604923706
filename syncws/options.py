"""The options of one connection: names, defaults and limits, in one record that is passed whole.

Rank 3 (it names `Deflate`). What `Socket` and `Server` have in common stands here and nowhere else.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from .deflate import Deflate
from .events import check_runs

_MOST_SECONDS = 1e18  # what a float, and the clock, can still tell apart

#: what a binary message is handed out as
BINARY_TYPES = ("bytes", "bytearray", "memoryview", "fragments")


class ConnectionOptions(TypedDict, total=False):
    """The keyword arguments that make an `Options`, for type checkers."""

    handshake_timeout: float | None
    close_timeout: float
    compression: bool | Deflate
    max_payload: int
    max_fragments: int
    max_queue: int
    ping_interval: float | None
    ping_timeout: float | None
    auto_pong: bool
    skip_utf8_validation: bool


@dataclass(frozen=True)
class Options:
    """See the documentation of `Socket`. Times are seconds, sizes bytes."""

    handshake_timeout: float | None = 10.0
    close_timeout: float = 30.0
    compression: bool | Deflate = True
    max_payload: int = 64 * 1024 * 1024
    max_fragments: int = 131072
    max_queue: int = 16
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    auto_pong: bool = True
    skip_utf8_validation: bool = False
    generate_mask: Callable[[], bytes] | None = None

    def __post_init__(self) -> None:
        for name in ("handshake_timeout", "ping_interval", "ping_timeout"):
            check_seconds(name, getattr(self, name), optional=True)
        check_seconds("close_timeout", self.close_timeout, zero=True)
        object.__setattr__(self, "max_payload", check_limit("max_payload", self.max_payload))
        check_count("max_fragments", self.max_fragments)
        check_count("max_queue", self.max_queue, least=1)
        check_bool("auto_pong", self.auto_pong)
        check_bool("skip_utf8_validation", self.skip_utf8_validation)
        if not isinstance(self.compression, (bool, Deflate)):
            raise TypeError(f"compression must be True, False or a Deflate, not {self.compression!r}")
        if self.generate_mask is not None and not callable(self.generate_mask):
            raise TypeError(f"generate_mask must be callable, not {self.generate_mask!r}")
        check_runs("generate_mask", self.generate_mask)

    @property
    def deflate(self) -> Deflate | None:
        """The parameters of compression, None if it is off."""
        if isinstance(self.compression, Deflate):
            return self.compression
        return Deflate() if self.compression else None

    @classmethod
    def of(cls, caller: str, given: Any, *, server: bool = False) -> Options:
        """Options from keyword arguments. TypeError names the first that `caller` does not know.

        `server`: which masks nothing.
        """
        known = {field.name for field in fields(cls)} - ({"generate_mask"} if server else set())
        for name in given:
            if name not in known:
                raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}")
        return cls(**given)


def check_binary_type(value: str) -> str:
    """ValueError unless `value` is one of `BINARY_TYPES`."""
    if value not in BINARY_TYPES:
        raise ValueError(f"binaryType must be one of {', '.join(BINARY_TYPES)}, not {value!r}")
    return value


def check_timeout(timeout: float | None) -> None:
    """TypeError or ValueError unless `timeout` is None or a number of seconds, at least 0."""
    check_seconds("timeout", timeout, optional=True, zero=True)


def check_seconds(name: str, value: Any, *, optional: bool = False, zero: bool = False) -> None:
    """TypeError or ValueError unless `value` is a number of seconds: more than 0, or what else is allowed."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds{' or None' if optional else ''}, not {value!r}")
    if isinstance(value, int) and value > _MOST_SECONDS:
        raise ValueError(f"{name} must be at most {_MOST_SECONDS:g} seconds, or math.inf, not {value!r:.40}")
    if math.isnan(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} must be {'at least' if zero else 'more than'} 0 seconds, not {value!r}")


def check_bool(name: str, value: Any) -> bool:
    """`value`; TypeError unless it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def check_limit(name: str, value: Any) -> int:
    """As `check_count`, for sizes of what can be in memory; what is larger means no limit, too."""
    return min(check_count(name, value), sys.maxsize - 1)


def check_count(name: str, value: Any, *, least: int = 0) -> int:
    """`value`; TypeError or ValueError unless it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")
    return value
