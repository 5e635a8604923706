"""The two twins of the hot functions, in Python and compiled, for tests that run on both in one process."""

from __future__ import annotations

import gc
import importlib.util
import tracemalloc
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from syncws import frames, pure, receiver

try:
    from syncws import _frames as compiled
except ImportError:
    compiled: Any = None

HOT = ("decode", "encode", "mask", "Gatherer")

needs_compiled = pytest.mark.skipif(compiled is None, reason="the compiled core is not built")
each_twin = pytest.mark.parametrize(
    "twin", [pytest.param(pure, id="pure"), pytest.param(compiled, id="compiled", marks=needs_compiled)]
)


def memory_of(action: Any) -> tuple[int, int]:
    """Bytes held after the action, and at its worst."""
    gc.collect()
    tracemalloc.start()
    kept = action()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return held, peak


def receiver_over(twin: Any) -> ModuleType:
    """A second copy of the receiver's module, bound to this twin."""
    spec = importlib.util.find_spec(receiver.__name__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    # It takes the functions from `frames` when it is run.
    with mock.patch.multiple(frames, **{name: getattr(twin, name) for name in HOT}):
        spec.loader.exec_module(copy)
    return copy
