"""A lock at whose taking and giving back something happens: to be in the gap between two steps of another thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Interposed:
    """A lock, before each taking of which something happens, or after each giving back."""

    def __init__(
        self, lock: Any, *, before: Callable[[], object] | None = None, after: Callable[[], object] | None = None
    ) -> None:
        self._lock = lock
        self._before = before or (lambda: None)
        self._after = after or (lambda: None)

    def __enter__(self) -> Any:
        self._before()
        return self._lock.__enter__()

    def __exit__(self, *error: Any) -> Any:
        self._lock.__exit__(*error)
        self._after()

    def locked(self) -> bool:
        return True  # the compiled path is not for us
