"""What long work is doing, told on stderr: one line that changes on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

_WIDTH: Final = 78
_FIRST_S: Final = 1.0  # work that takes less says nothing
_NEXT_S: Final = 5.0


@contextmanager
def on_terminal() -> Iterator[Callable[[str], None]]:
    """One line of a terminal's stderr that is cleared in the end; nothing where stderr is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda text: None
        return

    def show(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text[:_WIDTH]}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


@contextmanager
def on_stderr() -> Iterator[Callable[[str], None]]:
    """The line of a terminal, or a line at the first second and every five where stderr is no terminal."""
    if sys.stderr is None or sys.stderr.isatty():
        with on_terminal() as show:
            yield show
        return
    next_s = monotonic() + _FIRST_S

    def tell(text: str) -> None:
        nonlocal next_s
        if monotonic() >= next_s:
            with contextlib.suppress(OSError):  # nobody reads stderr
                print(text, file=sys.stderr, flush=True)
            next_s = monotonic() + _NEXT_S

    yield tell
