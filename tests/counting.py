"""Work done, counted: what a test asserts in place of the time that the work takes."""

import sys
from collections.abc import Callable
from typing import Any


def calls_of(work: Callable[[], object]) -> int:
    """Number of functions that some work calls, those of Python and those of C, in this thread.

    A loop over the elements of an array shows as a number that grows with the array.

    >>> calls_of(lambda: [abs(k) for k in range(10)]) - calls_of(lambda: [abs(k) for k in range(7)])
    3
    """
    count = 0

    def seen(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
