"""Progress of long work on stderr: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from provisioner.progress import Step, worded
from provisioner.specs.units import format_seconds, printable

_FIRST_S: Final = 1.0  # work that takes less says nothing
_NEXT_S: Final = 5.0
_REDRAW_S: Final = 0.1
_BAR: Final = 20
_COLUMNS: Final = 80
_CLEAR: Final = "\r\x1b[K"


@contextmanager
def on_stderr(before: str = "") -> Iterator[Callable[[str], None]]:
    """The display of the progress of long work, each text with the words ``before`` it.

    On a terminal one line, cleared at the end: the text, after a bar with the time left if it is a ``Step``. Elsewhere
    the text as a line of its own, at most every five seconds.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    pace = Pace()
    drawn = False
    next_s = monotonic() + _FIRST_S

    def tell(text: str) -> None:
        nonlocal drawn, next_s
        text = worded(text, before)
        now_s = monotonic()
        left_s = pace.left_s(text, now_s)
        if sys.stderr is None or now_s < next_s:
            return
        next_s = now_s + (_REDRAW_S if terminal else _NEXT_S)
        drawn = terminal
        _write(_CLEAR + line(text, left_s, _columns() - 1) if terminal else f"{printable(text)}\n")

    try:
        yield tell
    finally:
        if drawn:
            _write(_CLEAR)


class Pace:
    """The pace of steps since the first one, or since the share done last fell."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._last = 0.0

    def left_s(self, text: str, now_s: float) -> float | None:
        """The time left in s at this pace; None if unknown, or if the text has it. ``now_s`` is a clock's."""
        if not isinstance(text, Step):
            return None
        share = text.share
        if self._first is None or share < self._last:
            self._first = (now_s, share)
        self._last = share
        began_s, before = self._first
        if text.left_s is not None or not before < share < 1.0:
            return None
        return (now_s - began_s) / (share - before) * (1.0 - share)


def line(text: str, left_s: float | None, columns: int) -> str:
    """A line of at most ``columns`` columns: bar, time left in s and text, or the text alone.

    >>> line(Step("3 of 4 points", 3, 4), 8.04, 48)
    '[############....]  75 %, 8 s left  3 of 4 po...'
    """
    words = printable(" ".join(text.split()))
    if isinstance(text, Step):
        size = min(_BAR, columns // 3)
        full = int(text.share * size)
        left = "" if left_s is None else f", {format_seconds(float(f'{left_s:.2g}'))} left"
        words = f"[{'#' * full}{'.' * (size - full)}] {100 * text.share:3.0f} %{left}  {words}"
    return words if len(words) <= columns else f"{words[: columns - 3]}..."


def _columns() -> int:
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    return _COLUMNS


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads stderr
        sys.stderr.write(text)
        sys.stderr.flush()
