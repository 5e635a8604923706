"""The fixtures of the stress tests; modules that use them import them by name."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
import stress_rounds


@pytest.fixture(scope="session")
def certificates() -> Any:
    """TLS contexts of a server and of a client that trusts it."""
    return stress_rounds.certificates()


@pytest.fixture
def hectic(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Threads change places all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    # One that is interrupted on purpose may have come to its end just then.
    monkeypatch.setattr(threading, "excepthook", _except_interrupts(threading.excepthook))
    yield
    sys.setswitchinterval(before)


def _except_interrupts(hook: Any) -> Any:
    return lambda args: None if args.exc_type is KeyboardInterrupt else hook(args)


@pytest.fixture
def tls(stream: str, request: pytest.FixtureRequest) -> Any:
    """Contexts, or None for plain TCP."""
    return request.getfixturevalue("certificates") if stream == "tls" else None


@pytest.fixture
def lag() -> Any:
    with stress_rounds.Lag() as lag:
        yield lag


@pytest.fixture
def arena(side: str, tls: Any) -> Any:
    """A function that makes an `Arena` of this side and stream."""

    def make(**options: Any) -> stress_rounds.Arena:
        return stress_rounds.Arena(side, tls, **options)

    return make
