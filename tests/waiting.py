"""Waiting for another process or thread; with ``tests/counting.py`` in place of clocks in tests."""

import time
from collections.abc import Callable

PAUSE_S = 0.005


def wait_until(happened: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Return as soon as something has happened; raise ``TimeoutError`` if it has not after a long time."""
    until_s = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > until_s:
            raise TimeoutError(f"not after {timeout_s:g} s")
        time.sleep(PAUSE_S)
