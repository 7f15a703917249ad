"""Each seeded fault still finds its line and its test; that the test catches it, ``python tests/mutants.py`` shows."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
MUTANTS = runpy.run_path(str(ROOT / "tests" / "mutants.py"))["MUTANTS"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_each_fault_finds_its_lines_once_and_its_test(mutant: Any) -> None:
    source = (ROOT / mutant.module).read_text(encoding="utf-8")
    faulty = mutant.applied(source)
    assert faulty != source
    compile(faulty, mutant.module, "exec")
    file, name = mutant.test.split("::")
    tests = re.findall(r"^(?:async )?def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert [test for test in tests if name in test], f"{file} has no test {name}"


def test_a_line_that_is_gone_is_said() -> None:
    with pytest.raises(ValueError, match=re.escape(f"{MUTANTS[0].module} has this 0 times")):
        MUTANTS[0].applied("")
