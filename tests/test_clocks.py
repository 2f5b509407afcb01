"""No test looks at a clock: a busy machine is slow. Tests count work; benchmarks print times."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CLOCKS = frozenset({"clock_gettime", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns"})
MAY_LOOK = ("benchmarks", "questions", "waiting.py")
"""Files that print times, or wait for another process, without an assertion."""


def clocks(source: str) -> Iterator[str]:
    """Clocks of module ``time`` that a source reads or imports.

    >>> list(clocks("import time; from time import monotonic as now; time.sleep(1); assert time.perf_counter() < 3"))
    ['monotonic', 'perf_counter']
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="time"):
                yield from (alias.name for alias in node.names if alias.name in CLOCKS)
            case ast.Attribute(value=ast.Name(id="time"), attr=name) if name in CLOCKS:
                yield name


def test_no_test_looks_at_a_clock() -> None:
    found = {
        path.relative_to(TESTS).as_posix(): names
        for path in sorted(TESTS.rglob("*.py"))
        if path.relative_to(TESTS).parts[0] not in MAY_LOOK
        if (names := sorted(clocks(path.read_text(encoding="utf-8"))))
    }
    assert not found
