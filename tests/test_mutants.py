"""The list of mutants fits the code: each can be put in, and names tests that are there. Run by tests/mutants.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("mutants_script", HERE / "mutants.py")
mutants = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mutants)

SOURCES = mutants.sources_of(HERE.parent / "syncws")

each_mutant = pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)


@each_mutant
def test_it_can_be_put_in(mutant):
    changed, misfit = {}, None
    try:
        changed = mutants.mutated(mutant, SOURCES)
    except mutants.Unfit as error:
        misfit = f"the mutant {mutant.name} no longer fits the code: adapt it in tests/mutants/catalogue.py.\n{error}"
    if misfit:
        pytest.fail(misfit, pytrace=False)
    for file, source in changed.items():
        assert source != SOURCES[file]
        if file.endswith(".py"):
            compile(source, file, "exec")


@each_mutant
def test_its_tests_are_there(mutant):
    files = [word for word in mutant.tests.split() if word.endswith(".py")]
    assert files
    assert all((HERE / file).is_file() for file in files)


def test_each_mutant_has_its_row_in_the_documents():
    page = (HERE.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")]
    assert [mutant.name for mutant in mutants.MUTANTS] == [name for name in rows if name in NAMES]


NAMES = {mutant.name for mutant in mutants.MUTANTS}


@pytest.mark.parametrize(
    ("where", "old", "new", "expected"),
    [
        ("f", "a and b", "a", "def f():\n    if a and c:\n        pass\n    return a"),
        ("f", "return (a\n and b)", "x()\ny()", "def f():\n    if a and c:\n        pass\n    x()\n    y()"),
        ("f", "if a and c:\n    pass", "pass", "def f():\n    pass\n    return a and b"),
    ],
)
def test_parts_are_found_however_they_are_laid_out(where, old, new, expected):
    source = "def f():\n    if (a and\n         c):\n        pass  # nothing\n    return a and b\n"
    mutant = mutants.Mutant("m", "", (mutants.Edit(where, old, new),), "")
    assert mutants.mutated(mutant, {"module.py": source}) == {"module.py": expected + "\n"}


@pytest.mark.parametrize(("where", "old"), [("f", "a"), ("f", "d"), ("g", "b"), ("C.h", "b")])
def test_what_is_not_there_exactly_once_does_not_fit(where, old):
    source = "def f():\n    return a and b or a\nclass C:\n    def h(self): pass\n"
    mutant = mutants.Mutant("m", "", (mutants.Edit(where, old, "1"),), "")
    with pytest.raises(mutants.Unfit, match=where):
        mutants.mutated(mutant, {"module.py": source})
