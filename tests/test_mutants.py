"""The list of mutants fits the code: each can be put in, and names tests that are there. Run by tests/mutants.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("mutants_script", HERE / "mutants.py")
mutants = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mutants)

each_mutant = pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)


@each_mutant
def test_it_can_be_put_in(mutant):
    sources = {}
    for module, old, new in mutant.edits:
        source = sources.get(module) or (HERE.parent / "syncws" / f"{module}.py").read_text(encoding="utf-8")
        sources[module] = mutants.mutated(source, old, new)
        assert old != new
    for module, source in sources.items():
        compile(source, module, "exec")


@each_mutant
def test_its_tests_are_there(mutant):
    files = [word for word in mutant.tests.split() if word.endswith(".py")]
    assert files
    assert all((HERE / file).is_file() for file in files)
