"""The test suite's worlds, certificates and rules. See world.py for the modes."""

from __future__ import annotations

import os
import sys

_MODE = os.environ.get("SYNCWS_TEST_MODE", "threads")

# Before anything else is imported: what gevent patches is what the rest then sees.
if _MODE == "patched":
    import gevent.monkey

    gevent.monkey.patch_all()
elif _MODE == "patched-late":
    import gevent.monkey

    import syncws  # noqa: F401  (the point of this mode is that it comes first)

    gevent.monkey.patch_all()

import gc
import logging
import ssl
from pathlib import Path
from typing import Any

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("stress_wire", "stress_rounds", "stress_calls")

from stress_fixtures import arena, certificates, hectic, lag, tls  # noqa: F401  (they are fixtures)

hypothesis.settings.register_profile("suite", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def authority() -> Any:
    """A certificate authority of our own."""
    from authority import CA

    return CA()


@pytest.fixture(scope="session")
def server_tls(authority: Any) -> ssl.SSLContext:
    """The TLS context of a server at localhost and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: Any) -> ssl.SSLContext:
    from world import client_context

    return client_context(authority)


@pytest.fixture
def quick_ticks() -> Any:
    """The attendant looks around every 0.05 s, not 0.2: for tests about what it does then. Call it to end that."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("syncws.") and hasattr(module, "TICK"):
                patch.setattr(module, "TICK", 0.05)
        patch.setattr("syncws.dispatch.HESITATION", 0.05)
        yield patch.undo


@pytest.fixture
def unattended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attendant minds no connection, and helps nobody out; its timers go on. Nor does looking for signals."""
    from syncws import transport
    from syncws.attendant import Attendant

    monkeypatch.setattr(transport, "hears_signals", lambda: False)
    monkeypatch.setattr(Attendant, "_tend", lambda self, charge, ticked: self._watched.add(charge))


@pytest.fixture(autouse=True)
def no_surprises(caplog: pytest.LogCaptureFixture) -> Any:
    """No test may leave an error in our log that it does not ask for, nor garbage that warns later."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    errors = [record for record in errors if record.name == "syncws"]
    expected = getattr(caplog, "expected_errors", 0)
    assert expected is None or len(errors) == expected, [record.getMessage() for record in errors]


@pytest.fixture(autouse=True, scope="module")
def no_garbage() -> Any:
    yield
    gc.collect()
