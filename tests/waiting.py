"""Waiting for another process or thread; with ``tests/counting.py`` in place of clocks in tests."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

PAUSE_S = 0.005


def wait_until(happened: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Return as soon as something has happened; raise ``TimeoutError`` if it has not after a long time."""
    until_s = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > until_s:
            raise TimeoutError(f"not after {timeout_s:g} s")
        time.sleep(PAUSE_S)


class Clock:
    """The time that a process takes from now on, without the time in which others have the processors."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._since_s, self._had_waited_s = time.monotonic(), self._waited_s()

    def seconds(self) -> float:
        """The time so far."""
        return time.monotonic() - self._since_s - max(0.0, self._waited_s() - self._had_waited_s)

    def _waited_s(self) -> float:
        """The time that the process waited for a processor: the most of its threads; 0 if the system does not tell."""
        waits = [0]
        for file in Path(f"/proc/{self._process}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # the thread has ended
                waits.append(int(file.read_text().split()[1]))
        return max(waits) / 1e9
